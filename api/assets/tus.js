// A tus 1.0 client: creation, chunks, resuming after errors and after a reload of the page.

const CHUNK = 16 * 1024 * 1024;
const RETRY_MS = [500, 1000, 2000, 4000, 8000, 16000, 30000];
const HEADERS = { "Tus-Resumable": "1.0.0" };

const base64 = (text) => btoa(String.fromCodePoint(...new TextEncoder().encode(text)));
const key = (file) => `reelmill.tus.${file.name}.${file.size}.${file.lastModified}`;
const store = {
  get: (k) => { try { return localStorage.getItem(k); } catch { return null; } },
  set: (k, v) => { try { v ? localStorage.setItem(k, v) : localStorage.removeItem(k); } catch { /* private mode */ } },
};

export class Upload {
  /** `onprogress(sent, total)`, `onstate(words)` */
  constructor(file, { endpoint = "/api/v1/uploads", onprogress, onstate }) {
    Object.assign(this, { file, endpoint, onprogress, onstate, url: store.get(key(file)), size: CHUNK, stopped: false });
  }

  get id() { return new URL(this.url, location.href).pathname.split("/").filter(Boolean).pop(); }

  /** Resolves to the upload's id when the last byte has arrived. */
  async run() {
    let offset = this.url ? await this.#offset().catch(() => null) : null;
    if (offset === null) offset = await this.#create();
    let failures = 0;
    while (offset < this.file.size) {
      this.onprogress(offset, this.file.size);
      const result = await this.#patch(offset);
      if (this.stopped) throw new DOMException("stopped", "AbortError");
      if (result.offset !== undefined) {
        offset = result.offset;
        failures = 0;
        continue;
      }
      if (result.status === 413 && this.size > 256 * 1024) { this.size /= 2; continue; }
      const final = result.status >= 400 && result.status < 500 && ![409, 423, 429].includes(result.status);
      if (final || failures >= RETRY_MS.length) throw new Error(result.text || `the server answered ${result.status || "nothing"}`);
      this.onstate("Connection lost. Trying again …");
      await new Promise((r) => { setTimeout(r, RETRY_MS[failures]); });
      failures += 1;
      offset = await this.#offset().catch(() => offset) ?? offset;
    }
    this.onprogress(this.file.size, this.file.size);
    store.set(key(this.file), null);
    return this.id;
  }

  async cancel() {
    this.stopped = true;
    this.xhr?.abort();
    store.set(key(this.file), null);
    if (this.url) await fetch(this.url, { method: "DELETE", headers: HEADERS }).catch(() => {});
  }

  async #create() {
    const meta = `filename ${base64(this.file.name)}` + (this.file.type ? `,filetype ${base64(this.file.type)}` : "");
    const answer = await fetch(this.endpoint, { method: "POST", headers: { ...HEADERS, "Upload-Length": String(this.file.size), "Upload-Metadata": meta } });
    const location_ = answer.headers.get("Location");
    if (answer.status !== 201 || !location_) {
      const { problem } = await import("./format.js");
      throw new Error(await problem(answer));
    }
    this.url = new URL(location_, new URL(this.endpoint, location.href)).href;
    store.set(key(this.file), this.url);
    return 0;
  }

  /** How much the server has; null if it does not know this upload any more. */
  async #offset() {
    const answer = await fetch(this.url, { method: "HEAD", headers: HEADERS, cache: "no-store" });
    if (!answer.ok) { if (answer.status < 500) store.set(key(this.file), null); return null; }
    return Number(answer.headers.get("Upload-Offset"));
  }

  // XMLHttpRequest, because fetch still cannot tell how much of a body has gone out.
  #patch(offset) {
    return new Promise((resolve) => {
      const xhr = this.xhr = new XMLHttpRequest();
      xhr.open("PATCH", this.url);
      for (const [k, v] of Object.entries({ ...HEADERS, "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" })) xhr.setRequestHeader(k, v);
      xhr.upload.onprogress = (e) => this.onprogress(offset + e.loaded, this.file.size);
      xhr.onload = () => {
        if (xhr.status === 204 || xhr.status === 200) return resolve({ offset: Number(xhr.getResponseHeader("Upload-Offset")) });
        let text = "";
        try { text = JSON.parse(xhr.responseText).detail; } catch { /* not problem details */ }
        resolve({ status: xhr.status, text });
      };
      xhr.onerror = xhr.onabort = xhr.ontimeout = () => resolve({ status: 0 });
      xhr.send(this.file.slice(offset, offset + this.size));
    });
  }
}
