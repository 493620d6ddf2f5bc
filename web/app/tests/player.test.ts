import type { RecordingStory } from "@turnpike/sdk";
import { describe, expect, test } from "vitest";

import { playerKey } from "../src/player/keys";
import { mosAt, mosPath, overlayOf } from "../src/player/overlay";
import { lineAt, pauses, storyLines, within } from "../src/player/story";
import { barPath, bars, speakerAt, speeches } from "../src/player/waveform";

const someone = (id: string, peaks: number[]) => ({ participant_id: id, name: id, peaks });

describe("waveform", () => {
  test("a bar is as high as the loudest in its stretch", () => {
    expect(bars([0, 255, 0, 0], 2)).toEqual([1, 0]);
    expect(bars([], 3)).toEqual([0, 0, 0]);
    expect(bars([255], 4)).toEqual([1, 0, 0, 0]);
  });

  test("silence is drawn as a thin line, not as nothing", () => {
    expect(barPath([0], 40)).toMatch(/^M0.5 19\.\dV20\.\d$/);
  });

  test("the louder one speaks, breaths are bridged and clicks left out", () => {
    const loud = (n: number) => new Array<number>(n).fill(120);
    const quiet = (n: number) => new Array<number>(n).fill(3);
    const found = speeches({
      step_ms: 100,
      participants: [
        someone("a", [...loud(5), ...quiet(4), ...loud(5), ...quiet(20)]),
        someone("b", [...quiet(14), ...quiet(6), 200, ...quiet(3), ...loud(6), ...quiet(4)]),
      ],
    });
    expect(found).toEqual([
      { n: 0, from_ms: 0, to_ms: 1400 },
      { n: 1, from_ms: 2000, to_ms: 3000 },
    ]);
    expect(speakerAt(found, 700)).toBe(0);
    expect(speakerAt(found, 1500)).toBeNull();
  });
});

describe("story", () => {
  const recording = {
    started_at_ms: 1_000_000,
    participants: [{ id: "usr_a", name: "Ada", role: "provider" as const }],
  };
  const story: RecordingStory = {
    chat: [{ at_ms: 1_005_000, by: "usr_a", text: "Hello" }],
    events: [
      { at_ms: 999_000, what: "media_flows" },
      { at_ms: 1_002_000, what: "recording_paused", by: "usr_a" },
      { at_ms: 1_004_000, what: "recording_resumed" },
      { at_ms: 1_006_000, what: "something_unknown" },
      { at_ms: 1_008_000, what: "recording_paused" },
    ],
  };
  const names = { media_flows: "Connected", recording_paused: "Paused", recording_resumed: "On again" };

  test("messages and named events stand in order on the recording's time line", () => {
    const lines = storyLines(story, recording, names);
    expect(lines.map((l) => [l.at_ms, l.kind, l.who?.name ?? null, l.text])).toEqual([
      [0, "event", null, "Connected"],
      [2000, "event", "Ada", "Paused"],
      [4000, "event", null, "On again"],
      [5000, "message", "Ada", "Hello"],
      [8000, "event", null, "Paused"],
    ]);
    expect([lineAt(lines, -1), lineAt(lines, 4500), lineAt(lines, 99_999)]).toEqual([-1, 2, 4]);
  });

  test("a pause that nobody ended lasts to the end", () => {
    const found = pauses(story, recording, 9_000);
    expect(found).toEqual([
      { from_ms: 2000, to_ms: 4000 },
      { from_ms: 8000, to_ms: 9000 },
    ]);
    expect([within(found, 3_999), within(found, 4_000)]).toEqual([true, false]);
  });
});

describe("quality overlay", () => {
  const side = {
    user_id: "usr_a",
    name: "Ada",
    summary: null,
    connected: [],
    score: [],
    mos: [4.5, null, 1, 1],
    cause: [],
    rtt_ms: [],
    loss_up: [],
    loss_down: [],
    bitrate_up_bps: [],
    bitrate_down_bps: [],
    frozen_ms: [],
  };
  const overlay = overlayOf({ session_id: "s", from_ms: 500, step_ms: 1000, participants: [side] }, 1_000);

  test("the series begins where the session did, not where the recording did", () => {
    expect(overlay?.offset_ms).toBe(-500);
    expect(overlay && mosAt(overlay, "usr_a", 0)).toBe(4.5);
    expect(overlay && mosAt(overlay, "usr_a", 600)).toBeNull();
    expect(overlay && mosAt(overlay, "usr_b", 0)).toBeNull();
  });

  test("what was not measured leaves a gap in the line", () => {
    expect(overlay && mosPath(overlay, side, 4_000)).toBe("M0.0 4.0M500.0 96.0L750.0 96.0");
  });

  test("nothing measured is no overlay", () => {
    expect(overlayOf({ session_id: "s", from_ms: null, step_ms: 1000, participants: [] }, 0)).toBeNull();
  });
});

test("keys are the same with and without shift lock, and digits are tenths", () => {
  expect(playerKey("K")).toEqual(playerKey("k"));
  expect(playerKey("7")).toEqual({ do: "tenth", n: 7 });
  expect(playerKey("Tab")).toBeNull();
});
