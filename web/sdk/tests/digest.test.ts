import { describe, expect, it } from "vitest";

import { StatsDigest } from "../src/digest";
import type { Source } from "../src/wire";

const SOURCES = new Map<string, Source>([
  ["0", "microphone"],
  ["1", "camera"],
]);

function sound(samples: number, concealed: number, silent = 0) {
  return {
    id: "a",
    type: "inbound-rtp",
    mid: "0",
    packetsReceived: 10,
    totalSamplesReceived: samples,
    concealedSamples: concealed,
    silentConcealedSamples: silent,
    jitterBufferDelay: samples / 48_000,
    jitterBufferEmittedCount: samples / 20,
  };
}

function picture(frozenS: number) {
  return {
    id: "v",
    type: "inbound-rtp",
    mid: "1",
    packetsReceived: 10,
    framesPerSecond: 29,
    totalFreezesDuration: frozenS,
  };
}

describe("StatsDigest", () => {
  it("tells what happened since the last reading", () => {
    const digest = new StatsDigest();
    digest.take([sound(48_000, 4_800), picture(2)], SOURCES);
    const { tracks } = digest.take([sound(144_000, 6_720, 960), picture(2.5)], SOURCES);
    expect(tracks[0]).toMatchObject({ source: "microphone", direction: "down", concealed: 0.01 });
    expect(tracks[0]?.playout_ms).toBeGreaterThan(0);
    expect(tracks[1]).toEqual({ source: "camera", direction: "down", frames_per_second: 29, frozen_ms: 500 });
  });

  it("tells of no change at the first reading", () => {
    const { tracks } = new StatsDigest().take([picture(7)], SOURCES);
    expect(tracks[0]?.frozen_ms).toBe(0);
  });

  it("takes the best of a source's encodings, and the round trip of the pair in use", () => {
    const out = (framesPerSecond: number, id: string) => ({ id, type: "outbound-rtp", mid: "1", framesPerSecond });
    const pair = { id: "p", type: "candidate-pair", nominated: true, currentRoundTripTime: 0.042 };
    const report = new StatsDigest().take([out(7, "q"), out(30, "f"), pair], SOURCES);
    expect(report.tracks).toEqual([{ source: "camera", direction: "up", frames_per_second: 30 }]);
    expect(report.rtt_ms).toBeCloseTo(42);
  });

  it("leaves out what it does not know, and tracks that nothing came of", () => {
    const other = { id: "x", type: "inbound-rtp", mid: "9", packetsReceived: 3 };
    const idle = { id: "y", type: "inbound-rtp", mid: "1", packetsReceived: 0 };
    expect(new StatsDigest().take([other, idle], SOURCES)).toEqual({ tracks: [] });
  });
});
