// The watch page. It follows the recording (/v/{token}/info) until there is something to play, starts the engine, and
// keeps `data-state` on <html> true: loading | processing | playing | paused | ended | failed.

import { $, clock, freshenTimes, percent } from "./format.js";
import { Steering } from "./player-abr.js";
import { Beacon } from "./player-beacon.js";
import { Controls } from "./player-controls.js";
import { createEngine } from "./player-engine.js";
import { cover, paintHead, paintLadder, paintMill } from "./player-progress.js";
import { Token } from "./player-token.js";
import { Viewing } from "./player-viewing.js";

const POLL_MS = 2000;
const WAITING = new Set(["pending", "processing", "idle", "starting"]);
const FINAL = new Set(["ready", "failed", "deleted"]);

const root = $("player");
const page = root.dataset;
const video = $("video");
const isLive = page.kind === "livestream";
const token = new Token({ masterUrl: page.master, renewUrl: page.renew, expiresAt: page.expires });
const steering = isLive ? null : new Steering(video, token, page.info.replace(/info$/, "abr/"), () => controls.paintQuality());
const controls = new Controls(root, video, { isLive, steering, findStoryboard, rewrite: (url) => token.rewrite(url) });
window.reelmill = { video, hls: null, token };
const beacon = isLive ? new Beacon(video, token, page.info.replace(/info$/, "viewers/track"), () => engine) : null;

const viewing = isLive ? null : new Viewing(video, {
  url: (name) => token.rewrite(page.info.replace(/info$/, name)),
  engine: () => engine,
  // What is there of a recording that is still made is not all of it.
  duration: () => Math.max(info.duration_seconds || 0, Number.isFinite(video.duration) ? video.duration : 0),
});

const query = new URLSearchParams(location.search);
const startAt = Number(query.get("t")) || 0;

let engine = null;
let starting = false;
let info = { status: page.status, title: page.title, duration_seconds: Number(page.duration) || 0 };
let misses = 0;
let rungs = -1;
let broken = false;
let troubled = false;

const state = (s) => { if (document.documentElement.dataset.state !== s) document.documentElement.dataset.state = s; };
const notice = (text) => { $("notice").textContent = text; $("notice").hidden = !text; };

function fail(title, text, again) {
  broken = true;
  state("failed");
  $("spinner").hidden = true;
  video.pause();
  controls.hide();
  const action = again === "reload" ? ["Reload the page", () => location.reload()] : again ? ["Try again", retry] : undefined;
  cover({ tone: "failed", icon: "s-failed", title, text, action });
}

async function retry() {
  broken = false;
  cover(null);
  state("loading");
  $("spinner").hidden = false;
  if (engine) {
    controls.show();
    await engine.retry();
  } else follow();
}

/** The storyboard may come a moment after the recording is ready, when the page asks for nothing any more. */
async function findStoryboard() {
  if (page.storyboard) return new URL(page.storyboard, location.href).href;
  const at = token.rewrite(page.info);
  const answer = await fetch(at, { headers: { accept: "application/json" }, cache: "no-store" });
  const url = answer.ok ? (await answer.json()).storyboard_url : null;
  return url ? new URL(url, answer.url).href : null;
}

// ---- following the recording

async function readInfo() {
  const answer = await fetch(token.rewrite(page.info), { headers: { accept: "application/json" }, cache: "no-store" });
  if (answer.ok) return answer.json();
  if (answer.status === 401 || answer.status === 403) {
    if (await token.renew()) return null;
    fail("This link has ended", "Reload the page to get a new one.", "reload");
  } else if (answer.status === 404 || answer.status === 410) {
    fail("This recording is not there", "It may have been deleted.", false);
  }
  if (broken) return null;
  throw new Error(String(answer.status));
}

async function follow() {
  try {
    const fresh = await readInfo();
    misses = 0;
    if (fresh) info = { ...info, ...fresh };
    if (!broken || WAITING.has(info.status)) paint();
  } catch {
    misses += 1;
    if (misses === 3 && !engine) cover({ tone: "waiting", icon: "mark", title: "The server does not answer", text: "Trying again every few seconds." });
  }
  if (broken && !engine) return;
  if (!FINAL.has(info.status)) setTimeout(follow, misses > 2 ? POLL_MS * 2 : POLL_MS);
}

function paint() {
  paintHead(info);
  paintMill(info);
  paintLadder(info);
  controls.knownDuration = info.duration_seconds || 0;
  if (info.status === "failed") {
    if (engine) return notice(info.error?.message ? `Milling stopped: ${info.error.message}` : "Milling stopped before it was done.");
    return fail(isLive ? "This broadcast failed" : "This recording could not be made", info.error?.message || "The farm gave no reason.", false);
  }
  if (WAITING.has(info.status)) {
    if (engine) return; // asked to be made again: what is there goes on playing
    state("processing");
    $("spinner").hidden = true;
    cover(isLive ? { tone: "waiting", icon: "mark", title: info.status === "starting" ? "Starting …" : "Not on air", text: "This page starts playing when the broadcast does." }
      : info.status === "pending" && info.progress == null ? { tone: "waiting", icon: "mark", title: "Nothing has been made of it yet", text: "It plays once a transcode job is through.", bar: null }
      : info.status === "pending" ? { tone: "waiting", icon: "mark", title: "Waiting for a free worker", text: info.phase || "It starts by itself.", bar: null }
        : { tone: "waiting", icon: "mark", title: Number.isFinite(info.progress) ? `On the mill, ${percent(info.progress)}` : "On the mill", text: info.phase || "It can be watched long before the last rendition is done.", bar: info.progress ?? null });
    return;
  }
  if (!engine && !starting) start(document.documentElement.dataset.state === "processing" || query.get("autoplay") === "1");
  else if (engine) adopt();
}

/** The master may list more rungs and tracks once they are encoded. A track is not worth a break in the picture before the end. */
async function adopt() {
  engine.rename(info.renditions ?? []);
  controls.paintQuality();
  const count = (info.renditions ?? []).length;
  if (rungs < 0) rungs = count;
  const changed = count !== rungs || (info.status === "ready" && adopt.last && adopt.last !== "ready");
  adopt.last = info.status;
  if (!changed || !engine.hls) return;
  rungs = count;
  try {
    const text = await (await fetch(token.rewrite(page.master), { cache: "no-store" })).text();
    const listed = (text.match(/^#EXT-X-STREAM-INF/gm) ?? []).length;
    const tracks = (text.match(/^#EXT-X-MEDIA:/gm) ?? []).length;
    const free = video.paused || info.status === "ready";
    if (listed > engine.hls.levels.length || (tracks > engine.choices && free)) engine.reload();
  } catch { /* the next change asks again */ }
}

async function start(atOnce) {
  starting = true;
  state("loading");
  cover(null);
  $("spinner").hidden = false;
  engine = await createEngine(video, token, {
    available: page.available === "true",
    isLive,
    startAt,
    events: {
      onerror: (...what) => { beacon?.failed(); fail(...what); },
      onnotice: notice,
      onlevels: () => { steering?.say(); controls.paintQuality(); },
      onsegment: (segment) => steering?.came(segment),
      onswitch: () => { beacon?.switched(); viewing?.switched(); controls.paintQuality(); },
      ontracks: () => controls.paintTracks(),
      ontrouble: (text) => { troubled = true; notice(text); },
      onrecovered: () => { if (troubled) notice(""); troubled = false; },
    },
  });
  starting = false;
  window.reelmill.hls = engine?.hls ?? null;
  if (!engine) return;
  adopt();
  controls.use(engine);
  steering?.use(engine);
  engine.load(page.master);
  const ready = () => {
    controls.show();
    controls.use(engine);
    $("spinner").hidden = true;
    if (atOnce) autoplay();
    else if (video.paused) state("paused");
  };
  if (video.readyState >= 2) ready();
  else video.addEventListener("loadeddata", ready, { once: true });
}

/** Browsers let a page start with sound only after somebody touched it. Without sound they always do. */
async function autoplay() {
  try {
    await video.play();
  } catch {
    const wasMuted = video.muted;
    controls.muteIsOurs = true;
    video.muted = true;
    try {
      await video.play();
      $("unmute").hidden = wasMuted;
    } catch {
      video.muted = wasMuted;
      state("paused");
    }
  }
}

video.addEventListener("playing", () => { $("spinner").hidden = true; if (!broken) state("playing"); });
video.addEventListener("pause", () => { if (!broken && engine && !video.ended) state("paused"); });
video.addEventListener("ended", () => { if (!broken) state("ended"); });
video.addEventListener("seeked", () => { if (document.documentElement.dataset.state === "ended" && !video.ended) state("paused"); });
let spin = 0;
for (const e of ["waiting", "seeking"]) video.addEventListener(e, () => { clearTimeout(spin); spin = setTimeout(() => { if (!broken && video.readyState < 3) $("spinner").hidden = false; }, 350); });
for (const e of ["canplay", "playing", "seeked", "pause"]) video.addEventListener(e, () => { clearTimeout(spin); if (video.readyState >= 2) $("spinner").hidden = true; });

freshenTimes();
setInterval(freshenTimes, 30_000);
if (isLive) setInterval(() => { $("meta-duration").textContent = engine?.latency > 0 && !broken ? `${engine.latency.toFixed(1)} s behind live` : ""; }, 1000);
if (info.duration_seconds) $("meta-duration").textContent = clock(info.duration_seconds);
$("spinner").hidden = false;
follow();
