import type { ConnectionMark, Timeline } from "@turnpike/sdk";
import { describe, expect, it } from "vitest";

import { connectionBars, drawnSpan, endOf, rowsOf, timeTicks, type Words } from "../src/billing/timeline";

const mark = (at_ms: number, state: ConnectionMark["state"], user_id = "a"): ConnectionMark => ({
  at_ms,
  user_id,
  state,
  reason: "",
});

const LINE: Timeline = {
  session_id: "ses_1",
  from_ms: 0,
  to_ms: 500_000,
  states: [
    { state: "requested", what: "request", why: "", from_ms: 0, to_ms: 1_000 },
    { state: "accepted", what: "accept", why: "", from_ms: 1_000, to_ms: 2_000 },
    { state: "active", what: "media_flows", why: "", from_ms: 2_000, to_ms: 62_000 },
    { state: "ended", what: "client_end", why: "", from_ms: 62_000, to_ms: null },
  ],
  kinds: [],
  connections: [mark(1_500, "connecting"), mark(2_000, "connected"), mark(30_000, "moved"), mark(32_000, "connected")],
  evidence: [],
  money: [{ at_ms: 500_000, what: "reversal", id: "rev_1", amount_minor: -5, memo: "sorry" }],
  marks: [{ at_ms: 30_000, what: "room_moved", why: "lost" }],
};

describe("the time line of a session", () => {
  it("draws connections from change to change, and not beyond the end", () => {
    expect(connectionBars(LINE.connections, "a", endOf(LINE))).toEqual([
      { state: "connecting", from_ms: 1_500, to_ms: 2_000 },
      { state: "connected", from_ms: 2_000, to_ms: 30_000 },
      { state: "lost", from_ms: 30_000, to_ms: 32_000 },
      { state: "connected", from_ms: 32_000, to_ms: 62_000 },
    ]);
    expect(connectionBars(LINE.connections, "b", 62_000)).toEqual([]);
    expect(connectionBars([mark(1, "connected"), mark(5, "closed")], "a", 10)).toEqual([
      { state: "connected", from_ms: 1, to_ms: 5 },
    ]);
  });
  it("leaves out of the picture what came long after the end, and lists it", () => {
    expect(drawnSpan(LINE).to_ms).toBeLessThan(70_000);
    const same = (text: string) => text;
    const words: Words = {
      state: same,
      by: () => "",
      connection: (one) => one.state,
      connectionDetail: () => "",
      live: String,
      minute: () => "",
      money: same,
      moneyDetail: (one) => one.memo,
      mark: same,
      markDetail: () => "",
    };
    const rows = rowsOf(LINE, words);
    expect(rows.map((row) => row.at_ms)).toEqual([...rows.map((row) => row.at_ms)].sort((a, b) => a - b));
    expect(rows.at(-1)).toMatchObject({ what: "reversal", detail: "sorry", amount_minor: -5 });
  });
  it("goes on to now while the session does", () => {
    const going = { ...LINE, states: LINE.states.slice(0, 3).map((s, n) => (n === 2 ? { ...s, to_ms: null } : s)) };
    expect(endOf(going)).toBe(500_000);
  });
  it("has few round ticks, however long the call", () => {
    expect(timeTicks(60)).toEqual([0, 10, 20, 30, 40, 50, 60]);
    expect(timeTicks(3_600).length).toBeLessThanOrEqual(7);
    expect(timeTicks(1_000_000).length).toBeLessThanOrEqual(8);
  });
});
