// Pictures over the seek bar, from a WebVTT storyboard (cues that name `sheet.jpg#xywh=x,y,w,h`). Nothing is loaded before
// somebody seeks, and of the sheets only those that are looked at; until one is there, there is only the time.

const AGAIN_MS = 5000;

const stamp = (t) => t.trim().split(":").reduce((all, part) => all * 60 + Number(part), 0);

/** Cues in order of time: from, to, sheet, and the part of it. */
export function parse(text, base) {
  const cues = [];
  for (const block of text.split(/\r?\n\r?\n/)) {
    const lines = block.split(/\r?\n/);
    const i = lines.findIndex((l) => l.includes("-->"));
    const m = lines[i + 1]?.match(/^(.*)#xywh=(?:pixel:)?(\d+),(\d+),(\d+),(\d+)/);
    if (i < 0 || !m) continue;
    const [from, to] = lines[i].split("-->").map((s) => stamp(s.trim().split(/\s/)[0]));
    cues.push({ from, to, src: new URL(m[1], base).href, x: +m[2], y: +m[3], w: +m[4], h: +m[5] });
  }
  return cues;
}

export class Storyboard {
  /** `find` gives the storyboard's URL, or nothing while there is none; `rewrite` puts the newest token into a URL. */
  constructor(find, rewrite) {
    Object.assign(this, { find, rewrite, cues: [], sheets: new Map(), asked: -Infinity, onload: () => {} });
  }

  /** Asked for whenever somebody comes near; a storyboard that is not there yet is asked for again after a while. */
  async load() {
    if (this.cues.length || performance.now() - this.asked < AGAIN_MS) return;
    this.asked = performance.now();
    try {
      const url = await this.find();
      if (!url) return;
      const answer = await fetch(this.rewrite(url));
      if (!answer.ok) return;
      this.cues = parse(await answer.text(), answer.url);
      this.onload();
    } catch { /* the time alone will do */ }
  }

  /** Shows the picture of a time in `box`, at most `width` pixels wide; false where there is none, or not yet. */
  paint(box, t, width) {
    const at = this.cues.findIndex((c) => t < c.to);
    const cue = this.cues[at < 0 ? this.cues.length - 1 : at];
    if (!cue) return false;
    const sheet = this.sheet(cue.src);
    if (!sheet.complete || !sheet.naturalWidth) return false;
    const zoom = Math.min(1, width / cue.w);
    Object.assign(box.style, {
      width: `${cue.w * zoom}px`,
      height: `${cue.h * zoom}px`,
      backgroundImage: `url("${sheet.src}")`,
      backgroundSize: `${sheet.naturalWidth * zoom}px ${sheet.naturalHeight * zoom}px`,
      backgroundPosition: `${-cue.x * zoom}px ${-cue.y * zoom}px`,
    });
    return true;
  }

  sheet(src) {
    let sheet = this.sheets.get(src);
    if (!sheet) {
      sheet = new Image();
      sheet.addEventListener("load", () => this.onload());
      // Under another token it may come the next time.
      sheet.addEventListener("error", () => setTimeout(() => this.sheets.delete(src), AGAIN_MS));
      sheet.src = this.rewrite(src);
      this.sheets.set(src, sheet);
    }
    return sheet;
  }
}
