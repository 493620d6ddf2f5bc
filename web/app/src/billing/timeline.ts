import type { ConnectionMark, Timeline } from "@turnpike/sdk";

/** A stretch of a participant's connection. */
export interface Bar {
  state: "connecting" | "connected" | "lost";
  from_ms: number;
  to_ms: number;
}

const STATE: Record<ConnectionMark["state"], Bar["state"] | null> = {
  connecting: "connecting",
  connected: "connected",
  reconnecting: "lost",
  moved: "lost",
  closed: null,
};

/** One participant's connection as bars, from its changes: each lasts to the next, and none longer than the session. */
export function connectionBars(marks: readonly ConnectionMark[], userId: string, endMs: number): Bar[] {
  const mine = marks.filter((mark) => mark.user_id === userId);
  const bars: Bar[] = [];
  for (const [n, mark] of mine.entries()) {
    const state = STATE[mark.state];
    const to = Math.min(mine[n + 1]?.at_ms ?? endMs, endMs);
    if (state === null || to <= mark.at_ms) continue;
    const last = bars.at(-1);
    if (last?.state === state && last.to_ms === mark.at_ms) last.to_ms = to;
    else bars.push({ state, from_ms: mark.at_ms, to_ms: to });
  }
  return bars;
}

/** When the session was over; the end of the line while it goes on. */
export function endOf(line: Timeline): number {
  const last = line.states.at(-1);
  return last === undefined || last.to_ms != null ? line.to_ms : LIVE.has(last.state) ? line.to_ms : last.from_ms;
}

const LIVE = new Set(["requested", "ringing", "accepted", "connecting", "active", "interrupted"]);

/** What the line shows: what came long after the end (a refund days later) is listed, and not drawn. */
export function drawnSpan(line: Timeline): { from_ms: number; to_ms: number } {
  const from = line.states.find((span) => span.state === "accepted")?.from_ms ?? line.from_ms;
  const end = endOf(line);
  const start = Math.max(line.from_ms, from - Math.max(5_000, (end - from) * 0.05));
  return { from_ms: start, to_ms: Math.max(end + Math.max(2_000, (end - start) * 0.03), start + 10_000) };
}

/** One line of the list. */
export interface Row {
  at_ms: number;
  lane: "states" | "people" | "evidence" | "money" | "marks";
  what: string;
  detail: string;
  amount_minor: number | null;
}

/** Everything of a time line in the order in which it happened, in the caller's words. */
export function rowsOf(line: Timeline, say: Words): Row[] {
  const row = (at_ms: number, lane: Row["lane"], what: string, detail = "", amount: number | null = null): Row => ({
    at_ms,
    lane,
    what,
    detail,
    amount_minor: amount,
  });
  return [
    ...line.states.map((span) => row(span.from_ms, "states", say.state(span.state), say.by(span.by ?? null))),
    ...line.connections.map((mark) => row(mark.at_ms, "people", say.connection(mark), say.connectionDetail(mark))),
    ...line.evidence.map((minute) => row(minute.at_ms, "evidence", say.live(minute.live_ms), say.minute(minute))),
    ...line.money.map((mark) =>
      row(mark.at_ms, "money", say.money(mark.what), say.moneyDetail(mark), mark.amount_minor),
    ),
    ...line.marks.map((mark) => row(mark.at_ms, "marks", say.mark(mark.what), say.markDetail(mark))),
  ].sort((a, b) => a.at_ms - b.at_ms);
}

/** The words of the list. */
export interface Words {
  state(state: string): string;
  by(userId: string | null): string;
  connection(mark: ConnectionMark): string;
  connectionDetail(mark: ConnectionMark): string;
  live(ms: number): string;
  minute(minute: Timeline["evidence"][number]): string;
  money(what: string): string;
  moneyDetail(mark: Timeline["money"][number]): string;
  mark(what: string): string;
  markDetail(mark: Timeline["marks"][number]): string;
}

/** Round times for an axis of so many seconds: at most `most` of them. */
export function timeTicks(seconds: number, most = 6): number[] {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400];
  const step = steps.find((one) => seconds / one <= most) ?? 86_400 * Math.ceil(seconds / most / 86_400);
  return Array.from({ length: Math.floor(seconds / step) + 1 }, (_, n) => n * step);
}
