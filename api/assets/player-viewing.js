// Tells the farm how a viewer of a recording fares: when it plays, every ten seconds then, when it pauses, jumps, ends, and when the page is
// left. What was played is counted from one place to the next, so both sides of a jump are told.

const EVERY_MS = 10_000;
const SETTLE_MS = 500; // who drags along the seek bar jumps many times a second

export class Viewing {
  #session = null;
  #opening = null;
  #asked = 0; // when playing was wished for
  #startup = null;
  #waitsSince = 0;
  #waits = 0;
  #waited = 0;
  #switches = 0;
  #at = 0; // where it was just now: `seeking` comes when it is elsewhere already
  #held = true; // the farm knows that it does not play
  #over = false; // and that nobody watches
  #timer = 0;
  #settling = 0;

  /** `url(name)` is where something of this viewer's is. `engine()` gives what plays, or null; `duration()` the length of the whole. */
  constructor(video, { url, engine, duration }) {
    Object.assign(this, { video, url, engine, duration });
    video.addEventListener("play", () => { this.#asked ||= performance.now(); });
    video.addEventListener("playing", () => this.#plays());
    video.addEventListener("timeupdate", () => { if (!video.seeking) this.#at = video.currentTime; });
    // Before the first picture, and where the viewer jumps, waiting is no fault of the stream.
    video.addEventListener("waiting", () => { if (this.#startup !== null && !video.seeking) this.#waitsSince ||= performance.now(); });
    video.addEventListener("seeking", () => { this.#waitsSince = 0; this.#holds(this.#at); });
    video.addEventListener("seeked", () => { if (!video.paused) this.#settle(); });
    video.addEventListener("pause", () => { if (!video.ended && !video.seeking) this.#holds(video.currentTime); });
    video.addEventListener("ended", () => this.#leaves());
    addEventListener("pagehide", () => this.#leaves());
    addEventListener("pageshow", (event) => { if (event.persisted && !video.paused) this.#settle(); });
  }

  switched() { if (this.#startup !== null) this.#switches += 1; }

  #plays() {
    this.#startup ??= Math.round(performance.now() - (this.#asked || performance.now()));
    this.#waitIsOver();
    if (this.#held) this.#settle();
  }

  #waitIsOver() {
    if (!this.#waitsSince) return;
    this.#waits += 1;
    this.#waited += (performance.now() - this.#waitsSince) / 1000;
    this.#waitsSince = 0;
  }

  #settle() {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      if (this.video.paused || this.video.seeking || this.video.ended) return;
      this.#tell({ event: this.#session ? "playback_progress" : "playback_start" });
      clearInterval(this.#timer);
      this.#timer = setInterval(() => this.#tell({ event: "playback_progress" }), EVERY_MS);
      this.#held = this.#over = false;
    }, this.#session ? SETTLE_MS : 0);
  }

  /** It goes on from elsewhere, or later. */
  #holds(position) {
    clearTimeout(this.#settling);
    clearInterval(this.#timer);
    this.#waitIsOver();
    if (this.#held) return;
    this.#held = true;
    this.#tell({ event: "playback_progress", playing: false, position });
  }

  #body(more) {
    const { video } = this;
    const duration = this.duration();
    const ahead = [...Array(video.buffered.length).keys()].find((i) => video.buffered.start(i) <= video.currentTime && video.buffered.end(i) >= video.currentTime);
    const body = {
      session_id: this.#session,
      position: Math.min(video.currentTime, duration),
      duration,
      stalls: this.#waits,
      stalled_seconds: this.#waited,
      switches: this.#switches,
      startup_ms: this.#startup,
      buffered: ahead === undefined ? 0 : video.buffered.end(ahead) - video.currentTime,
      device_type: matchMedia("(pointer: coarse)").matches ? "mobile" : "desktop",
      ...more,
    };
    const rung = (this.engine()?.playing ?? this.engine()?.current)?.name;
    if (rung) body.rendition = rung;
    return JSON.stringify(body);
  }

  /** One request however many ask. */
  #open() {
    this.#opening ??= fetch(this.url("sessions"), { method: "POST" })
      .then(async (answer) => { if (answer.ok) this.#session = (await answer.json()).session_id; })
      .finally(() => { this.#opening = null; });
    return this.#opening;
  }

  async #tell(more) {
    if (!(this.duration() > 0)) return;
    try {
      if (!this.#session) await this.#open();
      if (!this.#session) return;
      const answer = await fetch(this.url("progress"), { method: "POST", body: this.#body(more), headers: { "content-type": "application/json" } });
      if (answer.status === 403) this.#session = null; // it has ended: the next one opens another
    } catch { /* the next one tells as much */ }
  }

  #leaves() {
    clearTimeout(this.#settling);
    clearInterval(this.#timer);
    this.#waitIsOver();
    if (!this.#session || this.#over || !(this.duration() > 0)) return;
    this.#held = this.#over = true;
    navigator.sendBeacon(this.url("progress"), this.#body({ event: "playback_end" }));
  }
}
