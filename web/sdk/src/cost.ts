import type { CostEvent } from "./wire";

/** What a call's meter shows at one moment. */
export interface CostReading {
  live_ms: number;
  cost_minor: number;
  running: boolean;
  balance_minor: number | null;
  earnings_minor: number | null;
  remaining_ms: number | null;
}

/** How far the display runs on without word from the server: a little over two ticks. */
export const AHEAD_MAX_MS = 12_000;
/** A difference to the server's time is made up over this long, so that the display never jumps. */
export const SLEW_MS = 1_500;
/** Above this the display is plainly wrong (the page slept) and jumps. */
export const JUMP_MS = 5_000;

/**
 * The moving display of time and cost between two `session.cost` events (5 s apart). The server's figures are the truth;
 * this one only makes them move: it follows them without a jump and never runs backwards while the clock runs. Pure:
 * the clock is passed in.
 */
export class CostClock {
  #event: CostEvent | null = null;
  /** When the newest event's figures were true, on the local clock. */
  #baseAt = 0;
  /** Local minus server time: the smallest seen, i.e. that of the fastest message. */
  #offset = Infinity;
  #slewFrom = 0;
  #slewAt = 0;
  #shownMs = 0;
  #shownCost = 0;

  /** @param minorPerMinute the session's rate, for the cost between two events; it changes with the session's kind */
  constructor(public minorPerMinute: number) {}

  get event(): CostEvent | null {
    return this.#event;
  }

  /** The session became active and no figure has come yet: the display starts from nothing. */
  start(nowMs: number): void {
    if (this.#event !== null) return;
    this.#event = { session_id: "", live_ms: 0, at_ms: 0, running: true, cost_minor: 0, currency: "" };
    this.#baseAt = nowMs;
  }

  /** The clock stopped (interrupted) or the session ended, ahead of the figure that will say so. */
  stop(nowMs: number): void {
    if (this.#event === null || !this.#event.running) return;
    const reading = this.read(nowMs);
    this.#event = { ...this.#event, running: false, live_ms: reading.live_ms, cost_minor: reading.cost_minor };
    this.#slewFrom = 0;
  }

  /** Takes the server's figures. `nowMs` is the local clock at arrival; late events are ignored. */
  take(event: CostEvent, nowMs: number): void {
    if (this.#event !== null && event.at_ms < this.#event.at_ms) return;
    const before = this.#event === null ? null : this.read(nowMs).live_ms;
    this.#offset = Math.min(this.#offset, nowMs - event.at_ms);
    this.#event = event;
    this.#baseAt = event.at_ms + this.#offset;
    // It was not known that this time costs nothing.
    if ((event.free_until_ms ?? 0) > event.live_ms) this.#shownCost = event.cost_minor;
    const difference = before === null ? 0 : before - this.#true(nowMs);
    if (!event.running || Math.abs(difference) > JUMP_MS) {
      this.#slewFrom = 0;
      this.#shownMs = this.#true(nowMs);
      this.#shownCost = event.cost_minor;
    } else {
      this.#slewFrom = difference;
      this.#slewAt = nowMs;
    }
  }

  /** What to show now. */
  read(nowMs: number): CostReading {
    const event = this.#event;
    if (event === null) {
      return {
        live_ms: 0,
        cost_minor: 0,
        running: false,
        balance_minor: null,
        earnings_minor: null,
        remaining_ms: null,
      };
    }
    const live = event.running ? this.#slewed(nowMs) : event.live_ms;
    const ahead = Math.max(0, live - event.live_ms);
    const charged = Math.max(0, live - Math.max(event.live_ms, event.free_until_ms ?? 0));
    const cost = event.cost_minor + Math.floor((this.minorPerMinute * charged) / 60_000);
    this.#shownMs = event.running ? Math.max(this.#shownMs, live) : live;
    this.#shownCost = event.running ? Math.max(this.#shownCost, cost) : event.cost_minor;
    const more = this.#shownCost - event.cost_minor;
    return {
      live_ms: this.#shownMs,
      cost_minor: this.#shownCost,
      running: event.running,
      balance_minor: event.balance_minor == null ? null : Math.max(0, event.balance_minor - more),
      earnings_minor: event.earnings_minor ?? null,
      remaining_ms: event.remaining_ms == null ? null : Math.max(0, event.remaining_ms - ahead),
    };
  }

  #true(nowMs: number): number {
    const event = this.#event;
    if (event === null) return 0;
    if (!event.running) return event.live_ms;
    const most = Math.min(AHEAD_MAX_MS, event.remaining_ms ?? AHEAD_MAX_MS);
    return event.live_ms + Math.min(Math.max(0, nowMs - this.#baseAt), most);
  }

  #slewed(nowMs: number): number {
    const left = Math.max(0, 1 - (nowMs - this.#slewAt) / SLEW_MS);
    return this.#true(nowMs) + this.#slewFrom * left;
  }
}
