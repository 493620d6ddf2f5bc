import type { RecordedKind, RecordingSearch, RecordingStage } from "@turnpike/sdk";

import { t } from "../locale";

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
/** Below this people call a connection poor, from this on good (E-model, as elsewhere in the app). */
const [POOR_MOS, GOOD_MOS] = [3.1, 3.6];

/** What stands in the search form; empty: anything. Also what the address carries, so that a search can be kept. */
export interface Filters {
  participant: string;
  from: string;
  to: string;
  kind: string;
  atLeast: string;
  atMost: string;
  quality: string;
  tag: string;
  session: string;
  state: string;
  held: string;
}

export const NO_FILTERS: Filters = {
  participant: "",
  from: "",
  to: "",
  kind: "",
  atLeast: "",
  atMost: "",
  quality: "",
  tag: "",
  session: "",
  state: "",
  held: "",
};

const KEYS = Object.keys(NO_FILTERS) as (keyof Filters)[];
/** Those behind "more filters". */
const MORE: readonly (keyof Filters)[] = ["kind", "atLeast", "atMost", "quality", "tag", "session", "state", "held"];

export function fromQuery(query: string): Filters {
  const params = new URLSearchParams(query);
  const found = { ...NO_FILTERS };
  for (const key of KEYS) found[key] = params.get(key)?.slice(0, 100) ?? "";
  return found;
}

/** `?…`, or nothing at all. */
export function toQuery(filters: Filters): string {
  const params = new URLSearchParams(KEYS.flatMap((key) => (filters[key] === "" ? [] : [[key, filters[key]]])));
  const text = params.toString();
  return text === "" ? "" : `?${text}`;
}

/** The days are those of the reader, both included. */
export function toSearch(filters: Filters): RecordingSearch {
  const day = (text: string) => (text === "" ? null : (finite(new Date(`${text}T00:00`).getTime()) ?? null));
  const minutes = (text: string) => (text === "" ? null : (finite(Number(text) * MINUTE_MS) ?? null));
  const to = day(filters.to);
  return {
    participant: filters.participant.trim(),
    session: filters.session.trim(),
    tag: filters.tag.trim(),
    from_ms: day(filters.from),
    to_ms: to === null ? null : to + DAY_MS - 1,
    kind: (filters.kind || null) as RecordedKind | null,
    state: (filters.state || null) as RecordingStage | null,
    min_duration_ms: minutes(filters.atLeast),
    max_duration_ms: minutes(filters.atMost),
    min_mos: filters.quality === "good" ? GOOD_MOS : null,
    max_mos: filters.quality === "bad" ? POOR_MOS : null,
    held: filters.held !== "",
  };
}

export interface Chip {
  key: keyof Filters;
  text: string;
}

/** The filters that are set, each as a few words. */
export function chips(filters: Filters): Chip[] {
  const words: Record<keyof Filters, (value: string) => string> = {
    participant: (v) => v,
    from: t.recordings.chips.from,
    to: t.recordings.chips.to,
    kind: (v) => t.kinds[v as RecordedKind] ?? v,
    atLeast: t.recordings.chips.atLeast,
    atMost: t.recordings.chips.atMost,
    quality: (v) => t.recordings.qualities[v as "bad" | "good"] ?? v,
    tag: (v) => v,
    session: (v) => v,
    state: (v) => t.recordings.stages[v as RecordingStage] ?? v,
    held: () => t.recordings.chips.held,
  };
  return KEYS.flatMap((key) => (filters[key].trim() === "" ? [] : [{ key, text: words[key](filters[key].trim()) }]));
}

/** How many of the filters behind "more filters" are set. */
export function hiddenCount(filters: Filters): number {
  return MORE.filter((key) => filters[key] !== "").length;
}

function finite(value: number): number | undefined {
  return Number.isFinite(value) ? value : undefined;
}
