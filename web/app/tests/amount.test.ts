import { describe, expect, it } from "vitest";

import { parseAmount, plainAmount } from "../src/billing/amount";

describe("amounts that people type", () => {
  it("takes points and commas, and adds no cent", () => {
    expect(parseAmount("12.34", "USD")).toBe(1234);
    expect(parseAmount("12,3", "USD")).toBe(1230);
    expect(parseAmount(" 7 ", "USD")).toBe(700);
    expect(parseAmount("0.29", "USD")).toBe(29);
    expect(parseAmount("500", "JPY")).toBe(500);
  });
  it("refuses what is no amount rather than guessing", () => {
    for (const text of ["", "abc", "-5", "1.234", "1,000.00", "0", "1e3", "12.5.1"]) {
      expect(parseAmount(text, "USD"), text).toBeNull();
    }
    expect(parseAmount("1.5", "JPY")).toBeNull();
  });
  it("writes what it reads", () => {
    expect(plainAmount(1234, "USD")).toBe("12.34");
    expect(parseAmount(plainAmount(29, "USD"), "USD")).toBe(29);
  });
});
