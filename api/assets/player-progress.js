// What the farm is doing with this recording: the cover while there is nothing to play, the bars below it, the table
// of renditions when there are any.

import { $, bitrate, clock, el, percent, setIcon, span } from "./format.js";

export function paintMill(info) {
  const mill = $("mill");
  const busy = info.status === "pending" || info.status === "processing" || info.status === "playable";
  const rungs = info.renditions_progress ?? [];
  mill.hidden = !(busy && rungs.length);
  if (mill.hidden) return;
  $("mill-phase").textContent = [info.phase, Number.isFinite(info.progress) ? percent(info.progress) : ""].filter(Boolean).join(" · ");
  const list = $("mill-rungs");
  for (const r of rungs) {
    let row = [...list.children].find((li) => li.dataset.name === r.name);
    if (!row) {
      row = el("li", { class: "rung", "data-name": r.name },
        el("span", { class: "rung-name", title: r.name }, r.name),
        el("progress", { class: "bar", max: "1", "aria-label": `${r.name}, progress` }),
        el("span", { class: "rung-pct" }),
        el("span", { class: "rung-note" }));
      list.append(row);
    }
    const [, bar, pct, note] = row.children;
    const p = Number(r.progress) || 0;
    bar.value = p;
    pct.textContent = percent(p);
    note.textContent = p >= 1 ? "done" : p === 0 && !r.fps ? "waiting for its turn" : [
      Number.isFinite(r.fps) && r.fps > 0 ? `${Math.round(r.fps)} frames/s` : "",
      Number.isFinite(r.speed) && r.speed > 0 ? `${r.speed >= 10 ? Math.round(r.speed) : r.speed.toFixed(1)}×` : "",
      Number.isFinite(r.eta_seconds) ? `${span(r.eta_seconds)} left` : "",
    ].filter(Boolean).join(" · ");
  }
  for (const li of [...list.children]) if (!rungs.some((r) => r.name === li.dataset.name)) li.remove();
}

export function paintLadder(info) {
  const rungs = [...(info.renditions ?? [])].sort((a, b) => (b.height ?? 0) - (a.height ?? 0) || b.bandwidth - a.bandwidth);
  $("ladder").hidden = rungs.length === 0;
  $("ladder-rows").replaceChildren(...rungs.map((r) => el("tr", {},
    el("td", {}, el("strong", {}, r.name)),
    el("td", {}, r.width ? `${r.width}×${r.height}` : [r.kind, r.label].filter(Boolean).join(", ")),
    el("td", { class: "num" }, bitrate(r.bandwidth)),
    el("td", { class: "num wide-only" }, r.frame_rate ? String(Math.round(r.frame_rate * 100) / 100) : "–"),
    el("td", { class: "wide-only" }, el("code", {}, r.codecs ?? "")))));
}

export function paintHead(info) {
  const chip = $("status-chip");
  if (chip.dataset.status !== info.status) {
    chip.dataset.status = info.status;
    chip.lastElementChild.textContent = info.status;
    setIcon(chip.querySelector("use"), `s-${info.status}`);
  }
  $("meta-duration").textContent = info.duration_seconds > 0 ? clock(info.duration_seconds) : "";
  if (info.title) {
    document.title = `${info.title} · Reelmill`;
    document.querySelector(".watch-head h1").textContent = info.title;
  }
}

/** cover({tone, icon, title, text, bar, action: [label, fn]}) or cover(null) */
export function cover(what) {
  const box = $("cover");
  if (!what) { box.hidden = true; return; }
  box.dataset.tone = what.tone;
  setIcon($("cover-use"), what.icon);
  // Written only when it changed: a live region repeats itself otherwise.
  for (const [id, text] of [["cover-title", what.title], ["cover-text", what.text ?? ""]]) if ($(id).textContent !== text) $(id).textContent = text;
  $("cover-text").hidden = !what.text;
  const bar = $("cover-bar");
  bar.hidden = what.bar === undefined;
  if (Number.isFinite(what.bar)) bar.value = what.bar;
  else bar.removeAttribute("value");
  const button = $("cover-action");
  button.hidden = !what.action;
  button.onclick = what.action ? what.action[1] : null;
  if (what.action) button.textContent = what.action[0];
  box.hidden = false;
}
