// Footage of a camera: the picture, the time it was taken at, and a strip of what there is of the time that was asked for.

const root = document.getElementById("footage");
const video = document.getElementById("video");
const clock = document.getElementById("clock");
const plot = document.getElementById("strip-plot");
const input = document.getElementById("strip-input");
const notice = document.getElementById("notice");

const asked = { from: Date.parse(root.dataset.start), to: Date.parse(root.dataset.end) };
const WIDTH = 1000; // of the plot, in its own units
const NOTICED_MS = 100; // less missing than this is a matter of rounding, here as for the api

let spans = []; // what there is: { at, end } on the timeline of the player in seconds, { from, to } on the clock in milliseconds

const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dated = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function say(text) {
  notice.textContent = text;
  notice.hidden = text === "";
}

/** Joins the segments of a playlist to spans without a discontinuity or a gap. */
function readSpans(fragments) {
  const found = [];
  for (const fragment of fragments) {
    if (fragment.gap || fragment.programDateTime == null) continue;
    const last = found.at(-1);
    const from = fragment.programDateTime;
    const span = { part: fragment.cc, sn: fragment.sn, to: from + fragment.duration * 1000, end: fragment.start + fragment.duration };
    if (last && last.part === span.part && last.sn + 1 === span.sn) Object.assign(last, span);
    else found.push({ from, at: fragment.start, ...span });
  }
  return found;
}

/** The moment, in milliseconds, that was recorded at a place of the player's timeline. */
function momentAt(seconds) {
  const span = spans.find((one) => seconds < one.end) ?? spans.at(-1);
  return span ? span.from + Math.max(0, seconds - span.at) * 1000 : NaN;
}

/** The place on the player's timeline of a moment; in a gap that of what comes after it. */
function placeOf(moment) {
  const span = spans.find((one) => moment < one.to) ?? spans.at(-1);
  return span ? span.at + Math.max(0, Math.min(moment, span.to) - span.from) / 1000 : 0;
}

function gapsOf() {
  const ends = [asked.from, ...spans.map((span) => span.to)];
  const starts = [...spans.map((span) => span.from), asked.to];
  return ends.map((from, n) => ({ from, to: starts[n] })).filter((gap) => gap.to - gap.from > NOTICED_MS);
}

function draw() {
  const scale = WIDTH / (asked.to - asked.from);
  const rectangle = ({ from, to }) => {
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    rect.setAttribute("x", String((from - asked.from) * scale));
    rect.setAttribute("width", String(Math.max(1, (to - from) * scale)));
    rect.setAttribute("height", "28");
    return rect;
  };
  plot.replaceChildren(...spans.map(rectangle));
  Object.assign(input, { min: String(asked.from), max: String(asked.to) });
  const gaps = gapsOf();
  document.getElementById("gap-count").textContent = gaps.length === 1 ? "(1 gap)" : `(${gaps.length} gaps)`;
  document.getElementById("gaps").hidden = gaps.length === 0;
  document.getElementById("gap-rows").replaceChildren(...gaps.map((gap) => {
    const row = document.createElement("tr");
    // The day is said above, where it is one day.
    const moment = new Date(asked.from).toDateString() === new Date(asked.to).toDateString() ? time : dated;
    for (const text of [moment.format(gap.from), moment.format(gap.to), `${((gap.to - gap.from) / 1000).toFixed(1)} s`]) {
      const cell = row.insertCell();
      cell.textContent = text;
    }
    row.cells[2].className = "num";
    return row;
  }));
}

function tick() {
  const moment = momentAt(video.currentTime);
  if (Number.isFinite(moment)) {
    clock.textContent = dated.format(moment);
    clock.dateTime = new Date(moment).toISOString();
    if (document.activeElement !== input || !input.matches(":active")) input.value = String(moment);
    input.setAttribute("aria-valuetext", time.format(moment));
  }
}

/** Calls `each` for every picture that is shown, where the browser tells of them. */
function onPictures(each) {
  if (!video.requestVideoFrameCallback) {
    video.addEventListener("timeupdate", each);
    return;
  }
  const again = () => {
    each();
    video.requestVideoFrameCallback(again);
  };
  video.requestVideoFrameCallback(again);
}

function use(fragments) {
  spans = readSpans(fragments);
  draw();
  tick();
}

async function start() {
  for (const id of ["asked-from", "asked-to"]) {
    const element = document.getElementById(id);
    element.textContent = dated.format(Date.parse(element.dateTime));
  }
  onPictures(tick);
  video.addEventListener("seeked", tick);
  input.addEventListener("input", () => { video.currentTime = placeOf(Number(input.value)); });
  await new Promise((resolve) => {
    const script = document.createElement("script");
    Object.assign(script, { src: "/assets/vendor/hls.min.js", onload: resolve, onerror: resolve });
    document.head.append(script);
  });
  if (!window.Hls?.isSupported()) {
    if (video.canPlayType("application/vnd.apple.mpegurl")) {
      video.src = root.dataset.playlist;
      say("The player library is missing here: the browser plays the footage by itself, and the strip stays empty.");
    } else {
      say("This browser cannot play the footage. Any current Chrome, Edge, Firefox or Safari can; the file can be downloaded.");
    }
    return;
  }
  const hls = new window.Hls({ startPosition: -1, maxBufferLength: 30, backBufferLength: 60 });
  window.footage = { hls, momentAt, placeOf };
  hls.on(window.Hls.Events.LEVEL_LOADED, (_, { details }) => use(details.fragments));
  // Where segments really begin shows when they are there.
  hls.on(window.Hls.Events.LEVEL_PTS_UPDATED, (_, { details }) => use(details.fragments));
  hls.on(window.Hls.Events.ERROR, (_, { fatal, type, details, response }) => {
    if (!fatal) return;
    if (response?.code === 410 || response?.code === 404) say("This session is over. Start another one to go on.");
    else if (type === window.Hls.ErrorTypes.MEDIA_ERROR) hls.recoverMediaError();
    else say(`The footage cannot be had: ${details}.`);
  });
  hls.loadSource(root.dataset.playlist);
  hls.attachMedia(video);
  video.play().catch(() => {});
}

start();
