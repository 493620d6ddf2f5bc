import { afterEach, beforeEach, expect, test, vi } from "vitest";

import type { Link } from "../src/link";
import { Rest } from "../src/rest";
import { Session } from "../src/session";
import type { KindAsked, SessionView, UserView } from "../src/wire";

const [ANA, BEN] = ["usr_ana", "usr_ben"].map((id) => ({ id, name: id }) as UserView) as [UserView, UserView];

beforeEach(() => vi.stubGlobal("MediaStream", class {}));
afterEach(() => vi.unstubAllGlobals());

/** A call that Ana pays for, as her page has it; `sent` is what it asks of the server. */
function call(asked: Partial<KindAsked> | null) {
  const rate = { kind: "audio", minor_per_minute: 149, currency: "USD" };
  const view = {
    id: "ses_1",
    kind: "audio",
    state: "active",
    client: ANA,
    provider: BEN,
    rate,
    recording: "off",
    room_epoch: 0,
    revision: 1,
    asked: asked === null ? null : { kind: "video", rate, step_ms: 1, until_ms: Date.now() + 60_000, ...asked },
  } as unknown as SessionView;
  const sent: unknown[] = [];
  const link = {
    request: (_: string, body: unknown) => {
      sent.push(body);
      return Promise.resolve(view);
    },
  } as unknown as Link;
  const host = { rest: new Rest(""), link: () => link, online: true, iceServers: [], learned: () => undefined };
  return { session: new Session(view, ANA.id, host), sent };
}

test.each([
  ["answers what the other side asks", { by: BEN.id }, true],
  ["asks", null, false],
  ["asks again", { by: ANA.id }, false],
  ["asks for another kind than the other side", { by: BEN.id, kind: "chat" as const }, false],
  ["asks after the time to answer was over", { by: BEN.id, until_ms: 0 }, false],
])("a page that %s says so", async (_, asked, agrees) => {
  const { session, sent } = call(asked);
  await session.changeKind("video", 199);
  expect(sent).toEqual([{ session_id: "ses_1", kind: "video", minor_per_minute: 199, step_ms: 1, agrees }]);
});
