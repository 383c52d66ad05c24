// What turns a playlist into pictures: hls.js where Media Source is there, the browser's own HLS elsewhere. Both look
// the same from outside. Errors leave here as sentences.

import { bitrate } from "./format.js";

const LIBRARY = "/assets/vendor/hls.min.js";
const RETRY_MS = [500, 1000, 2000, 4000, 8000, 8000];
const EXPIRED = new Set([401, 403, 410]);

let library;
function loadLibrary() {
  library ??= new Promise((resolve) => {
    if (window.Hls) return resolve(window.Hls);
    const script = document.createElement("script");
    script.src = LIBRARY;
    script.onload = () => resolve(window.Hls ?? null);
    script.onerror = () => resolve(null);
    document.head.append(script);
  });
  return library;
}

export const playsNatively = (video) => video.canPlayType("application/vnd.apple.mpegurl") !== "";

/** Picks an engine. `onerror(title, text, retryable)`, `onnotice(text)`, `onlevels()`, `onswitch()`, `ontracks()`, `onsegment(segment)` tell the page. */
export async function createEngine(video, token, { available, events, isLive, startAt }) {
  const Hls = available ? await loadLibrary() : null;
  if (Hls?.isSupported()) return new MseEngine(Hls, video, token, events, isLive, startAt);
  if (playsNatively(video)) {
    if (!Hls) {
      events.onnotice("The player library (hls.js) is missing from this build of Reelmill; scripts/assets puts it there. Playing with the browser's own HLS: it chooses the quality.");
    }
    return new NativeEngine(video, token, events, startAt);
  }
  if (!Hls) {
    events.onerror("The player is missing from this build", "The file vendor/hls.min.js is not there. Whoever runs this farm can run scripts/assets and build again. The stream itself is fine and plays in VLC, mpv and Safari.", false);
  } else {
    events.onerror("This browser cannot play the stream", "It has neither Media Source Extensions nor HLS of its own. Any current Chrome, Edge, Firefox or Safari can.", false);
  }
  return null;
}

/** What the recording knows of a level. */
function renditionOf(level, renditions) {
  const path = decodeURIComponent(level.url?.[0] ?? level.uri ?? "");
  const fitting = renditions.filter((r) => !r.height || !level.height || r.height === level.height);
  const named = fitting.find((r) => new RegExp(`[/=_.-]${r.name.replace(/[^\w]/g, "\\$&")}(?![\\w])`).test(path));
  const close = [...fitting].sort((a, b) => Math.abs(a.bandwidth - level.bitrate) - Math.abs(b.bandwidth - level.bitrate))[0];
  return named ?? (level.height ? close : null);
}

/** A rung's name: what the recording calls it, else what the playlist or the picture says. */
export function nameLevel(level, renditions) {
  const name = renditionOf(level, renditions)?.name || level.name || (level.height ? `${level.height}p` : "audio");
  // A profile's "720p" holds smaller sources at their own size: people choose by the size they get.
  const side = Math.min(level.width || level.height, level.height || level.width);
  return side && /^\d+p$/.test(name) ? `${side}p` : name;
}

/** hls.js's own choice, except where there is a wish: it stands until hls.js itself wants another level, as when it gives up a download. */
const steered = (Base, wish) => class extends Base {
  get nextAutoLevel() { return wish.level === null ? super.nextAutoLevel : Math.min(wish.level, this.hls.maxAutoLevel); }
  set nextAutoLevel(level) {
    if (wish.level !== null && level !== this.nextAutoLevel) wish.level = null;
    super.nextAutoLevel = level;
  }
};

class MseEngine {
  kind = "hls.js";
  #wish = { level: null };
  #recoveries = 0;
  #mediaRecoveredAt = 0;
  #timer = 0;
  #missed = false;
  #renewed = 0;
  #chosen = null; // the level that a viewer chose; none while hls.js chooses

  constructor(Hls, video, token, events, isLive, startAt) {
    Object.assign(this, { Hls, video, token, events, isLive });
    this.renditions = [];
    this.hls = new Hls({
      // A recording starts at its start, also while it still grows: hls.js would take a growing playlist for live.
      startPosition: startAt > 0 ? startAt : isLive ? -1 : 0,
      lowLatencyMode: isLive,
      liveDurationInfinity: isLive,
      maxLiveSyncPlaybackRate: isLive ? 1.2 : 1, // who fell behind catches up, unheard
      // Live, the browser itself drops what is long past when it needs the room: when hls.js 1.7 does while a part of the sound is on
      // its way into the buffer, it takes the whole segment for empty, and the picture stands still.
      backBufferLength: isLive ? Infinity : 60,
      maxBufferLength: 12, // until somebody presses play
      maxBufferSize: 0, // the length alone counts
      capLevelToPlayerSize: true,
      testBandwidth: false, // the first picture is not spent on a measurement
      abrEwmaDefaultEstimate: firstGuess(),
      abrController: steered(Hls.DefaultConfig.abrController, this.#wish),
      xhrSetup: (xhr, url) => {
        const now = token.rewrite(url);
        if (now !== url) xhr.open("GET", now, true);
      },
    });
    const E = Hls.Events;
    // A wish is for a level's place, which may be another's now.
    this.hls.on(E.MANIFEST_PARSED, () => { this.#wish.level = null; this.levels = this.#read(); this.#chooseAgain(); events.onlevels(); });
    this.hls.on(E.LEVELS_UPDATED, () => { this.#wish.level = null; this.levels = this.#read(); events.onlevels(); });
    this.hls.on(E.LEVEL_SWITCHED, () => events.onswitch());
    for (const e of [E.AUDIO_TRACKS_UPDATED, E.AUDIO_TRACK_SWITCHED, E.SUBTITLE_TRACKS_UPDATED, E.SUBTITLE_TRACK_SWITCH]) this.hls.on(e, () => events.ontracks());
    this.hls.on(E.FRAG_BUFFERED, (_, data) => { this.#recoveries = 0; this.#missed = false; events.onrecovered(); this.#came(data); });
    video.addEventListener("waiting", () => { if (this.#missed || !navigator.onLine) events.ontrouble(trouble()); });
    this.hls.on(E.ERROR, (_, data) => this.#failed(data));
    video.addEventListener("play", () => { this.hls.config.maxBufferLength = 40; }, { once: true });
    addEventListener("online", () => { if (this.#timer || video.readyState < 3) this.hls.startLoad(video.currentTime || -1); });
    this.levels = [];
    this.hls.attachMedia(video);
  }

  load(url) { this.url = url; this.hls.loadSource(this.token.rewrite(url)); }

  /** New rungs appeared: read the master again and go on where we were. What the viewer chose is kept where it is chosen. */
  reload() {
    const at = this.video.currentTime;
    const playing = !this.video.paused;
    this.hls.config.startPosition = at || (this.isLive ? -1 : 0);
    this.load(this.url);
    if (playing) this.video.addEventListener("canplay", () => this.video.play().catch(() => {}), { once: true });
  }

  rename(renditions) { this.renditions = renditions; if (this.levels.length) this.levels = this.#read(); }

  #read() {
    return this.hls.levels.map((l, index) => ({
      index,
      name: nameLevel(l, this.renditions),
      rung: renditionOf(l, this.renditions)?.name ?? null,
      width: l.width, height: l.height,
      bandwidth: l.averageBitrate || l.bitrate,
      detail: [l.height ? `${l.width}×${l.height}` : "", bitrate(l.averageBitrate || l.bitrate)].filter(Boolean).join(" · "),
    })).sort((a, b) => b.height - a.height || b.bandwidth - a.bandwidth);
  }

  // ---- steering: who is not hls.js chooses, while no level is chosen by hand

  get steerable() { return true; }
  /** A level's index, or null to leave it to hls.js. What is buffered stays. */
  steer(index) { this.#wish.level = index; }
  /** Seconds of the buffer, and those that are in it. */
  get bufferTarget() { return this.hls.config.maxBufferLength; }
  get ahead() {
    const { buffered, currentTime: now } = this.video;
    for (let i = 0; i < buffered.length; i += 1) if (buffered.start(i) <= now + 0.1 && buffered.end(i) > now) return buffered.end(i) - now;
    return 0;
  }
  get codecs() { return [...new Set(this.hls.levels.map((l) => l.videoCodec).filter(Boolean))]; }
  get guess() { return Math.max(1, Math.round(this.hls.bandwidthEstimate)); }

  #came({ frag, part, stats }) {
    const rung = this.levels.find((l) => l.index === frag.level)?.rung;
    const [ms, bytes] = [stats.loading.end - stats.loading.start, stats.loaded];
    if (frag.type !== "main" || part || stats.aborted || !rung || !(ms > 0) || !(bytes > 0)) return;
    this.events.onsegment({ bytes, download_ms: ms, duration: frag.duration, rung, buffer_seconds: this.ahead });
  }

  get auto() { return this.hls.autoLevelEnabled; }
  get current() { return this.levels.find((l) => l.index === (this.auto ? this.hls.currentLevel : this.hls.manualLevel)) ?? null; }
  get playing() { return this.levels.find((l) => l.index === this.hls.currentLevel) ?? null; }
  select(index) {
    this.#chosen = this.levels.find((l) => l.index === index) ?? null;
    if (index < 0) this.hls.loadLevel = -1; // what is buffered stays
    else this.hls.nextLevel = index;
  }

  /** A master that is read again may have its levels at other places, and another figure for their rate. Before the first segment is asked for. */
  #chooseAgain() {
    if (!this.#chosen) return;
    const { name, height, bandwidth } = this.#chosen;
    const sized = this.levels.filter((l) => l.height === height);
    const named = sized.filter((l) => l.name === name);
    const [same] = (named.length ? named : sized).sort((a, b) => Math.abs(a.bandwidth - bandwidth) - Math.abs(b.bandwidth - bandwidth));
    if (same) this.hls.loadLevel = same.index;
    else this.#chosen = null;
  }

  get tracks() { return this.hls.audioTracks.map((t, index) => ({ index, name: t.name, detail: t.lang ?? "", on: index === this.hls.audioTrack })); }
  hear(index) {
    this.hls.audioTrack = index;
    this.hls.config.audioPreference = preference(this.hls.audioTracks[index]);
  }
  get texts() { return this.hls.subtitleTracks.map((t, index) => ({ index, name: t.name, detail: t.lang ?? "", on: index === this.hls.subtitleTrack })); }
  read(index) {
    this.hls.subtitleTrack = index;
    this.hls.config.subtitlePreference = preference(this.hls.subtitleTracks[index]);
  }
  /** How many tracks of sound and text there are to choose from. */
  get choices() { return this.hls.allAudioTracks.length + this.hls.allSubtitleTracks.length; }
  get bandwidth() { return this.hls.bandwidthEstimate; }
  get latency() { return this.hls.latency; }
  get growing() { const d = this.hls.latestLevelDetails ?? this.hls.levels[this.hls.currentLevel]?.details; return Boolean(d?.live); }
  get edge() { return this.hls.liveSyncPosition; }

  async retry() {
    this.#recoveries = 0;
    this.#renewed = 0;
    await this.token.renew();
    this.hls.config.startPosition = this.video.currentTime || (this.isLive ? -1 : 0);
    this.load(this.url);
  }

  destroy() { clearTimeout(this.#timer); this.hls.destroy(); }

  #failed(data) {
    const { ErrorTypes, ErrorDetails: D } = this.Hls;
    const code = data.response?.code ?? 0;
    if (!data.fatal) {
      // hls.js tries again by itself. Worth a word only when the picture stops, here or in `waiting`.
      if (data.type === ErrorTypes.NETWORK_ERROR && !EXPIRED.has(code)) {
        this.#missed = true;
        if (this.video.readyState < 3) this.events.ontrouble(trouble());
      }
      return;
    }
    if (data.type === ErrorTypes.NETWORK_ERROR) {
      if (EXPIRED.has(code)) {
        // Once in a while a token ends between two requests (a laptop that slept): a new one, then on.
        if (Date.now() - this.#renewed > 30_000) {
          this.#renewed = Date.now();
          this.token.renew().then((ok) => (ok ? this.#again(data) : this.#give(D, data, code)));
          return;
        }
        return this.#give(D, data, code);
      }
      if (this.#recoveries < RETRY_MS.length && code !== 404) {
        this.events.ontrouble(trouble());
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => { this.#timer = 0; this.#again(data); }, RETRY_MS[this.#recoveries]);
        this.#recoveries += 1;
        return;
      }
    }
    if (data.type === ErrorTypes.MEDIA_ERROR && data.details !== D.MANIFEST_INCOMPATIBLE_CODECS_ERROR && data.details !== D.BUFFER_ADD_CODEC_ERROR) {
      if (performance.now() - this.#mediaRecoveredAt > 5_000) {
        this.#mediaRecoveredAt = performance.now();
        return this.hls.recoverMediaError();
      }
    }
    this.#give(D, data, code);
  }

  #again(data) {
    if (String(data.details).startsWith("manifest")) this.load(this.url);
    else this.hls.startLoad(this.video.currentTime || -1);
  }

  #give(D, data, code) {
    const text = (() => {
      if (EXPIRED.has(code)) return ["This link has ended", "Reload the page to get a new one.", "reload"];
      if (code === 404) return ["Part of the stream is not there", "The server does not have what the playlist names (404). If this goes on, whoever runs the farm should hear of it.", true];
      if (code >= 500) return ["The server has trouble", `It answered ${code}. Wait a moment and try again.`, true];
      switch (data.details) {
        case D.MANIFEST_INCOMPATIBLE_CODECS_ERROR:
        case D.BUFFER_ADD_CODEC_ERROR:
        case D.BUFFER_INCOMPATIBLE_CODECS_ERROR:
          return ["This browser cannot decode this video", `None of its renditions is in a format that this browser plays (${codecsOf(this.hls) || "unknown codecs"}).`, false];
        case D.MANIFEST_PARSING_ERROR:
        case D.LEVEL_PARSING_ERROR:
        case D.LEVEL_EMPTY_ERROR:
          return ["The playlist is damaged", "The server's answer is not a playlist that can be played.", true];
        case D.KEY_SYSTEM_NO_KEYS:
        case D.KEY_LOAD_ERROR:
          return ["The video is encrypted", "The key to it could not be had.", true];
        default:
      }
      if (data.type === this.Hls.ErrorTypes.NETWORK_ERROR) return ["The server cannot be reached", navigator.onLine ? "It did not answer. Check the connection and try again." : "You are offline.", true];
      if (data.type === this.Hls.ErrorTypes.MEDIA_ERROR) return ["The video could not be decoded", `The browser gave up on this piece (${data.details}). Another quality may play.`, true];
      return ["Playback stopped", `Something unexpected happened (${data.details}).`, true];
    })();
    this.events.onerror(...text);
  }
}

/** A track as hls.js looks for it in a master that it reads later. */
const preference = (track) => track && { name: track.name, lang: track.lang };

const trouble = () => (navigator.onLine ? "The connection is poor. Trying again …" : "You are offline. Playback goes on when the connection is back.");

/** Bits per second to begin with. What the browser says is used where it says "slow"; its figure for fast is capped. */
function firstGuess() {
  const { effectiveType = "4g", downlink = 4, saveData = false } = navigator.connection ?? {};
  return saveData ? 500_000 : effectiveType === "4g" ? 4_000_000 : Math.max(0.2, downlink) * 1e6;
}

const codecsOf = (hls) => [...new Set((hls.levels ?? []).flatMap((l) => [l.videoCodec, l.audioCodec]).filter(Boolean))].join(", ");

class NativeEngine {
  kind = "native HLS";
  steerable = false;
  hls = null;
  auto = true;
  levels = [];
  bandwidth = NaN;
  latency = NaN;

  constructor(video, token, events, startAt) {
    Object.assign(this, { video, token, events, startAt });
    this.tries = 0;
    video.addEventListener("error", () => this.#failed());
    video.addEventListener("playing", () => { this.tries = 0; });
    video.addEventListener("resize", () => events.onswitch());
    video.addEventListener("loadedmetadata", () => { events.onlevels(); events.ontracks(); events.onrecovered(); });
    for (const list of [video.textTracks, video.audioTracks]) for (const e of ["addtrack", "change"]) list?.addEventListener(e, () => events.ontracks());
  }

  load(url) {
    this.url = url;
    const at = this.video.currentTime || this.startAt;
    this.video.src = this.token.rewrite(url);
    if (at > 0) this.video.addEventListener("loadedmetadata", () => { this.video.currentTime = at; }, { once: true });
  }

  reload() {
    const playing = !this.video.paused;
    this.load(this.url);
    if (playing) this.video.play().catch(() => {});
  }

  rename() {}
  select() {}
  #named(list, on) { return [...(list ?? [])].map((t, index) => ({ index, name: t.label || t.language || `Track ${index + 1}`, detail: t.language ?? "", on: on(t) })); }
  get tracks() { return this.#named(this.video.audioTracks, (t) => t.enabled); }
  hear(index) { [...(this.video.audioTracks ?? [])].forEach((t, i) => { t.enabled = i === index; }); }
  get texts() { return this.#named(this.video.textTracks, (t) => t.mode === "showing"); }
  read(index) { [...this.video.textTracks].forEach((t, i) => { t.mode = i === index ? "showing" : "disabled"; }); }
  get playing() { return this.current; }
  get current() { const { videoWidth: w, videoHeight: h } = this.video; return h ? { index: 0, name: `${h}p`, width: w, height: h, detail: `${w}×${h}` } : null; }
  get growing() { return !Number.isFinite(this.video.duration); }
  get edge() { const s = this.video.seekable; return s.length ? s.end(s.length - 1) : null; }
  async retry() { this.tries = 0; await this.token.renew(); this.reload(); }
  destroy() { this.video.removeAttribute("src"); this.video.load(); }

  // A native player follows the playlist's own URLs, so a token that ended shows as an error: new token, same place.
  async #failed() {
    const code = this.video.error?.code;
    if (this.tries < 2 && code !== 3) {
      this.tries += 1;
      await this.token.renew();
      return this.reload();
    }
    const words = {
      2: ["The server cannot be reached", "The connection broke. Check it and try again.", true],
      3: ["The video could not be decoded", "The browser gave up on this piece.", true],
      4: ["This browser cannot play the stream", "Either the stream is not there or it is in a format that this browser does not play.", true],
    };
    this.events.onerror(...(words[code] ?? ["Playback stopped", "Something unexpected happened.", true]));
  }
}
