import { describe, expect, it } from "vitest";

import { EventSequence, HELD_MAX } from "../src/sequence";

const event = (seq: number | null) => ({ event: "e", seq, data: seq });
const numbers = (events: { seq: number | null }[]) => events.map((e) => e.seq);

describe("EventSequence", () => {
  it("delivers in order and drops what came before", () => {
    const sequence = new EventSequence();
    expect(numbers(sequence.take(event(5)))).toEqual([5]);
    expect(numbers(sequence.take(event(6)))).toEqual([6]);
    expect(sequence.take(event(6))).toEqual([]);
    expect(sequence.take(event(3))).toEqual([]);
  });

  it("holds back behind a gap and releases when it is filled", () => {
    const sequence = new EventSequence();
    sequence.take(event(1));
    expect(sequence.take(event(4))).toEqual([]);
    expect(sequence.gap).toBe(true);
    expect(numbers(sequence.fill([event(2), event(3)], true, 4))).toEqual([2, 3, 4]);
    expect(sequence.gap).toBe(false);
    expect(sequence.last).toBe(4);
  });

  it("gives a gap up when the server no longer keeps it", () => {
    const sequence = new EventSequence();
    sequence.take(event(1));
    sequence.take(event(9));
    expect(numbers(sequence.fill([event(8)], false, 9))).toEqual([8, 9]);
  });

  it("stands at the newest number when nothing of the gap is kept", () => {
    const sequence = new EventSequence();
    sequence.take(event(1));
    expect(sequence.fill([], false, 40)).toEqual([]);
    expect(sequence.compare(40)).toBe("level");
    expect(numbers(sequence.take(event(41)))).toEqual([41]);
  });

  it("passes unnumbered events at once", () => {
    const sequence = new EventSequence();
    sequence.take(event(1));
    expect(numbers(sequence.take(event(null)))).toEqual([null]);
    expect(sequence.last).toBe(1);
  });

  it("tells behind, level and reset from the server's newest number", () => {
    const sequence = new EventSequence();
    expect(sequence.compare(7)).toBe("level");
    expect(sequence.last).toBe(7);
    expect(sequence.compare(9)).toBe("behind");
    expect(sequence.compare(2)).toBe("reset");
    expect(numbers(sequence.take(event(3)))).toEqual([3]);
  });

  it("stays bounded however many come behind a gap", () => {
    const sequence = new EventSequence();
    sequence.take(event(1));
    for (let seq = 3; seq < 3 + 2 * HELD_MAX; seq += 1) sequence.take(event(seq));
    const filled = sequence.fill([event(2)], true, 2);
    expect(numbers(filled)[0]).toBe(2);
    expect(filled.length).toBeLessThanOrEqual(HELD_MAX + 1);
  });

  it("delivers every number exactly once in whatever order they come", () => {
    for (let seed = 1; seed <= 50; seed += 1) {
      let state = seed;
      const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
      const sequence = new EventSequence();
      const delivered = numbers(sequence.take(event(1)));
      const order = Array.from({ length: 30 }, (_, i) => i + 2).sort(() => random() - 0.5);
      for (const seq of [...order, ...order]) delivered.push(...numbers(sequence.take(event(seq))));
      expect(delivered).toEqual(Array.from({ length: 31 }, (_, i) => i + 1));
    }
  });
});
