import { describe, expect, it } from "vitest";

import { AHEAD_MAX_MS, CostClock } from "../src/cost";
import type { CostEvent } from "../src/wire";

const event = (change: Partial<CostEvent>): CostEvent => ({
  session_id: "ses_1",
  live_ms: 0,
  at_ms: 1_000_000,
  running: true,
  cost_minor: 0,
  currency: "USD",
  balance_minor: 5_000,
  ...change,
});

describe("CostClock", () => {
  it("shows nothing before anything is known", () => {
    expect(new CostClock(199).read(0)).toMatchObject({
      live_ms: 0,
      cost_minor: 0,
      running: false,
      balance_minor: null,
    });
  });

  it("runs on between two events and takes the cost from the balance", () => {
    const clock = new CostClock(600);
    clock.take(event({ live_ms: 5_000, cost_minor: 50 }), 100);
    const reading = clock.read(2_100);
    expect(reading.live_ms).toBe(7_000);
    expect(reading.cost_minor).toBe(70);
    expect(reading.balance_minor).toBe(4_980);
  });

  it("never jumps and never runs backwards when the server's time differs", () => {
    for (const drift of [-900, -300, 0, 300, 900]) {
      const clock = new CostClock(199);
      clock.take(event({ live_ms: 5_000, cost_minor: 16 }), 0);
      let before = clock.read(0);
      for (let now = 50; now <= 12_000; now += 50) {
        if (now === 5_000) clock.take(event({ live_ms: 10_000 + drift, at_ms: 1_005_000, cost_minor: 33 }), now);
        const reading = clock.read(now);
        expect(reading.live_ms).toBeGreaterThanOrEqual(before.live_ms);
        expect(reading.live_ms - before.live_ms).toBeLessThanOrEqual(100);
        expect(reading.cost_minor).toBeGreaterThanOrEqual(before.cost_minor);
        before = reading;
      }
      expect(Math.abs(before.live_ms - (17_000 + drift))).toBeLessThanOrEqual(1);
    }
  });

  it("shows the server's figures exactly once the clock stops", () => {
    const clock = new CostClock(199);
    clock.take(event({ live_ms: 5_000, cost_minor: 16 }), 0);
    clock.read(4_900);
    clock.take(event({ live_ms: 9_700, at_ms: 1_005_000, cost_minor: 32, running: false }), 5_000);
    expect(clock.read(60_000)).toMatchObject({ live_ms: 9_700, cost_minor: 32, running: false });
  });

  it("stands still where it was when the session is interrupted before the figure comes", () => {
    const clock = new CostClock(600);
    clock.start(0);
    clock.stop(3_000);
    expect(clock.read(9_000)).toMatchObject({ live_ms: 3_000, running: false });
  });

  it("does not run on for ever without word from the server, nor beyond the paid time", () => {
    const clock = new CostClock(600);
    clock.take(event({ live_ms: 1_000 }), 0);
    expect(clock.read(600_000).live_ms).toBe(1_000 + AHEAD_MAX_MS);
    clock.take(event({ live_ms: 2_000, at_ms: 1_700_000, remaining_ms: 4_000 }), 700_000);
    expect(clock.read(760_000)).toMatchObject({ live_ms: 6_000, remaining_ms: 0 });
  });

  it("ignores a late event", () => {
    const clock = new CostClock(600);
    clock.take(event({ live_ms: 9_000, at_ms: 1_009_000, running: false }), 0);
    clock.take(event({ live_ms: 5_000, at_ms: 1_005_000 }), 10);
    expect(clock.read(20).live_ms).toBe(9_000);
  });

  it("charges nothing for time that is free or on a package, and then begins to", () => {
    const clock = new CostClock(600);
    clock.start(0);
    expect(clock.read(3_000).cost_minor).toBe(30); // nobody has said yet that it is free
    clock.take(event({ live_ms: 5_000, cost_minor: 0, free_until_ms: 8_000 }), 5_000);
    expect(clock.read(5_000).cost_minor).toBe(0);
    expect(clock.read(7_000)).toMatchObject({ cost_minor: 0, balance_minor: 5_000 });
    expect(clock.read(9_000).cost_minor).toBe(10);
  });
});
