// The playback token stands in the path (/v/{token}/…) and ends some day. This keeps the newest one and puts it into
// whatever URL is about to be requested, so that playlists fetched under an old token go on working under a new one.

const PREFIX = /^\/v\/[^/]+\//;
const LONGEST = 6 * 3600_000; // timers wrap around after 24 days, and a sleeping laptop's clock jumps

export class Token {
  constructor({ masterUrl, renewUrl, expiresAt }) {
    this.renewUrl = renewUrl;
    const master = new URL(masterUrl, location.href);
    this.current = master.pathname.match(PREFIX)?.[0].slice(3, -1) ?? "";
    this.origins = new Set([location.origin, master.origin]); // media may come from a CDN
    this.expires = Date.parse(expiresAt || "") || 0;
    this.timer = 0;
    this.pending = null;
    this.renewals = 0;
    if (!this.renewUrl) return;
    const look = () => { if (!document.hidden) this.schedule(); };
    document.addEventListener("visibilitychange", look);
    addEventListener("online", look);
    this.schedule();
  }

  /** The same URL under the newest token. */
  rewrite(url) {
    if (!this.current) return url;
    const u = new URL(url, location.href);
    if (!this.origins.has(u.origin) || !PREFIX.test(u.pathname)) return url;
    u.pathname = u.pathname.replace(PREFIX, `/v/${this.current}/`);
    return u.href;
  }

  schedule() {
    clearTimeout(this.timer);
    const left = this.expires ? this.expires - Date.now() : 0;
    // A fifth of what is left, at least half a minute of it where there is that much, stays as margin for retries.
    const wait = this.expires ? left - Math.min(left, Math.max(left / 5, Math.min(30_000, left / 2))) : 5_000;
    this.timer = setTimeout(() => {
      if (this.expires && this.expires - Date.now() > LONGEST) this.schedule();
      else this.renew();
    }, Math.min(LONGEST, Math.max(1_000, wait)));
  }

  /** One request however many ask. Resolves to whether there is a token to go on with. */
  renew() {
    this.pending ??= this.ask().finally(() => { this.pending = null; });
    return this.pending;
  }

  async ask() {
    if (!this.renewUrl) return false;
    clearTimeout(this.timer);
    try {
      const answer = await fetch(this.rewrite(this.renewUrl), { headers: { accept: "application/json" }, cache: "no-store" });
      if (!answer.ok) {
        // 4xx is an answer: this token is over for good. The page needs a reload, which the player says when it fails.
        if (answer.status >= 500 || answer.status === 429) this.retry();
        return false;
      }
      const { token, expires_at } = await answer.json();
      const same = token === this.current;
      this.current = token || this.current;
      this.expires = Date.parse(expires_at || "") || Date.now() + 600_000;
      this.renewals += 1;
      if (same) this.retry(); // the next bucket has not opened yet
      else this.schedule();
      return true;
    } catch {
      this.retry();
      return false;
    }
  }

  retry() {
    clearTimeout(this.timer);
    const left = this.expires - Date.now();
    this.timer = setTimeout(() => this.renew(), Math.min(LONGEST, Math.max(5_000, left / 3)));
  }
}
