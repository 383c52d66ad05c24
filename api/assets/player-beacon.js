// Tells the farm how a viewer of a livestream fares: when it plays, every ten seconds then, and when the page is left. Nothing
// else is told, and nothing is kept here.

const EVERY_MS = 10_000;

export class Beacon {
  #session = crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
  #waits = 0;
  #switches = 0;
  #errors = 0;
  #told = false;
  #timer = 0;

  /** `url` is rewritten to the newest token each time. `engine()` gives what plays, or null. */
  constructor(video, token, url, engine) {
    Object.assign(this, { video, token, url, engine });
    video.addEventListener("playing", () => this.#begin());
    // Before the first picture, and where the viewer jumps, waiting is no fault of the stream.
    video.addEventListener("waiting", () => { if (this.#told && !video.seeking) this.#waits += 1; });
    addEventListener("pagehide", () => this.#leave());
    addEventListener("pageshow", (event) => { if (event.persisted && !video.paused) this.#begin(); });
  }

  switched() { if (this.#told) this.#switches += 1; }
  failed() { this.#errors += 1; }

  #begin() {
    if (this.#timer) return;
    this.#timer = setInterval(() => this.#tell(), EVERY_MS);
    this.#tell();
  }

  #body(more) {
    const { latency, current } = this.engine() ?? {};
    const body = {
      session_id: this.#session,
      device_type: matchMedia("(pointer: coarse)").matches ? "mobile" : "desktop",
      buffer_events: this.#waits,
      quality_changes: this.#switches,
      errors: this.#errors,
      ...more,
    };
    if (current?.name) body.resolution = current.name;
    // Hidden pages are slowed down, and who paused is behind on purpose.
    if (latency > 0 && !this.video.paused && !document.hidden) body.latency = Math.round(latency * 1000);
    this.#errors = 0;
    return JSON.stringify(body);
  }

  async #tell() {
    this.#told = true;
    try {
      await fetch(this.token.rewrite(this.url), { method: "POST", body: this.#body(), headers: { "content-type": "application/json" } });
    } catch { /* the next one tells as much */ }
  }

  #leave() {
    if (!this.#timer) return;
    clearInterval(this.#timer);
    this.#timer = 0;
    navigator.sendBeacon(this.token.rewrite(this.url), this.#body({ left: true }));
  }
}
