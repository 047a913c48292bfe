// How long ago the server was heard, by its own clock. Pure: times come in as arguments.
// Invariants: what the server said counts from when it said it, not from when this page got round to
// reading it, so words that waited in a buffer make nothing look younger. The viewer's clock may be
// wrong by any amount and may drift; either clock may be set anew.

const KEPT = 15; // of so many words the quickest tells how far the clocks are apart
const RESET_MS = 60000; // nothing waits in a buffer that long: a clock was set

export class Beat {
  /** @param nowMs of a clock that only goes forward, as are all times below */
  constructor(nowMs) {
    this.heardMs = nowMs;
    this.apart = [];
  }

  /** The server said something at `serverMs` of its clock, which was read at `nowMs`. */
  heard(serverMs, nowMs) {
    const apart = serverMs - nowMs;
    if (this.apart.length && Math.abs(apart - this.most()) > RESET_MS) this.apart = [];
    this.apart.push(apart);
    if (this.apart.length > KEPT) this.apart.shift();
    this.heardMs = serverMs - this.most();
  }

  /** The server's clock minus this one: what came quickest says it best. */
  most() {
    return Math.max(...this.apart);
  }

  /** Milliseconds since the server last said something. */
  silentMs(nowMs) {
    return nowMs - this.heardMs;
  }

  /** The server's time, milliseconds since 1970; `null` before it has said anything. */
  serverMs(nowMs) {
    return this.apart.length ? nowMs + this.most() : null;
  }
}
