import type { TariffPreset } from "@turnpike/sdk";
import { describe, expect, it } from "vitest";

import { presetLike, tariffOf, type TariffForm } from "../src/billing/tariff-terms";

const second: TariffPreset = {
  name: "per_second",
  minor_per_minute: 1,
  provider_bps: 7_000,
  step_ms: 1,
  flat_minor: 0,
  included_ms: 0,
};
const minute = { ...second, name: "per_started_minute_70_30", step_ms: 60_000 };
const flat = { ...second, name: "flat_15", minor_per_minute: 0, flat_minor: 1, included_ms: 900_000 };
const form: TariffForm = {
  kind: "video",
  code: "standard",
  preset: "per_second",
  rate: "2.50",
  flat: "",
  free_s: "",
  minimum: "",
  share: "70",
  from: "",
};

describe("a tariff from the form", () => {
  it("takes prices and steps from what the preset has", () => {
    expect(tariffOf(form, minute, "usr_1", "USD")).toEqual({
      tariff: {
        provider_id: "usr_1",
        kind: "video",
        code: "standard",
        currency: "USD",
        provider_bps: 7_000,
        minor_per_minute: 250,
        step_ms: 60_000,
        flat_minor: 0,
        included_ms: 0,
        free_ms: 0,
        minimum_minor: 0,
      },
    });
    const fixed = tariffOf({ ...form, rate: "9", flat: "15" }, flat, "usr_1", "USD");
    expect(fixed).toMatchObject({ tariff: { minor_per_minute: 0, flat_minor: 1_500, included_ms: 900_000 } });
  });
  it("names every field that is wrong, and sends nothing", () => {
    const wrong = { ...form, rate: "x", free_s: "1.5", minimum: "-1", share: "101", code: "A B", from: "never" };
    expect(tariffOf(wrong, second, "usr_1", "USD")).toEqual({
      faults: { rate: true, free_s: true, minimum: true, share: true, code: true, from: true },
    });
    expect(tariffOf({ ...form, share: "" }, second, "usr_1", "USD")).toEqual({ faults: { share: true } });
  });
  it("keeps shares to the basis point", () => {
    expect(tariffOf({ ...form, share: "72,5" }, second, "usr_1", "USD")).toMatchObject({
      tariff: { provider_bps: 7_250 },
    });
  });
  it("begins with the preset that the present tariff looks like", () => {
    const presets = [second, minute, flat];
    const row = { step_ms: 60_000, flat_minor: 0, included_ms: 0, minor_per_minute: 100 };
    expect(presetLike(presets, row)).toBe("per_started_minute_70_30");
    expect(presetLike(presets, { step_ms: 1, flat_minor: 900, included_ms: 900_000, minor_per_minute: 0 })).toBe(
      "flat_15",
    );
    expect(presetLike(presets, null)).toBe("per_second");
  });
});
