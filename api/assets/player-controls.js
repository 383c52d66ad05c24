// The bar under the picture, the keyboard, the menus and the statistics. It talks to the <video> element; the engine
// is asked only for rungs and figures.

import { $, bitrate, clock, el, icon, setIcon, spoken } from "./format.js";
import { Storyboard } from "./player-storyboard.js";

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2];
const IDLE_MS = 2800;
const GLANCE_MS = 1200; // how long the preview of a jump by keyboard stays
const KEY = "reelmill.volume";
/** Buttons that open a menu, which is called like them. */
const MENUS = ["quality", "speed", "sound", "captions"];

export class Controls {
  constructor(root, video, { isLive, steering, findStoryboard, rewrite }) {
    Object.assign(this, { root, video, isLive, steering, engine: null, knownDuration: 0, scrubbing: false, previewed: null });
    this.storyboard = isLive ? null : new Storyboard(findStoryboard, rewrite);
    this.restoreVolume();
    this.wireButtons();
    this.wireSeek();
    this.wireMenus();
    this.wireKeys();
    this.wireIdle();
    const paint = () => this.paint();
    for (const e of ["timeupdate", "progress", "durationchange", "seeking", "seeked", "loadedmetadata", "emptied"]) video.addEventListener(e, paint);
    for (const e of ["play", "playing", "pause", "ended", "seeked", "emptied"]) video.addEventListener(e, () => this.paintPlay());
    video.addEventListener("volumechange", () => this.paintVolume());
    video.addEventListener("ratechange", () => {
      $("speed-label").textContent = `${video.playbackRate}×`;
      $("speed").setAttribute("aria-label", `Playback speed: ${video.playbackRate}×`);
    });
    this.paintVolume();
    this.paintPlay();
    setInterval(() => this.paintStats(), 500);
  }

  use(engine) { this.engine = engine; this.paintQuality(); this.paintTracks(); }
  show() { $("controls").hidden = false; this.paint(); this.paintPlay(); }
  hide() { $("controls").hidden = true; $("bigplay").hidden = true; this.closeMenus(); }
  get shown() { return !$("controls").hidden; }

  // ---- time

  /** A growing recording is as long as its source says, not as what is encoded of it. */
  get end() {
    const d = this.video.duration;
    if (this.isLive) { const s = this.video.seekable; return s.length ? s.end(s.length - 1) : 0; }
    const real = Number.isFinite(d) ? d : 0;
    return this.engine?.growing ? Math.max(real, this.knownDuration) : real || this.knownDuration;
  }
  get start() { const s = this.video.seekable; return this.isLive && s.length ? s.start(0) : 0; }
  get reach() {
    const s = this.video.seekable;
    return this.engine?.growing && s.length ? s.end(s.length - 1) : this.end;
  }

  seekTo(t) {
    if (!this.shown || !(this.end > 0)) return;
    const room = this.engine?.growing ? 0.5 : 0.05;
    this.video.currentTime = Math.min(Math.max(this.start, t), Math.max(0, this.reach - room));
  }
  seekBy(s) { this.seekTo(this.video.currentTime + s); this.osd(`${s > 0 ? "+" : "−"}${Math.abs(s)} s`); }

  async toggle() {
    if (!this.shown) return;
    if (this.video.paused || this.video.ended) await this.video.play().catch(() => {});
    else this.video.pause();
  }

  paint() {
    const { video: v, start, end } = this;
    const span = end - start;
    const t = this.scrubbing ? Number($("seek-input").value) : v.currentTime;
    const at = (x) => `${span > 0 ? Math.min(100, Math.max(0, ((x - start) / span) * 100)) : 0}%`;
    $("seek-played").style.width = at(t);
    const pending = $("seek-pending");
    pending.style.width = !this.isLive && this.engine?.growing && span > 0 ? `${Math.max(0, ((end - this.reach) / span) * 100)}%` : "0";
    const box = $("seek-buffered");
    while (box.children.length > v.buffered.length) box.lastChild.remove();
    for (let i = 0; i < v.buffered.length; i += 1) {
      const bit = box.children[i] ?? box.appendChild(document.createElement("i"));
      bit.style.left = at(v.buffered.start(i));
      bit.style.right = `calc(100% - ${at(v.buffered.end(i))})`;
    }
    const input = $("seek-input");
    input.min = start;
    input.max = span > 0 ? end : 1;
    if (!this.scrubbing) input.value = t;
    if (this.isLive) {
      const behind = Math.max(0, (this.engine?.edge ?? end) - t);
      $("now").textContent = behind > 10 ? `−${clock(behind)}` : "";
      $("total").parentElement.hidden = behind <= 10;
      $("total").previousElementSibling.textContent = $("total").textContent = "";
      $("live").hidden = false;
      $("live").dataset.edge = behind <= 10;
      input.setAttribute("aria-valuetext", behind > 10 ? `${spoken(behind)} behind live` : "live");
    } else {
      $("now").textContent = clock(t);
      $("total").textContent = end > 0 ? clock(end) : "–:––";
      input.setAttribute("aria-valuetext", `${spoken(t)} of ${spoken(end)}`);
    }
  }

  wireSeek() {
    const input = $("seek-input");
    const box = $("seek");
    input.addEventListener("input", () => { this.scrubbing = true; this.preview(Number(input.value)); this.paint(); });
    input.addEventListener("change", () => { this.scrubbing = false; this.seekTo(Number(input.value)); this.glance(Number(input.value)); this.paint(); });
    box.addEventListener("pointermove", (e) => {
      const r = box.getBoundingClientRect();
      const f = Math.min(1, Math.max(0, (e.clientX - r.left) / r.width));
      if (!(this.end > 0)) return;
      $("seek-hover").style.width = `${f * 100}%`;
      this.preview(this.start + f * (this.end - this.start));
    });
    box.addEventListener("pointerleave", () => { this.hidePreview(); $("seek-hover").style.width = "0"; });
    box.addEventListener("pointerenter", () => this.storyboard?.load());
    // A picture that was waited for.
    if (this.storyboard) this.storyboard.onload = () => { if (this.previewed !== null) this.drawPreview(this.previewed); };
  }

  /** Time and picture of `t` over the bar, until the pointer leaves. */
  preview(t) {
    clearTimeout(this.glanceTimer);
    this.storyboard?.load();
    this.drawPreview(t);
  }

  /** The same for a moment. */
  glance(t) {
    if (!(this.end > 0)) return;
    this.preview(t);
    this.glanceTimer = setTimeout(() => this.hidePreview(), GLANCE_MS);
  }

  hidePreview() {
    clearTimeout(this.glanceTimer);
    this.previewed = null;
    $("seek-tip").hidden = true;
  }

  drawPreview(t) {
    this.previewed = t;
    const tip = $("seek-tip");
    const { width } = $("seek").getBoundingClientRect();
    const f = Math.min(1, Math.max(0, (t - this.start) / (this.end - this.start || 1)));
    tip.hidden = false;
    const shot = this.storyboard?.paint($("seek-shot"), t, Math.min(176, width / 3)) ?? false;
    $("seek-shot").hidden = !shot;
    const waiting = t > this.reach + 0.5;
    $("seek-time").textContent = this.isLive ? `−${clock(this.end - t)}` : waiting ? `${clock(t)}, not milled yet` : clock(t);
    const half = tip.offsetWidth / 2;
    tip.style.left = `${Math.min(width - half, Math.max(half, f * width))}px`;
  }

  // ---- buttons

  wireButtons() {
    const { video: v } = this;
    $("play").addEventListener("click", () => this.toggle());
    $("bigplay").addEventListener("click", () => this.toggle());
    v.addEventListener("click", () => {
      // A touch shows the bar first; only a mouse plays and pauses by clicking the picture.
      if (this.closeMenus()) return;
      if (this.lastPointer === "touch" && this.wasIdle) return;
      this.toggle();
    });
    v.addEventListener("dblclick", () => this.fullscreen());
    $("mute").addEventListener("click", () => { v.muted = !v.muted; });
    $("volume").addEventListener("input", (e) => { v.volume = Number(e.target.value); v.muted = v.volume === 0; });
    $("live").addEventListener("click", () => { if (this.engine?.edge) v.currentTime = this.engine.edge; v.play().catch(() => {}); });
    $("unmute").addEventListener("click", () => { v.muted = false; if (v.volume === 0) v.volume = 1; });
    $("fullscreen").addEventListener("click", () => this.fullscreen());
    document.addEventListener("fullscreenchange", () => {
      const on = Boolean(document.fullscreenElement);
      setIcon($("fullscreen-use"), on ? "fullscreen-exit" : "fullscreen");
      $("fullscreen").setAttribute("aria-label", on ? "Leave full screen" : "Full screen");
    });
    $("fullscreen").hidden = !(document.fullscreenEnabled || v.webkitEnterFullscreen);
    const pip = $("pip");
    pip.hidden = !(document.pictureInPictureEnabled && v.requestPictureInPicture);
    pip.addEventListener("click", async () => {
      try { await (document.pictureInPictureElement ? document.exitPictureInPicture() : v.requestPictureInPicture()); } catch { this.osd("Picture in picture is not possible now"); }
    });
    $("stats-toggle").addEventListener("click", () => {
      const on = $("stats").hidden;
      $("stats").hidden = !on;
      $("stats-toggle").setAttribute("aria-pressed", String(on));
      this.paintStats();
    });
  }

  fullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.root.requestFullscreen) this.root.requestFullscreen().catch(() => this.osd("Full screen is not possible here"));
    else this.video.webkitEnterFullscreen?.();
  }

  paintPlay() {
    const { video: v } = this;
    const name = v.ended ? "replay" : v.paused ? "play" : "pause";
    const label = v.ended ? "Play again" : v.paused ? "Play" : "Pause";
    setIcon($("play-use"), name);
    $("play").setAttribute("aria-label", label);
    $("play").title = `${label} (k)`;
    $("bigplay").hidden = !(this.shown && v.paused && !v.ended && (this.isLive || v.played.length === 0));
    this.wake();
  }

  restoreVolume() {
    try {
      const saved = JSON.parse(localStorage.getItem(KEY) ?? "null");
      if (saved) { this.video.volume = Math.min(1, Math.max(0, saved.volume)); this.video.muted = Boolean(saved.muted); }
    } catch { /* private mode, or somebody else's value */ }
  }

  paintVolume() {
    const { video: v } = this;
    const level = v.muted ? 0 : v.volume;
    setIcon($("mute-use"), level === 0 ? "muted" : level < 0.5 ? "volume-low" : "volume");
    $("mute").setAttribute("aria-label", v.muted ? "Unmute" : "Mute");
    $("mute").title = v.muted ? "Unmute (m)" : "Mute (m)";
    $("volume").value = level;
    $("volume").style.setProperty("--at", `${level * 100}%`);
    $("volume").setAttribute("aria-valuetext", `${Math.round(level * 100)} %`);
    if (!v.muted) $("unmute").hidden = true;
    if (this.muteIsOurs && v.muted) return; // muted to be let start, not by a person
    this.muteIsOurs = false;
    try { localStorage.setItem(KEY, JSON.stringify({ volume: v.volume, muted: v.muted })); } catch { /* private mode */ }
  }

  volumeBy(step) {
    const { video: v } = this;
    v.muted = false;
    v.volume = Math.min(1, Math.max(0, Math.round((v.volume + step) * 20) / 20));
    this.osd(`Volume ${Math.round(v.volume * 100)} %`);
  }

  // ---- menus

  wireMenus() {
    const fillers = { quality: () => this.fillQuality(), speed: () => this.fillSpeed(), sound: () => this.fillSound(), captions: () => this.fillCaptions() };
    for (const button of MENUS) {
      const [menu, fill] = [`${button}-menu`, fillers[button]];
      $(button).addEventListener("click", () => {
        const open = $(menu).hidden;
        this.closeMenus();
        if (!open) return;
        fill();
        $(menu).hidden = false;
        $(button).setAttribute("aria-expanded", "true");
        ($(menu).querySelector('[aria-checked="true"]') ?? $(menu).firstChild)?.focus();
        this.wake();
      });
      $(menu).addEventListener("keydown", (e) => {
        const items = [...$(menu).children];
        const i = items.indexOf(document.activeElement);
        const to = { ArrowDown: (i + 1) % items.length, ArrowUp: (i - 1 + items.length) % items.length, Home: 0, End: items.length - 1 }[e.key];
        if (to !== undefined) items[to].focus();
        else if (e.key === "Escape") { this.closeMenus(); $(button).focus(); }
        else if (e.key === "Tab") { this.closeMenus(); return; }
        else if (e.key !== "Enter" && e.key !== " ") return;
        e.stopPropagation();
        if (to !== undefined || e.key === "Escape") e.preventDefault();
      });
    }
    document.addEventListener("pointerdown", (e) => { if (!e.target.closest(".menu, [aria-haspopup]")) this.closingByPointer = this.closeMenus(); });
  }

  closeMenus() {
    let closed = this.closingByPointer ?? false;
    this.closingByPointer = false;
    for (const button of MENUS) {
      const menu = `${button}-menu`;
      if ($(menu).hidden) continue;
      closed = true;
      $(menu).hidden = true;
      $(button).setAttribute("aria-expanded", "false");
    }
    return closed;
  }

  item(name, sub, checked, button, pick) {
    return el("button", { class: "item", type: "button", role: "menuitemradio", "aria-checked": String(checked), tabindex: "-1",
      onclick: () => { pick(); this.closeMenus(); $(button).focus(); } },
      icon("check"), el("span", { class: "item-name" }, name), el("span", { class: "item-sub" }, sub));
  }

  fillQuality() {
    const { engine } = this;
    const now = engine.playing;
    const steered = this.steering?.on ?? false;
    const choose = (index, steer) => { engine.select(index); this.steering?.turn(steer); this.paintQuality(); };
    const auto = (name, sub, on, steer) => this.item(name, on && now ? `now ${now.name}` : sub, on, "quality", () => choose(-1, steer));
    const items = [auto("Auto", "fits the connection", engine.auto && !steered, false)];
    if (this.steering?.possible) items.push(auto("Automatic (Reelmill)", "the farm chooses", engine.auto && steered, true));
    for (const l of engine.levels) {
      const node = this.item(l.name, l.detail, !engine.auto && engine.current?.index === l.index, "quality", () => { choose(l.index, false); this.osd(l.name); });
      node.dataset.level = l.index;
      items.push(node);
    }
    $("quality-menu").replaceChildren(...items);
  }

  fillSpeed() {
    // The default is what an element that is loaded again goes back to.
    const pick = (s) => { this.video.defaultPlaybackRate = s; this.video.playbackRate = s; };
    $("speed-menu").replaceChildren(...SPEEDS.map((s) => this.item(`${s}×`, s === 1 ? "normal" : "", this.video.playbackRate === s, "speed", () => pick(s))));
  }

  paintQuality() {
    const { engine } = this;
    if (!engine) return;
    $("quality").hidden = engine.levels.length === 0;
    const now = engine.auto ? engine.playing : engine.current;
    const by = this.steering?.on ? "Automatic (Reelmill)" : "Auto";
    const text = engine.auto ? (now ? `${by} ${now.name}` : by) : now?.name ?? "Auto";
    $("quality-auto").hidden = !engine.auto;
    $("quality-auto").textContent = this.steering?.on ? "Reelmill" : "Auto";
    $("quality-label").textContent = now?.name ?? "";
    $("quality").setAttribute("aria-label", `Quality: ${text}`);
    if (!$("quality-menu").hidden) {
      const at = [...$("quality-menu").children].indexOf(document.activeElement);
      this.fillQuality();
      $("quality-menu").children[at]?.focus();
    }
  }

  // ---- tracks

  fillSound() {
    const { engine } = this;
    $("sound-menu").replaceChildren(...engine.tracks.map((t) =>
      this.item(t.name, t.detail, t.on, "sound", () => { engine.hear(t.index); this.paintTracks(); this.osd(t.name); })));
  }

  fillCaptions() {
    const { engine } = this;
    const shown = engine.texts.some((t) => t.on);
    const items = engine.texts.map((t) => this.item(t.name, t.detail, t.on, "captions", () => this.caption(t)));
    $("captions-menu").replaceChildren(this.item("Off", "", !shown, "captions", () => this.caption(null)), ...items);
  }

  /** Shows a text track, or none. */
  caption(text) {
    if (text) this.lastText = text.name;
    this.engine.read(text ? text.index : -1);
    this.paintTracks();
    this.osd(text ? text.name : "Subtitles off");
  }

  toggleCaptions() {
    const texts = this.engine?.texts ?? [];
    if (texts.length === 0) return;
    this.caption(texts.some((t) => t.on) ? null : texts.find((t) => t.name === this.lastText) ?? texts[0]);
  }

  /** A choice of one is none. */
  paintTracks() {
    const { engine } = this;
    if (!engine) return;
    const { tracks, texts } = engine;
    $("sound").hidden = tracks.length < 2;
    const heard = tracks.find((t) => t.on);
    $("sound-label").textContent = heard?.name ?? "Audio";
    $("sound").setAttribute("aria-label", `Audio track: ${heard?.name ?? "default"}`);
    $("captions").hidden = texts.length === 0;
    const read = texts.find((t) => t.on);
    $("captions").dataset.on = String(Boolean(read));
    $("captions").setAttribute("aria-label", `Subtitles: ${read?.name ?? "off"}`);
  }

  // ---- keyboard

  wireKeys() {
    document.addEventListener("keydown", (e) => {
      if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || !this.shown) return;
      const on = e.target;
      const typing = on.closest?.("textarea, select, [contenteditable], input:not([type=range])");
      if (typing) return;
      const pressable = on.closest?.("button, a, summary");
      if ((e.key === " " || e.key === "Enter") && pressable) return; // that press belongs to what has the focus
      const onVolume = on === $("volume");
      const key = e.key.length === 1 ? e.key.toLowerCase() : e.key;
      const act = {
        " ": () => this.toggle(),
        k: () => this.toggle(),
        ArrowLeft: () => (onVolume ? this.volumeBy(-0.05) : this.seekBy(-5)),
        ArrowRight: () => (onVolume ? this.volumeBy(0.05) : this.seekBy(5)),
        j: () => this.seekBy(-10),
        l: () => this.seekBy(10),
        ArrowUp: () => this.volumeBy(0.05),
        ArrowDown: () => this.volumeBy(-0.05),
        m: () => { this.video.muted = !this.video.muted; this.osd(this.video.muted ? "Muted" : "Sound on"); },
        f: () => this.fullscreen(),
        c: () => this.toggleCaptions(),
        Home: on === $("seek-input") ? () => this.seekTo(this.start) : null,
        End: on === $("seek-input") ? () => this.seekTo(this.reach) : null,
      }[key] ?? (/^[0-9]$/.test(key) ? () => { this.seekTo(this.start + (Number(key) / 10) * (this.end - this.start)); this.osd(`${key}0 %`.replace(/^00/, "0")); } : null);
      if (!act) return;
      e.preventDefault();
      const before = this.video.currentTime;
      act();
      if (this.video.currentTime !== before) this.glance(this.video.currentTime);
      this.wake();
    });
  }

  // ---- coming and going

  wireIdle() {
    const wake = (e) => { this.lastPointer = e.pointerType; this.wasIdle = this.root.dataset.idle === "true"; this.wake(); };
    this.root.addEventListener("pointermove", wake);
    this.root.addEventListener("pointerdown", wake);
    this.root.addEventListener("focusin", () => this.wake());
    this.root.addEventListener("pointerleave", (e) => { if (e.pointerType === "mouse") this.sleepSoon(400); });
  }
  wake() { this.root.dataset.idle = "false"; this.sleepSoon(IDLE_MS); }
  sleepSoon(ms) {
    clearTimeout(this.idleTimer);
    this.idleTimer = setTimeout(() => {
      const held = this.video.paused || this.scrubbing || MENUS.some((button) => !$(`${button}-menu`).hidden) || $("controls").querySelector(":focus-visible") || (this.lastPointer === "mouse" && $("controls").querySelector(".row:hover, .seek:hover"));
      this.root.dataset.idle = String(!held);
    }, ms);
  }

  osd(text) {
    const box = $("osd");
    box.textContent = text;
    box.dataset.on = "true";
    clearTimeout(this.osdTimer);
    this.osdTimer = setTimeout(() => { box.dataset.on = "false"; }, 700);
  }

  // ---- statistics

  paintStats() {
    if ($("stats").hidden || !this.engine) return;
    const { video: v, engine } = this;
    const now = engine.playing;
    $("st-rung").textContent = now ? `${now.name}  ${now.detail}` : "–";
    $("st-bw").textContent = Number.isFinite(engine.bandwidth) ? bitrate(engine.bandwidth) : "not known";
    let ahead = 0;
    for (let i = 0; i < v.buffered.length; i += 1) if (v.buffered.start(i) <= v.currentTime + 0.1 && v.buffered.end(i) > v.currentTime) ahead = v.buffered.end(i) - v.currentTime;
    $("st-buffer").textContent = `${ahead.toFixed(1)} s ahead`;
    const q = v.getVideoPlaybackQuality?.();
    $("st-drop").textContent = q ? `${q.droppedVideoFrames} of ${q.totalVideoFrames} frames` : "not known";
    $("st-latency-row").hidden = !this.isLive;
    if (this.isLive) $("st-latency").textContent = Number.isFinite(engine.latency) ? `${engine.latency.toFixed(1)} s` : "–";
    $("st-engine").textContent = engine.kind;
  }
}
