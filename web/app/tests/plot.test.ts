import { describe, expect, it } from "vitest";

import { linePath, scale, ticks } from "../src/quality/plot";

describe("linePath", () => {
  const place = scale(5, 0, 10, 100, 50);
  it("draws through what is there and leaves gaps where nothing was measured", () => {
    expect(linePath([0, 10, null, 5, 5], place)).toBe("M0.0 50.0L25.0 0.0M75.0 25.0L100.0 25.0");
  });
  it("shows a point that stands alone", () => {
    expect(linePath([null, 5, null, null, null], place)).toBe("M25.0 25.0h0.1");
  });
  it("keeps outliers inside", () => {
    expect(linePath([99, -99, null, null, null], place)).toBe("M0.0 0.0L25.0 50.0");
  });
});

describe("ticks", () => {
  it("are round, few, and cover the highest", () => {
    expect(ticks(0, 100)).toEqual([0, 50, 100]);
    expect(ticks(0, 87)).toEqual([0, 50, 100]);
    expect(ticks(1, 4.5)).toEqual([1, 2, 3, 4, 5]);
    for (const high of [0, 0.001, 3, 77, 12345]) expect(ticks(0, high).length).toBeLessThanOrEqual(6);
  });
});
