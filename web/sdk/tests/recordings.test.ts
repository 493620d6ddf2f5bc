import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Recordings } from "../src/recordings";
import { Rest } from "../src/rest";
import type { AccessGrant } from "../src/wire-recordings";

const GRANT: AccessGrant = {
  expires_at_ms: 0,
  may_download: false,
  streams: [],
  compositions: [],
  manifest_url: "/manifest?grant=1",
  story_url: "/story?grant=1",
  media_url: "/media?grant=1",
  thumbnail_url: null,
  waveform_url: null,
};
let asked: { url: string; headers: Record<string, string>; body: unknown }[] = [];
let answer: Response;

beforeEach(() => {
  asked = [];
  answer = Response.json({});
  vi.stubGlobal("fetch", (url: string, init: { headers: Record<string, string>; body?: string }) => {
    asked.push({ url, headers: init.headers, body: init.body === undefined ? null : JSON.parse(init.body) });
    return Promise.resolve(answer);
  });
});

afterEach(() => vi.unstubAllGlobals());

function recordings(): Recordings {
  const rest = new Rest("https://calls.example");
  rest.token = "token";
  return new Recordings(rest);
}

test("a search sends what is set and nothing else", async () => {
  await recordings().search({ participant: "", tag: "fees", held: true, min_mos: null });
  expect(asked[0]?.url).toBe("https://calls.example/api/v1/recordings?tag=fees&held=1&limit=50");
  await recordings().search({ held: false });
  expect(asked[1]?.url).toBe("https://calls.example/api/v1/recordings?limit=50");
});

test("what a grant opens is asked for without the sign-in", async () => {
  answer = Response.json({ step_ms: 100, duration_ms: 1, participants: [] });
  await recordings().waveform({ ...GRANT, waveform_url: "/w?grant=1" });
  expect(asked).toEqual([{ url: "https://calls.example/w?grant=1", headers: {}, body: null }]);
});

test("what was not made is null without a question", async () => {
  expect(await recordings().waveform(GRANT)).toBeNull();
  expect(asked).toEqual([]);
});

test("a refusal carries the server's code", async () => {
  answer = Response.json({ error: { code: "reason_required", message: "Say why." } }, { status: 400 });
  await expect(recordings().placeHold("rec_1", "short")).rejects.toMatchObject({
    code: "reason_required",
    status: 400,
  });
});

test("the participant without a recording gets null", async () => {
  answer = Response.json({ recordings: [], next_cursor: null });
  expect(await recordings().ownOf("ses_1")).toBeNull();
  expect(asked[0]?.url).toContain("/me/recordings?session=ses_1&limit=1");
});

test("a report of several pages comes as one table", async () => {
  const pages = [
    new Response("n,reason\r\n3,c\r\n2,b\r\n", { headers: { "Turnpike-Next-Cursor": "2" } }),
    new Response("n,reason\r\n1,a\r\n"),
  ];
  const urls: string[] = [];
  vi.stubGlobal("fetch", (url: string) => {
    urls.push(url);
    return Promise.resolve(pages.shift());
  });
  expect(await recordings().reportCsv("access", { user: "Ada" })).toBe("n,reason\r\n3,c\r\n2,b\r\n1,a\r\n");
  expect(urls[1]).toContain("cursor=2");
});
