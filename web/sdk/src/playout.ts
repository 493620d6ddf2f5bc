type Entry = Record<string, unknown> & { id: string; type: string };

/** The part of an RTCRtpReceiver that is used; browsers without the target simply go by their own measure. */
export interface Buffered {
  jitterBufferTarget?: number | null;
}

/** Packets missed within `WINDOW_MS` from which on it is worth waiting for them: fewer are chance. */
const MISSED_MIN = 2;
const WINDOW_MS = 1_000;
/** Without anything missed for this long, pictures and sound are played as soon as they can be again. */
const CALM_MS = 10_000;
/** To notice a gap, to ask and to be answered; a round trip is known late, and often from before things went wrong. */
const ROUND_TRIPS = 1.3;
const SPARE_MS = 70;
const TARGET_MIN_MS = 160;
const TARGET_MAX_MS = 400;
/** Less of a change is not worth the stretching of sound that goes with it. */
const STEP_MS = 40;

/**
 * How long arriving media waits before it is played: where packets get lost, long enough that those sent again still
 * come in time. By themselves browsers learn that by standing still once for each delay that they had not yet seen.
 */
export class Playout {
  #missed = new Map<string, number>();
  #recent: { at: number; packets: number }[] = [];
  #calmFrom = 0;
  /** What receivers are asked for, ms; null: what they like. */
  target: number | null = null;

  /** Takes one reading of getStats; `now` in ms. Returns whether the target changed. */
  take(report: Iterable<Entry>, now: number): boolean {
    let packets = 0;
    let roundTrip = 0;
    for (const entry of report) {
      if (entry.type === "inbound-rtp") packets += this.#missedOf(entry);
      else if (entry.type === "candidate-pair" && entry.nominated === true) {
        roundTrip = Math.max(roundTrip, number(entry.currentRoundTripTime) * 1000);
      }
    }
    this.#recent = this.#recent.filter(({ at }) => now - at < WINDOW_MS);
    if (packets > 0) this.#recent.push({ at: now, packets });
    const before = this.target;
    if (this.#recent.reduce((sum, one) => sum + one.packets, 0) >= MISSED_MIN) {
      this.#calmFrom = now + CALM_MS;
      const wanted = Math.min(TARGET_MAX_MS, Math.max(TARGET_MIN_MS, ROUND_TRIPS * roundTrip + SPARE_MS));
      if (before === null || wanted > before + STEP_MS) this.target = Math.round(wanted);
    } else if (now >= this.#calmFrom) {
      this.target = null;
    }
    return this.target !== before;
  }

  /** Asks these receivers for the target. */
  apply(receivers: Iterable<Buffered>): void {
    for (const receiver of receivers) {
      if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = this.target;
    }
  }

  /** Packets that a stream asked for again, or never got, since the last reading. */
  #missedOf(entry: Entry): number {
    const now = number(entry.nackCount) + Math.max(0, number(entry.packetsLost));
    const before = this.#missed.get(entry.id) ?? now;
    this.#missed.set(entry.id, now);
    return Math.max(0, now - before);
  }
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}
