// Keeps a document up to date: a server-sent event announces a new version, a request fetches it.
// Invariants: without events for a while it polls; it never stops trying, and waits for no answer
// without a limit. A server that says nothing for LOST_MS is lost, whatever its connection says.

import { serverQuery } from "./state.js";

const SILENCE_MS = 3000;
const LOST_MS = 4500;
const ANSWER_MS = 30000;
export const POLL_MS = 3000;
const REOPEN_MS = [500, 1000, 2000, 4000];

export class Live {
  /**
   * @param page name of the page
   * @param onDocument called with each new document
   * @param onState called with {mode, trouble}; mode is live, polling or lost
   */
  constructor(page, onDocument, onState) {
    this.page = page;
    this.onDocument = onDocument;
    this.onState = onState;
    this.version = "";
    this.offset = 0;
    this.heard = 0;
    this.contact = Date.now();
    this.failures = 0;
    this.trouble = "";
    this.generation = 0;
    this.ready = null;
    setInterval(() => this.watch(), 1000);
  }

  /** The server's time, milliseconds since 1970. */
  now() {
    return Date.now() + this.offset;
  }

  /** Starts, or restarts after the view has changed. */
  async start() {
    this.generation += 1;
    this.version = "";
    this.source?.close();
    this.heard = Date.now(); // events have time to begin
    await this.load();
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.source?.close();
    const source = new EventSource(`/live/${this.page}?${serverQuery(this.page)}`);
    this.source = source;
    source.addEventListener("tick", (event) => {
      const tick = JSON.parse(event.data);
      this.heard = this.contact = Date.now();
      this.failures = 0;
      this.offset = tick.now_ms - Date.now();
      this.trouble = tick.trouble;
      this.report("live");
      if (tick.version !== this.version) this.load();
    });
    source.addEventListener("error", () => {
      // browsers do not reconnect after an answer other than 200, so this does
      if (source !== this.source) return;
      if (source.readyState === EventSource.CLOSED) this.reopen();
      this.poll(); // shows at once whether the server is gone
    });
  }

  reopen() {
    if (this.timer) return;
    const wait = REOPEN_MS[Math.min(this.failures, REOPEN_MS.length - 1)];
    this.failures += 1;
    this.timer = setTimeout(() => this.open(), wait); // open() clears it
  }

  watch() {
    if (Date.now() - this.contact > LOST_MS) this.report("lost");
    if (document.hidden || Date.now() - this.heard < SILENCE_MS) return;
    if (this.source?.readyState === EventSource.CLOSED) this.reopen();
    this.poll();
  }

  poll() {
    if (Date.now() - (this.polled ?? 0) < POLL_MS) return;
    this.polled = Date.now();
    this.load();
  }

  async load() {
    if (this.loading === this.generation) {
      this.again = true;
      return;
    }
    const generation = (this.loading = this.generation);
    try {
      const known = this.version ? { "If-None-Match": `"${this.version}"` } : {};
      const answer = await fetch(`/api/${this.page}?${serverQuery(this.page)}`, {
        headers: known, cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS),
      });
      if (generation !== this.generation) return;
      if (answer.status === 401) location.assign("/login?next=" + encodeURIComponent(location.pathname + location.search));
      await this.took(answer);
    } catch {
      if (generation === this.generation) this.report("lost");
    } finally {
      if (this.loading === generation) this.loading = 0;
      if (this.again) {
        this.again = false;
        this.load();
      }
    }
  }

  async took(answer) {
    this.contact = Date.now();
    const now = Number(answer.headers.get("x-now-ms"));
    if (now) this.offset = now - Date.now();
    this.trouble = decodeURIComponent(answer.headers.get("x-trouble") ?? "");
    if (answer.status === 200) {
      this.version = (answer.headers.get("etag") ?? "").replaceAll('"', "");
      const next = await answer.json();
      await this.ready; // the page's modules load in parallel with its first document
      this.onDocument(next);
    } else if (answer.status === 400) {
      this.trouble = (await answer.json()).detail;
    } else if (answer.status !== 304 && answer.status !== 503) {
      throw new Error(`status ${answer.status}`);
    }
    this.report(Date.now() - this.heard < SILENCE_MS ? "live" : "polling");
  }

  report(mode) {
    this.onState({ mode, trouble: this.trouble });
  }
}
