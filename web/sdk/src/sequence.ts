/**
 * The numbering of one user's events: what to deliver now, what to hold back, and when to ask for what was missed.
 * Pure: no socket, no clock.
 */

export interface NumberedEvent {
  event: string;
  /** null: not numbered, delivered at once, never fetched again. */
  seq: number | null;
  data: unknown;
}

/** Events held back behind a gap. Above it the newest are dropped: `events.since` brings them again. */
export const HELD_MAX = 500;

export class EventSequence {
  #last: number | null = null;
  readonly #held = new Map<number, NumberedEvent>();

  /** The newest number up to which everything was delivered; null before the first. */
  get last(): number | null {
    return this.#last;
  }

  /** True while something is held back behind a gap. */
  get gap(): boolean {
    return this.#held.size > 0;
  }

  /** Takes one event off the wire; returns those to deliver now, in order. */
  take(event: NumberedEvent): NumberedEvent[] {
    if (event.seq === null) return [event];
    if (this.#last === null) {
      this.#last = event.seq;
      return [event];
    }
    if (event.seq <= this.#last) return [];
    this.#held.set(event.seq, event);
    while (this.#held.size > HELD_MAX) this.#held.delete(Math.max(...this.#held.keys()));
    return this.#release();
  }

  /**
   * Takes the answer to `events.since`. When it is not complete, what is missing up to `newest` is given up: state is
   * read anew by the caller.
   */
  fill(events: readonly NumberedEvent[], complete: boolean, newest: number): NumberedEvent[] {
    const ready: NumberedEvent[] = [];
    if (!complete) {
      const first = Math.min(...events.map((e) => e.seq ?? Infinity), ...this.#held.keys());
      if (Number.isFinite(first) && (this.#last === null || first > this.#last + 1)) this.#last = first - 1;
    }
    for (const event of events) ready.push(...this.take(event));
    if (!complete && newest > (this.#last ?? 0)) this.#last = newest;
    ready.push(...this.#release());
    return ready;
  }

  /**
   * Compares with the server's newest number. `behind`: ask for what was missed. `reset`: the server's numbering began
   * anew (its store came back empty); this one follows, and state must be read again.
   */
  compare(newest: number): "level" | "behind" | "reset" {
    if (this.#last === null) {
      this.#last = newest;
      return "level";
    }
    if (newest < this.#last) {
      this.#last = newest;
      this.#held.clear();
      return "reset";
    }
    return newest > this.#last ? "behind" : "level";
  }

  #release(): NumberedEvent[] {
    const ready: NumberedEvent[] = [];
    for (;;) {
      const next = this.#held.get((this.#last ?? 0) + 1);
      if (next === undefined) break;
      this.#held.delete((this.#last ?? 0) + 1);
      this.#last = next.seq;
      ready.push(next);
    }
    for (const seq of this.#held.keys()) if (this.#last !== null && seq <= this.#last) this.#held.delete(seq);
    return ready;
  }
}
