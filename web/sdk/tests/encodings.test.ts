import { describe, expect, it } from "vitest";

import { encodingsOf, fitEncodings, type Encoding } from "../src/encodings";

const three = (): Encoding[] => [
  { rid: "q", maxBitrate: 150_000, scaleResolutionDownBy: 4, active: true },
  { rid: "h", maxBitrate: 500_000, scaleResolutionDownBy: 2, active: true },
  { rid: "f", maxBitrate: 1_500_000, scaleResolutionDownBy: 1, active: true },
];
const active = (encodings: Encoding[]) => encodings.filter((e) => e.active).map((e) => e.rid);

describe("encodings", () => {
  it("sends a camera several times, anything else once", () => {
    expect(encodingsOf("camera").length).toBeGreaterThan(1);
    expect(encodingsOf("camera").at(-1)?.scaleResolutionDownBy).toBe(1);
    expect(encodingsOf("screen")).toHaveLength(1);
    expect(encodingsOf("microphone")).toHaveLength(1);
  });

  it("leaves a large picture as it is", () => {
    expect(fitEncodings(three(), 1280, 720, null)).toBe(false);
  });

  it("pauses what nobody takes and resumes it", () => {
    const encodings = three();
    expect(fitEncodings(encodings, 1280, 720, ["f"])).toBe(true);
    expect(active(encodings)).toEqual(["f"]);
    expect(fitEncodings(encodings, 1280, 720, ["f"])).toBe(false);
    fitEncodings(encodings, 1280, 720, ["q", "f"]);
    expect(active(encodings)).toEqual(["q", "f"]);
  });

  it("sends a small picture whole, though in fewer encodings", () => {
    const encodings = three();
    fitEncodings(encodings, 640, 480, null);
    expect(active(encodings)).toEqual(["q", "h"]);
    expect(encodings.map((e) => e.scaleResolutionDownBy)).toEqual([2, 1, 1]);
    expect(encodings.map((e) => e.maxBitrate)).toEqual([200_000, 1_500_000, 1_500_000]);
    fitEncodings(encodings, 320, 240, null);
    expect(active(encodings)).toEqual(["q"]);
    expect(encodings[0]?.scaleResolutionDownBy).toBe(1);
  });

  it("takes the largest that there is for a larger one that is wanted", () => {
    const encodings = three();
    fitEncodings(encodings, 640, 480, ["f"]);
    expect(active(encodings)).toEqual(["h"]);
  });
});
