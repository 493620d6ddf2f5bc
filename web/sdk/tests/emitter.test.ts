import { describe, expect, it } from "vitest";

import { Chat } from "../src/chat";
import { Emitter } from "../src/emitter";
import { TurnpikeError } from "../src/errors";
import type { ChatMessage } from "../src/wire";

class Counter extends Emitter<{ changed: number }> {
  say(n: number): void {
    this.emit("changed", n);
  }
}

describe("Emitter", () => {
  it("stops telling a listener that left, even from inside another", () => {
    const counter = new Counter();
    const heard: number[] = [];
    const off = counter.on("changed", (n) => heard.push(n));
    counter.on("changed", () => off());
    counter.say(1);
    counter.say(2);
    expect(heard).toEqual([1]);
  });

  it("resolves once with the next payload", async () => {
    const counter = new Counter();
    const next = counter.once("changed");
    counter.say(7);
    counter.say(8);
    expect(await next).toBe(7);
  });
});

describe("Chat", () => {
  const stored = (key: string, text: string): ChatMessage => ({
    id: `msg_${key}`,
    session_id: "ses_1",
    sender_id: "usr_me",
    client_message_id: key,
    text,
    sent_at_ms: Date.now(),
  });

  it("shows a message once although the acknowledgement and the event both bring it", async () => {
    const chat = new Chat("usr_me", {
      online: true,
      history: async () => ({ messages: [], more: false }),
      send: async (key, text) => {
        chat.take(stored(key, text));
        return stored(key, text);
      },
    });
    await chat.send("  hello ");
    expect(chat.entries.map((e) => [e.text, e.status])).toEqual([["hello", "stored"]]);
    expect(chat.unread).toBe(0);
  });

  it("keeps a message that could not be sent and resends it under the same key", async () => {
    const keys: string[] = [];
    const chat = new Chat("usr_me", {
      online: true,
      history: async () => ({ messages: [], more: false }),
      send: async (key, text) => {
        keys.push(key);
        if (keys.length === 1) throw new TurnpikeError("offline", "lost");
        return stored(key, text);
      },
    });
    await chat.send("hello");
    expect(chat.entries[0]?.status).toBe("failed");
    await chat.resend(keys[0] ?? "");
    expect(chat.entries.map((e) => e.status)).toEqual(["stored"]);
    expect(new Set(keys).size).toBe(1);
  });

  it("counts what the other side wrote until it is read", () => {
    const chat = new Chat("usr_me", {
      online: true,
      history: async () => ({ messages: [], more: false }),
      send: async (key, text) => stored(key, text),
    });
    chat.take({ ...stored("k1", "hi"), sender_id: "usr_other" });
    expect(chat.unread).toBe(1);
    chat.markRead();
    expect(chat.unread).toBe(0);
  });
});
