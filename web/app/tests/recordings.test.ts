import type { JobView, RecordingPolicy } from "@turnpike/sdk";
import { expect, test } from "vitest";

import { announcement } from "../src/call/recording-state";
import { t } from "../src/locale";
import { isOpen, shown } from "../src/recordings/jobs";
import { runs } from "../src/recordings/log";
import { changeOf } from "../src/recordings/policy-dialog";
import { daysOf } from "../src/recordings/report-form";
import { readTags } from "../src/recordings/tags";

const job = (id: string, change: Partial<JobView>): JobView => ({
  id,
  recording_id: "rec",
  kind: "composition",
  layout: "audio",
  state: "done",
  progress: 100,
  failure: null,
  attempts: 1,
  by: { id: "me", name: "Me" },
  created_at_ms: 0,
  finished_at_ms: 0,
  ...change,
});

test("of each kind of file the newest job is shown, of exports only the reader's own", () => {
  const all = [
    job("3", { state: "running" }),
    job("2", {}),
    job("1", { kind: "export", layout: null, by: { id: "other", name: "Other" } }),
    job("0", { kind: "export", layout: null }),
  ];
  expect(shown(all, "me").map((each) => each.id)).toEqual(["3", "0"]);
  expect(all.map(isOpen)).toEqual([true, false, false, false]);
});

test("only what was changed in a policy is sent", () => {
  const before: RecordingPolicy = {
    kind: "video",
    keep_days: 1826,
    is_default: true,
    preview: true,
    compose: [],
    own: { client: null, provider: null },
    announce: true,
    announce_url: "https://tenant.example/notice.mp3",
  };
  expect(changeOf(before, { ...before, keep_days: 400 }, "why")).toEqual({
    kind: "video",
    reason: "why",
    keep_days: 400,
  });
  const own = { client: { after_h: 1, for_days: 2, download: true }, provider: null };
  expect(changeOf(before, { ...before, own }, "why")).toEqual({ kind: "video", reason: "why", own });
  expect(changeOf(before, { ...before, announce_url: null }, "why")).toEqual({
    kind: "video",
    reason: "why",
    announce_url: "",
  });
});

test("tags are separated by commas and kept once", () => {
  expect(readTags(" a, b ,, a,")).toEqual(["a", "b"]);
});

test("the last day of a report is included", () => {
  const { from_ms, to_ms } = daysOf("2026-11-01", "2026-11-02");
  expect((to_ms ?? 0) - (from_ms ?? 0)).toBe(2 * 86_400_000 - 1);
  expect(daysOf("", "")).toEqual({ from_ms: null, to_ms: null });
});

test("a recording that goes on after a pause is not announced as a new one", () => {
  expect(announcement(null, "recording")).toBe(t.inCall.said.recording);
  expect(announcement("paused", "recording")).toBe(t.inCall.said.resumed);
  expect(announcement("recording", "recording")).toBeNull();
  expect(announcement(null, "off")).toBeNull();
});

test("years are called years where they are", () => {
  expect([t.policies.days(1826), t.policies.days(2557), t.policies.days(400), t.policies.days(1)]).toEqual([
    "5 years",
    "7 years",
    "400 days",
    "1 day",
  ]);
});

test("what somebody does several times on end is one entry of the log", () => {
  const entry = (at_ms: number, action: string, id = "me") => ({ at_ms, action, user: { id, name: id }, reason: null });
  const log = [entry(9_000, "opened"), entry(8_000, "opened"), entry(7_000, "opened", "you"), entry(6_000, "granted")];
  expect(runs(log).map(({ times }) => times)).toEqual([2, 1, 1]);
  expect(runs([entry(200_000, "opened"), entry(0, "opened")])).toHaveLength(2);
});
