// Keeps a document up to date: a server-sent event announces a new version, a request fetches it.
// Invariants: without events for a while it polls; it never stops trying, and waits for no answer
// without a limit. A server that has said nothing for LOST_MS by its own clock is lost, whatever its
// connection says: it speaks each second (hub.BEAT_S), so within 5 s of the last word that is shown.

import { Beat } from "./beat.js";
import { serverQuery } from "./state.js";

const SILENCE_MS = 3000;
export const LOST_MS = 4000;
export const WATCH_MS = 250;
const ANSWER_MS = 30000;
const HUNG_MS = 8000; // of a lost server: a request may hang on a dead connection
const STALLED_MS = 15000; // so may a stream
export const POLL_MS = 2000;
const REOPEN_MS = [500, 1000, 2000, 4000];
const OLD_MS = 4000;
const clockMs = () => performance.now(); // nobody sets it

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
    this.heard = 0;
    this.beat = new Beat(clockMs());
    this.builtMs = 0;
    this.intervalMs = 0;
    this.failures = 0;
    this.trouble = "";
    this.generation = 0;
    this.ready = null;
    setInterval(() => this.watch(), WATCH_MS);
    document.addEventListener("visibilitychange", () => this.watch()); // timers of hidden pages sleep
  }

  /** The server's time, milliseconds since 1970. */
  now() {
    return this.beat.serverMs(clockMs()) ?? Date.now();
  }

  /** How old figures may be, seconds, before they are not what happens now. */
  limitS() {
    return Math.max(OLD_MS, 2 * this.intervalMs) / 1000;
  }

  /** Since when the figures are what they are, seconds; 0 while there are none. */
  ageS() {
    return this.builtMs ? (this.now() - this.builtMs) / 1000 : 0;
  }

  /** Starts, or restarts after the view has changed. */
  async start() {
    this.generation += 1;
    this.version = "";
    this.source?.close();
    this.builtMs = 0;
    this.heard = clockMs(); // events have time to begin
    const loaded = this.load();
    this.open(); // at once: while the first document is made, the server is heard
    await loaded;
  }

  open() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.source?.close();
    this.opened = clockMs();
    const source = new EventSource(`/live/${this.page}?${serverQuery(this.page)}`);
    this.source = source;
    source.addEventListener("tick", (event) => {
      const tick = JSON.parse(event.data);
      this.heard = clockMs();
      this.failures = 0;
      this.trouble = tick.trouble;
      this.intervalMs = tick.interval_ms;
      this.beat.heard(tick.now_ms, this.heard);
      if (tick.version && tick.version === this.version) this.builtMs = tick.built_ms;
      this.report(this.isLost() ? "lost" : "live"); // it may have waited in a buffer
      if (tick.version && tick.version !== this.version) this.load();
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

  isLost() {
    return this.beat.silentMs(clockMs()) > LOST_MS;
  }

  watch() {
    const now = clockMs();
    const lost = this.isLost();
    if (lost) this.report("lost");
    if (lost && this.loading && now - this.asked > HUNG_MS) this.asking?.abort();
    if (document.hidden || now - this.heard < SILENCE_MS) return;
    const stalled = this.source && now - Math.max(this.heard, this.opened) > STALLED_MS;
    if (stalled || this.source?.readyState === EventSource.CLOSED) this.reopen();
    this.poll();
  }

  poll() {
    if (clockMs() - (this.polled ?? -POLL_MS) < POLL_MS) return;
    this.polled = clockMs();
    this.load();
  }

  async load() {
    if (this.loading === this.generation) {
      this.again = true;
      return;
    }
    const generation = (this.loading = this.generation);
    const asking = (this.asking = new AbortController());
    const limit = setTimeout(() => asking.abort(), ANSWER_MS);
    this.asked = clockMs();
    try {
      const known = this.version ? { "If-None-Match": `"${this.version}"` } : {};
      const answer = await fetch(`/api/${this.page}?${serverQuery(this.page)}`, {
        headers: known, cache: "no-store", signal: asking.signal,
      });
      if (generation !== this.generation) return;
      if (answer.status === 401) location.assign("/login?next=" + encodeURIComponent(location.pathname + location.search));
      await this.took(answer);
    } catch {
      if (generation === this.generation) this.report("lost");
    } finally {
      clearTimeout(limit);
      if (this.loading === generation) this.loading = 0;
      if (this.again) {
        this.again = false;
        this.load();
      }
    }
  }

  async took(answer) {
    const number = (name) => Number(answer.headers.get(name));
    if (number("x-now-ms")) this.beat.heard(number("x-now-ms"), clockMs());
    this.intervalMs = number("x-interval-ms") || this.intervalMs;
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
    if (answer.status === 200 || answer.status === 304) this.builtMs = number("x-built-ms");
    this.report(this.isLost() ? "lost" : clockMs() - this.heard < SILENCE_MS ? "live" : "polling");
  }

  report(mode) {
    this.onState({ mode, trouble: this.trouble });
  }
}
