// Pictures over the seek bar, from a WebVTT storyboard (cues that name `sprite.jpg#xywh=x,y,w,h`). Loaded when the
// pointer first comes near; without one there is only the time.

const stamp = (t) => t.trim().split(":").reduce((all, part) => all * 60 + Number(part), 0);

export class Storyboard {
  constructor(url) { this.url = url; this.cues = []; }

  load() {
    this.loading ??= fetch(this.url).then(async (answer) => {
      if (!answer.ok) return;
      for (const block of (await answer.text()).split(/\r?\n\r?\n/)) {
        const lines = block.split(/\r?\n/);
        const i = lines.findIndex((l) => l.includes("-->"));
        const m = lines[i + 1]?.match(/^(.*)#xywh=(?:pixel:)?(\d+),(\d+),(\d+),(\d+)/);
        if (i < 0 || !m) continue;
        const [from, to] = lines[i].split("-->").map((s) => stamp(s.trim().split(/\s/)[0]));
        this.cues.push({ from, to, src: new URL(m[1], answer.url).href, x: +m[2], y: +m[3], w: +m[4], h: +m[5] });
      }
      for (const src of new Set(this.cues.slice(0, 200).map((c) => c.src))) new Image().src = src;
    }).catch(() => {});
  }

  paint(box, t, width) {
    const cue = this.cues.find((c) => t >= c.from && t < c.to);
    if (!cue) return false;
    const zoom = Math.min(1, width / cue.w);
    Object.assign(box.style, { width: `${cue.w}px`, height: `${cue.h}px`, backgroundImage: `url("${cue.src}")`, backgroundPosition: `-${cue.x}px -${cue.y}px`, zoom });
    return true;
  }
}
