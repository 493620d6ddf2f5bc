import { expect, test } from "vitest";

import { chips, fromQuery, hiddenCount, NO_FILTERS, toQuery, toSearch } from "../src/recordings/search";

test("a search survives the address", () => {
  const filters = { ...NO_FILTERS, participant: "Ada & Søn", from: "2026-11-01", held: "1", tag: "case 12" };
  expect(fromQuery(toQuery(filters))).toEqual(filters);
  expect(toQuery(NO_FILTERS)).toBe("");
  expect(fromQuery("?unknown=1")).toEqual(NO_FILTERS);
});

test("both days are included, and lengths are minutes", () => {
  const search = toSearch({ ...NO_FILTERS, from: "2026-11-01", to: "2026-11-01", atLeast: "1.5", atMost: "x" });
  expect((search.to_ms ?? 0) - (search.from_ms ?? 0)).toBe(86_400_000 - 1);
  expect([search.min_duration_ms, search.max_duration_ms]).toEqual([90_000, null]);
});

test("connection quality is asked for by opinion score", () => {
  expect(toSearch({ ...NO_FILTERS, quality: "bad" }).max_mos).toBe(3.1);
  expect(toSearch({ ...NO_FILTERS, quality: "good" }).min_mos).toBe(3.6);
  expect(toSearch(NO_FILTERS).held).toBe(false);
});

test("every filter that is set is named", () => {
  const filters = { ...NO_FILTERS, participant: " Ada ", kind: "video", held: "1" };
  expect(chips(filters).map((chip) => chip.text)).toEqual(["Ada", "Video call", "under hold"]);
  expect(hiddenCount(filters)).toBe(2);
});
