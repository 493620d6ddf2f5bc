import { expect, it } from "vitest";

import { correction, localTime, totalSeconds } from "../src/player/transport";

const stream = { offset_ms: 2_000, duration_ms: 10_000 };

it("places a late stream on the common time line", () => {
  expect(localTime(stream, 1)).toBeNull();
  expect(localTime(stream, 2)).toBe(0);
  expect(localTime(stream, 7)).toBe(5);
  expect(localTime(stream, 12.1)).toBeNull();
});

it("lasts until the last stream ends", () => {
  expect(totalSeconds([stream, { offset_ms: 0, duration_ms: 11_000 }])).toBe(12);
  expect(totalSeconds([])).toBe(0);
});

it("nudges small differences and jumps over large ones", () => {
  expect(correction(5, 5.02, 1)).toEqual({ seekTo: null, rate: 1 });
  expect(correction(5.2, 5, 1).rate).toBeLessThan(1);
  expect(correction(4.8, 5, 1).rate).toBeGreaterThan(1);
  expect(correction(3, 5, 1)).toEqual({ seekTo: 5, rate: 1 });
});
