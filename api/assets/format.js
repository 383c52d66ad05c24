// Words and numbers as people read them, and the two or three lines of DOM everyone needs.

const pad = (n) => String(n).padStart(2, "0");

/** 3725 → "1:02:05" */
export function clock(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "–:––";
  const s = Math.floor(seconds);
  const h = Math.floor(s / 3600);
  const m = Math.floor((s % 3600) / 60);
  return h ? `${h}:${pad(m)}:${pad(s % 60)}` : `${m}:${pad(s % 60)}`;
}

/** 65 → "1 minute 5 seconds", for screen readers */
export function spoken(seconds) {
  const s = Math.max(0, Math.floor(seconds || 0));
  const part = (n, word) => (n ? `${n} ${word}${n === 1 ? "" : "s"} ` : "");
  return (part(Math.floor(s / 3600), "hour") + part(Math.floor((s % 3600) / 60), "minute") + part(s % 60, "second")).trim() || "0 seconds";
}

/** 95 → "1 min 35 s" */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return s % 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${s / 60} min`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

export function bitrate(bps) {
  if (!Number.isFinite(bps) || bps <= 0) return "–";
  if (bps >= 1e6) return `${(bps / 1e6).toFixed(bps >= 1e7 ? 0 : 1)} Mbit/s`;
  return `${Math.round(bps / 1e3)} kbit/s`;
}

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  while (n >= 1000 && i < units.length - 1) { n /= 1000; i += 1; }
  return `${n >= 100 || i === 0 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
}

export const percent = (p) => `${Math.floor(Math.min(1, Math.max(0, p)) * 100)} %`;

export function ago(iso) {
  const s = (Date.now() - Date.parse(iso)) / 1000;
  if (!Number.isFinite(s)) return "";
  if (s < 45) return "just now";
  if (s < 3600) return `${Math.max(1, Math.round(s / 60))} min ago`;
  if (s < 86400) return `${Math.round(s / 3600)} h ago`;
  if (s < 86400 * 30) return `${Math.round(s / 86400)} d ago`;
  return new Date(iso).toLocaleDateString(undefined, { year: "numeric", month: "short", day: "numeric" });
}

/** Keeps every <time data-rel> under `root` true. */
export function freshenTimes(root = document) {
  for (const t of root.querySelectorAll("time[data-rel]")) {
    const words = ago(t.dateTime);
    if (!words) continue;
    t.textContent = words;
    t.title = new Date(t.dateTime).toLocaleString();
  }
}

export const $ = (id) => document.getElementById(id);

/** el("p", {class: "x", onclick: f}, "text", node) */
export function el(tag, attrs = {}, ...children) {
  const node = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs)) {
    if (v === false || v === null || v === undefined) continue;
    if (k.startsWith("on")) node.addEventListener(k.slice(2), v);
    else node.setAttribute(k, v === true ? "" : v);
  }
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false && c !== ""));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";
export function icon(name, cls = "icon") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", cls);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/assets/icons.svg#${name}`);
  svg.append(use);
  return svg;
}
export const setIcon = (use, name) => {
  const href = `/assets/icons.svg#${name}`;
  if (use.getAttribute("href") !== href) use.setAttribute("href", href);
};

/** What an HTTP answer's problem details say, in one sentence. */
export async function problem(response) {
  try {
    const p = await response.json();
    const first = Array.isArray(p.errors) && p.errors[0] ? ` (${[p.errors[0].pointer, p.errors[0].detail].filter(Boolean).join(": ")})` : "";
    return (p.detail || p.title || `The server answered ${response.status}.`) + first;
  } catch {
    return `The server answered ${response.status}.`;
  }
}

/** Copy buttons: <button data-copy="id of what to copy"> */
export function wireCopy(root = document) {
  root.addEventListener("click", async (e) => {
    const button = e.target.closest?.("[data-copy]");
    if (!button) return;
    const text = $(button.dataset.copy)?.textContent ?? "";
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren($(button.dataset.copy));
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
}
