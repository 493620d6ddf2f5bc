import type { Source } from "./wire";

export type Direction = "up" | "down";

/** What getStats says of one track since the last digest. */
export interface TrackStats {
  source: Source;
  direction: Direction;
  frames_per_second?: number;
  frozen_ms?: number;
  concealed?: number;
  playout_ms?: number;
}

/** The body of `room.stats`, without the session's id. */
export interface StatsReport {
  rtt_ms?: number;
  tracks: TrackStats[];
}

export const DIGEST_EVERY_MS = 2_000;

type Entry = Record<string, unknown> & { id: string; type: string };
const COUNTERS = [
  "totalFreezesDuration",
  "concealedSamples",
  "silentConcealedSamples",
  "totalSamplesReceived",
  "jitterBufferDelay",
  "jitterBufferEmittedCount",
] as const;
type Counters = Record<(typeof COUNTERS)[number], number>;

/** Turns readings of one connection's getStats into what happened between them. */
export class StatsDigest {
  #before = new Map<string, Counters>();

  /** `sourceOf`: the source that each mid carries, both ways. */
  take(report: Iterable<Entry>, sourceOf: ReadonlyMap<string, Source>): StatsReport {
    const digest: StatsReport = { tracks: [] };
    const counters = new Map<string, Counters>();
    for (const entry of report) {
      if (entry.type === "candidate-pair" && entry.nominated === true) {
        if (typeof entry.currentRoundTripTime === "number") {
          digest.rtt_ms = bounded(entry.currentRoundTripTime * 1000, 60_000);
        }
        continue;
      }
      const source = typeof entry.mid === "string" ? sourceOf.get(entry.mid) : undefined;
      if (source === undefined) continue;
      if (entry.type === "inbound-rtp" && number(entry.packetsReceived) > 0) {
        counters.set(entry.id, countersOf(entry));
        digest.tracks.push(this.#inbound(source, entry));
      } else if (entry.type === "outbound-rtp" && entry.active !== false && source !== "microphone") {
        sent(digest, source, number(entry.framesPerSecond));
      }
    }
    this.#before = counters;
    return digest;
  }

  #inbound(source: Source, entry: Entry): TrackStats {
    const now = countersOf(entry);
    const before = this.#before.get(entry.id) ?? now;
    const since = (name: keyof Counters) => Math.max(0, now[name] - before[name]);
    const track: TrackStats = { source, direction: "down" };
    if (source === "microphone") {
      const samples = since("totalSamplesReceived");
      if (samples > 0) {
        const made = since("concealedSamples") - since("silentConcealedSamples");
        track.concealed = bounded(made / samples, 1);
      }
      const emitted = since("jitterBufferEmittedCount");
      if (emitted > 0) track.playout_ms = bounded((since("jitterBufferDelay") * 1000) / emitted, 60_000);
    } else {
      if (typeof entry.framesPerSecond === "number") track.frames_per_second = bounded(entry.framesPerSecond, 1000);
      track.frozen_ms = bounded(since("totalFreezesDuration") * 1000, 60_000);
    }
    return track;
  }
}

/** One track for all encodings of a source: the one that moves best. */
function sent(digest: StatsReport, source: Source, framesPerSecond: number): void {
  const known = digest.tracks.find((track) => track.source === source && track.direction === "up");
  if (known === undefined) {
    digest.tracks.push({ source, direction: "up", frames_per_second: bounded(framesPerSecond, 1000) });
  } else {
    known.frames_per_second = Math.max(known.frames_per_second ?? 0, bounded(framesPerSecond, 1000));
  }
}

function countersOf(entry: Entry): Counters {
  return Object.fromEntries(COUNTERS.map((name) => [name, number(entry[name])])) as Counters;
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function bounded(value: number, most: number): number {
  return Math.min(most, Math.max(0, value));
}
