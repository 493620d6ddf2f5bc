import { describe, expect, it } from "vitest";

import { Playout } from "../src/playout";

const reading = (nacks: number, roundTrip = 0.1, lost = 0) => [
  { id: "v", type: "inbound-rtp", kind: "video", nackCount: nacks, packetsLost: lost },
  { id: "p", type: "candidate-pair", nominated: true, currentRoundTripTime: roundTrip },
  { id: "q", type: "candidate-pair", nominated: false, currentRoundTripTime: 9 },
];

describe("playout", () => {
  it("leaves a line alone that loses nothing, or one packet", () => {
    const playout = new Playout();
    for (let at = 0; at < 5_000; at += 250) expect(playout.take(reading(at < 1_000 ? 7 : 8), at)).toBe(false);
    expect(playout.target).toBeNull();
  });

  it("waits a round trip and more where packets are asked for again", () => {
    const playout = new Playout();
    playout.take(reading(0), 0);
    expect(playout.take(reading(3), 250)).toBe(true);
    expect(playout.target).toBeCloseTo(200, -1);
  });

  it("counts what never came as well, and waits in proportion to the round trip, up to a limit", () => {
    const playout = new Playout();
    playout.take(reading(0, 0.001), 0);
    playout.take(reading(0, 0.001, 2), 250);
    expect(playout.target).toBe(160);
    playout.take(reading(4, 0.2, 2), 500);
    expect(playout.target).toBe(330);
    playout.take(reading(8, 3, 2), 750);
    expect(playout.target).toBe(400);
  });

  it("plays at once again when nothing was missed for ten seconds", () => {
    const playout = new Playout();
    playout.take(reading(0), 0);
    playout.take(reading(5), 250);
    for (let at = 500; at <= 10_250; at += 250) playout.take(reading(5), at);
    expect(playout.target).not.toBeNull();
    for (let at = 10_500; at <= 11_500; at += 250) playout.take(reading(5), at);
    expect(playout.target).toBeNull();
  });

  it("asks only receivers that know what a target is", () => {
    const playout = new Playout();
    playout.take(reading(0), 0);
    playout.take(reading(5), 250);
    const able: { jitterBufferTarget: number | null } = { jitterBufferTarget: null };
    const unable = {};
    playout.apply([able, unable]);
    expect(able.jitterBufferTarget).toBe(playout.target);
    expect(unable).toEqual({});
  });
});
