// Decisions over time as a picture: what the network was taken to carry and what was chosen, and below how full the buffer was.

import { bitrate } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDE = 600;
const RATES = { top: 6, height: 92 };
const BUFFER = { top: 110, height: 44 };

/** Draws points {rung, bitrate, predicted, buffer, full}, oldest first. */
export function plot(svg, points) {
  const most = Math.max(...points.map((p) => Math.max(p.bitrate, p.predicted ?? 0)), 1);
  const x = (n) => (points.length > 1 ? (n / (points.length - 1)) * WIDE : WIDE);
  // Rungs are far apart at the top and close together below: by the root, all can be told apart.
  const rate = (r) => RATES.top + RATES.height * (1 - Math.sqrt(Math.max(0, r) / most));
  const level = (p) => BUFFER.top + BUFFER.height * (1 - Math.min(1, p.buffer / p.full));
  const line = (y) => points.map((p, n) => (y(p) === null ? null : `${x(n).toFixed(1)},${y(p).toFixed(1)}`)).filter(Boolean).join(" ");
  // A rung is chosen until the next decision.
  const steps = points.flatMap((p, n) => [n ? `${x(n).toFixed(1)},${rate(points[n - 1].bitrate).toFixed(1)}` : null, `${x(n).toFixed(1)},${rate(p.bitrate).toFixed(1)}`]).filter(Boolean).join(" ");
  const bottom = BUFFER.top + BUFFER.height;
  svg.replaceChildren(
    shape("polygon", "abr-buffer", `${x(0)},${bottom} ${line(level)} ${WIDE},${bottom}`),
    shape("polyline", "abr-network", line((p) => (p.predicted ? rate(p.predicted) : null))),
    shape("polyline", "abr-chosen", steps),
  );
  const last = points[points.length - 1];
  const rungs = [...new Set(points.map((p) => p.rung))].join(", ");
  svg.setAttribute("aria-label", `The last ${points.length} decisions: ${rungs}. Now ${last.rung} at ${bitrate(last.bitrate)}, the network at ${bitrate(last.predicted)}, ${last.buffer.toFixed(0)} seconds in the buffer.`);
}

function shape(name, kind, points) {
  const node = document.createElementNS(SVG, name);
  node.setAttribute("class", kind);
  node.setAttribute("points", points);
  return node;
}
