// The home page: keeps its two lists fresh and takes uploads. The lists are always the server's HTML; an event only
// says that it is time to fetch the page again.

import { $, bytes, el, freshenTimes, problem, wireCopy } from "./format.js";
import { Upload } from "./tus.js";

const EVENTS = [
  "job.queued", "job.started", "job.progress", "job.succeeded", "job.failed", "job.cancelled",
  "recording.playable", "recording.ready", "recording.deleted",
  "livestream.started", "livestream.reconnecting", "livestream.ended", "broadcast.recorded",
];
const BUSY_MS = 4000; // progress is not an event: while something runs, look
const CALM_MS = 700; // a burst of events is one refresh

// ---- the lists

let timer = 0;
let due = Infinity;
let running = false;

function refreshIn(ms) {
  if (performance.now() + ms >= due) return;
  due = performance.now() + ms;
  clearTimeout(timer);
  timer = setTimeout(refresh, ms);
}

async function refresh() {
  due = Infinity;
  if (running || document.hidden) return refreshIn(BUSY_MS);
  running = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.redirected && new URL(answer.url).pathname === "/login") return location.reload();
    if (answer.ok) swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch { /* the event stream says when the server is back */ } finally { running = false; }
  if (document.querySelector('[data-status="running"], [data-status="processing"], [data-status="pending"], [data-status="queued"], [data-status="live"]')) refreshIn(BUSY_MS);
}

function swap(fresh) {
  freshenTimes(fresh);
  for (const old of document.querySelectorAll("[data-swap]")) {
    const next = fresh.getElementById(old.id);
    if (next) merge(old, next);
  }
  freshenTimes();
}

/** Makes `old` equal to `next`, touching only what differs: focus, hover and loaded pictures stay. */
function merge(old, next) {
  if (old.isEqualNode(next)) return;
  const same = old.nodeType === next.nodeType && old.nodeName === next.nodeName && (old.dataset?.key ?? "") === (next.dataset?.key ?? "");
  if (!same) { old.replaceWith(document.importNode(next, true)); return; }
  if (old.nodeType !== Node.ELEMENT_NODE) { if (old.nodeValue !== next.nodeValue) old.nodeValue = next.nodeValue; return; }
  const statusOf = (li) => li.querySelector(".chip")?.dataset.status;
  if (old.matches(".rec") && statusOf(old) !== statusOf(next)) retryPicture(old);
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name) && name !== "hidden") old.removeAttribute(name);
  for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const keyed = new Map([...old.children].filter((c) => c.dataset.key).map((c) => [c.dataset.key, c]));
  let at = old.firstChild;
  for (const want of [...next.childNodes]) {
    const known = want.dataset?.key ? keyed.get(want.dataset.key) : null;
    if (known) {
      if (known !== at) old.insertBefore(known, at);
      else at = at.nextSibling;
      merge(known, want);
    } else if (at && !at.dataset?.key && !want.dataset?.key) {
      const here = at;
      at = at.nextSibling;
      merge(here, want);
    } else old.insertBefore(document.importNode(want, true), at);
  }
  while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
}

function retryPicture(card) {
  const img = card.querySelector("img[hidden]");
  if (!img) return;
  img.hidden = false;
  img.src = img.src;
}

// ---- events

function listen() {
  const source = new EventSource("/api/v1/events");
  const say = (on, words) => { $("livestate").dataset.on = String(on); $("livestate").textContent = words; };
  source.onopen = () => { say(true, "Updates by itself"); refreshIn(CALM_MS); };
  source.onerror = () => {
    say(false, source.readyState === EventSource.CLOSED ? "Not updating by itself. Reload the page" : "Connecting again …");
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 15_000);
  };
  source.onmessage = () => refreshIn(CALM_MS);
  for (const name of EVENTS) source.addEventListener(name, () => refreshIn(CALM_MS));
}

// ---- what can be done about them

const ACTS = {
  cancel: { method: "POST", url: (id) => `/api/v1/jobs/${id}/cancel`, ask: (what) => `Cancel ${what}? What was half made is removed.` },
  retry: { method: "POST", url: (id) => `/api/v1/jobs/${id}/retry` },
  delete: { method: "DELETE", url: (id) => `/api/v1/recordings/${id}`, ask: (what) => `Delete ${what}, with all that was made for it? It cannot be brought back.` },
};

function refused(text) {
  $("refused").textContent = text;
  $("refused").hidden = !text;
}

async function act(button) {
  const { method, url, ask } = ACTS[button.dataset.act];
  const what = button.closest("[data-key]").querySelector(".rec-title, .job-what a, .job-what .quiet")?.textContent.trim() || "this";
  if (ask && !confirm(ask(`“${what}”`))) return;
  button.disabled = true;
  refused("");
  try {
    const answer = await fetch(url(encodeURIComponent(button.closest("[data-key]").dataset.key)), { method });
    if (!answer.ok) throw new Error(await problem(answer));
  } catch (e) {
    refused(`That did not work: ${e.message}`);
  } finally {
    button.disabled = false;
    refreshIn(0);
  }
}

function wireActs() {
  document.addEventListener("click", (e) => {
    const button = e.target.closest?.("[data-act]");
    if (button) act(button);
  });
}

// ---- uploads

function take(files) {
  for (const file of files) send(file);
}

async function send(file) {
  const bar = el("progress", { class: "bar", max: "1", value: "0", "aria-label": `Upload of ${file.name}` });
  const words = el("span", { class: "up-state", role: "status" }, "Starting …");
  const acts = el("span", { class: "up-acts" });
  const row = el("li", { class: "up" }, el("span", { class: "up-name", title: file.name }, file.name), acts, bar, words);
  $("uploads").append(row);
  const say = (state, text, ...buttons) => { row.dataset.state = state; words.textContent = text; acts.replaceChildren(...buttons); };
  const button = (text, act) => el("button", { class: "linkbtn", type: "button", onclick: act }, text);
  const dismiss = () => button("Dismiss", () => row.remove());

  let last = [performance.now(), 0, 0];
  const upload = new Upload(file, {
    onprogress(sent, total) {
      bar.value = total ? sent / total : 1;
      const [at, before, rate] = last;
      const seconds = (performance.now() - at) / 1000;
      if (seconds > 0.8) last = [performance.now(), sent, sent > before ? (rate ? rate * 0.6 : 0) + ((sent - before) / seconds) * (rate ? 0.4 : 1) : rate];
      words.textContent = `${bytes(sent)} of ${bytes(total)}${last[2] ? ` · ${bytes(last[2])}/s` : ""}`;
    },
    onstate: (text) => { words.textContent = text; },
  });
  say("sending", "Starting …", button("Cancel", async () => { await upload.cancel(); row.remove(); }));
  try {
    if (!file.size) throw new Error("the file is empty");
    const id = await upload.run();
    say("sending", "Arrived. Handing it to the mill …");
    const answer = await fetch("/api/v1/recordings", {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": `upload-${id}` },
      body: JSON.stringify({ title: file.name.replace(/\.[^.]+$/, "") || file.name, input: { upload_id: id } }),
    });
    if (!answer.ok) throw new Error(await problem(answer));
    const made = await answer.json();
    const recording = made.id ?? made.recording_id ?? made.recording?.id;
    say("done", `${bytes(file.size)} arrived.`, el("a", { href: `/watch/${encodeURIComponent(recording)}` }, "Watch"), dismiss());
    refreshIn(0);
  } catch (e) {
    if (e.name === "AbortError") return;
    say("failed", `Not uploaded: ${e.message}`, button("Try again", () => { row.remove(); send(file); }), dismiss());
  }
}

function wireUploads() {
  if (!$("file")) return;
  $("file").addEventListener("change", (e) => { take([...e.target.files]); e.target.value = ""; });
  let depth = 0;
  const over = (on) => { $("drop").dataset.over = String(on); };
  const carriesFiles = (e) => [...(e.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", (e) => { if (carriesFiles(e)) { depth += 1; over(true); } });
  addEventListener("dragleave", (e) => { if (carriesFiles(e)) { depth = Math.max(0, depth - 1); over(depth > 0); } });
  addEventListener("dragover", (e) => { if (carriesFiles(e)) e.preventDefault(); });
  addEventListener("drop", (e) => {
    if (!carriesFiles(e)) return;
    e.preventDefault();
    depth = 0;
    over(false);
    take([...e.dataTransfer.files]);
  });
  addEventListener("beforeunload", (e) => { if (document.querySelector('.up[data-state="sending"]')) e.preventDefault(); });
}

// A picture that is not there yet leaves the film behind it to be seen; a new status is worth another look.
document.addEventListener("error", (e) => { if (e.target.matches?.(".poster img")) e.target.hidden = true; }, true);
for (const img of document.querySelectorAll(".poster img")) if (img.complete && !img.naturalWidth) img.hidden = true;

freshenTimes();
setInterval(() => freshenTimes(), 30_000);
wireCopy();
wireUploads();
wireActs();
listen();
