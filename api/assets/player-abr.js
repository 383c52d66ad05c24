// "Automatic (Reelmill)": the farm's engine chooses the quality. After each segment it is told what came, and says what is to be
// fetched next and why, which is shown below the picture. While it cannot be reached, hls.js chooses by itself.

import { $, bitrate } from "./format.js";
import { plot } from "./player-abr-plot.js";

const KEY = "reelmill.abr";
const PATIENCE_MS = 4000;
const MOST_SEGMENTS = 100; // of one request
const REMEMBERED = 60; // decisions in the plot
const WHY = {
  start: "Nothing is known of the network yet: the lowest.",
  throughput: "It promises the best picture on what the network is likely to carry.",
  steady: "Another would be hardly better: no change.",
  buffer_critical: "Less than a fifth of the buffer is left: the lowest.",
  buffer_low: "Less than two fifths of the buffer is left: one less than the network carries.",
  buffer_high: "The buffer is nearly full: one more is tried.",
  capped: "The network carries more than this player has a use for.",
};

export class Steering {
  on = false;
  #session = crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
  #untold = [];
  #busy = false;
  #said = ""; // what the session was last told of this player
  #points = [];
  #announced = "";

  /** `base` ends in a slash and is rewritten to the newest token each time. */
  constructor(video, token, base, onchange) {
    Object.assign(this, { video, token, base, onchange, engine: null });
    video.addEventListener("play", () => this.say());
    addEventListener("resize", () => { clearTimeout(this.resized); this.resized = setTimeout(() => this.say(), 300); });
  }

  /** What plays from now on. */
  use(engine) {
    this.engine = engine;
    if (this.possible && remembered()) this.turn(true);
  }

  get possible() { return this.engine?.steerable ?? false; }

  turn(on) {
    this.on = on && this.possible;
    remember(this.on);
    $("abr").hidden = !this.on;
    if (this.on) this.say();
    else this.engine?.steer(null);
    this.onchange();
  }

  /** A segment of the picture came. */
  came(segment) {
    if (!this.on) return;
    this.#untold.push(segment);
    if (this.#untold.length > MOST_SEGMENTS) this.#untold.shift();
    this.#tell();
  }

  /** Tells what this player can show, where that has changed, and asks for a rung. */
  async say() {
    if (!this.on || this.#busy || this.engine.levels.length === 0) return;
    const { width, height } = this.video.getBoundingClientRect();
    const pixels = (length) => Math.max(1, Math.round(length * devicePixelRatio));
    const body = {
      buffer_target: this.engine.bufferTarget,
      screen: { width: pixels(width), height: pixels(height) },
      codecs: this.engine.codecs,
      data_saver: navigator.connection?.saveData ?? false,
    };
    const said = JSON.stringify(body);
    if (said === this.#said) return;
    await this.#ask("select", { session_id: this.#session, buffer_seconds: this.engine.ahead, bandwidth: this.engine.guess, ...body }, (answer) => {
      this.#said = said;
      this.#decided(answer);
    });
  }

  async #tell() {
    if (this.#busy || this.#untold.length === 0) return;
    const segments = this.#untold.splice(0);
    await this.#ask("metrics", { session_id: this.#session, segments, select: true }, (answer) => this.#decided(answer.selected), (refused) => {
      // What was refused once would be again.
      if (!refused) this.#untold = [...segments, ...this.#untold].slice(-MOST_SEGMENTS);
    });
  }

  async #ask(path, body, done, failed = () => {}) {
    this.#busy = true;
    try {
      const answer = await fetch(this.token.rewrite(this.base + path), {
        method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" }, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS),
      });
      if (!answer.ok) throw Object.assign(new Error(String(answer.status)), { refused: answer.status === 422 });
      const told = await answer.json();
      if (this.on) done(told);
    } catch (error) {
      failed(error.refused ?? false);
      if (this.on) this.#alone();
    } finally {
      this.#busy = false;
    }
    // What came meanwhile is told when something new is known; a failure waits for the next segment.
    if (this.on && this.#untold.length > 0 && $("abr").dataset.state === "farm") this.#tell();
  }

  #decided(selected) {
    const level = this.engine.levels.find((l) => l.rung === selected.rung);
    this.engine.steer(level ? level.index : null);
    const buffer = this.engine.ahead;
    this.#points.push({ rung: selected.rung, bitrate: selected.bitrate, predicted: selected.predicted_bandwidth, buffer, full: this.engine.bufferTarget });
    if (this.#points.length > REMEMBERED) this.#points.shift();
    $("abr").dataset.state = "farm";
    $("abr").dataset.reason = selected.reason;
    $("abr-rung").textContent = `${selected.rung}, ${bitrate(selected.bitrate)}`;
    $("abr-bandwidth").textContent = selected.predicted_bandwidth ? `${bitrate(selected.predicted_bandwidth)}, ${Math.round(selected.confidence * 100)} % sure` : "not known";
    $("abr-buffer").textContent = `${buffer.toFixed(1)} of ${this.engine.bufferTarget} s`;
    const why = WHY[selected.reason] ?? selected.reason;
    $("abr-reason").textContent = why;
    // Read out when the rung changes, not at every segment.
    if (this.#announced !== selected.rung) $("abr-said").textContent = `Next: ${selected.rung}. ${why}`;
    this.#announced = selected.rung;
    plot($("abr-plot"), this.#points);
    this.onchange();
  }

  #alone() {
    this.engine.steer(null);
    $("abr").dataset.state = "alone";
    delete $("abr").dataset.reason;
    $("abr-reason").textContent = "The farm cannot be reached: the player chooses by itself.";
    if (this.#announced !== "alone") $("abr-said").textContent = $("abr-reason").textContent;
    this.#announced = "alone";
    this.#said = "";
    this.onchange();
  }
}

function remembered() {
  try { return localStorage.getItem(KEY) === "on"; } catch { return false; } // private mode
}

function remember(on) {
  try {
    if (on) localStorage.setItem(KEY, "on");
    else localStorage.removeItem(KEY);
  } catch { /* private mode */ }
}
