import { Emitter } from "./emitter";
import { asTurnpikeError, type TurnpikeError } from "./errors";
import { requestKey } from "./keys";
import type { ChatMessage, ChatPage } from "./wire";

/** A message as the page shows it: stored, still on its way, or not sent. */
export interface ChatEntry {
  key: string;
  sender_id: string;
  text: string;
  sent_at_ms: number;
  status: "stored" | "sending" | "failed";
  error: TurnpikeError | null;
}

export interface ChatSignal {
  readonly online: boolean;
  send(clientMessageId: string, text: string): Promise<ChatMessage>;
  history(after: string | null): Promise<ChatPage>;
}

/** Kept in the page; older ones are dropped from view (the server has them). */
export const MESSAGES_MAX = 1_000;
const HISTORY_PAGES_MAX = 10;

/** The chat of one session. Client message ids make resending safe: each message is stored once. */
export class Chat extends Emitter<{ changed: null; message: ChatMessage }> {
  #entries: readonly ChatEntry[] = [];
  #lastId: string | null = null;
  #unread = 0;
  #loading: Promise<void> | null = null;

  constructor(
    readonly selfId: string,
    readonly signal: ChatSignal,
  ) {
    super();
  }

  /** Oldest first. A new array at every change. */
  get entries(): readonly ChatEntry[] {
    return this.#entries;
  }

  /** Messages of the other side since `markRead`. */
  get unread(): number {
    return this.#unread;
  }

  markRead(): void {
    if (this.#unread === 0) return;
    this.#unread = 0;
    this.emit("changed", null);
  }

  /** Shows the message at once and stores it; when that fails the entry says so and `resend` tries again. */
  async send(text: string): Promise<void> {
    const trimmed = text.trim();
    if (trimmed === "") return;
    const key = requestKey();
    this.#put({ key, sender_id: this.selfId, text: trimmed, sent_at_ms: Date.now(), status: "sending", error: null });
    await this.#store(key, trimmed);
  }

  async resend(key: string): Promise<void> {
    const entry = this.#entries.find((e) => e.key === key && e.status === "failed");
    if (entry === undefined) return;
    this.#put({ ...entry, status: "sending", error: null });
    await this.#store(key, entry.text);
  }

  /** A stored message came in, over any way. */
  take(message: ChatMessage): void {
    const known = this.#entries.find((e) => e.key === message.client_message_id && e.sender_id === message.sender_id);
    this.#lastId = message.id;
    if (known?.status === "stored") return;
    this.#put({
      key: message.client_message_id,
      sender_id: message.sender_id,
      text: message.text,
      sent_at_ms: message.sent_at_ms,
      status: "stored",
      error: null,
    });
    if (message.sender_id !== this.selfId && known === undefined) {
      this.#unread += 1;
      this.emit("message", message);
      this.emit("changed", null);
    }
  }

  /** Reads what the page does not have yet: at first all, after a reconnection what came meanwhile. */
  load(): Promise<void> {
    this.#loading ??= this.#load().finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  async #load(): Promise<void> {
    const first = this.#lastId === null;
    for (let page = 0; page < HISTORY_PAGES_MAX; page += 1) {
      const answer = await this.signal.history(this.#lastId);
      for (const message of answer.messages) this.take(message);
      if (!answer.more || answer.messages.length === 0) break;
    }
    if (first) this.markRead();
  }

  async #store(key: string, text: string): Promise<void> {
    try {
      this.take(await this.signal.send(key, text));
    } catch (thrown) {
      const entry = this.#entries.find((e) => e.key === key);
      if (entry?.status === "sending") this.#put({ ...entry, status: "failed", error: asTurnpikeError(thrown) });
    }
  }

  #put(entry: ChatEntry): void {
    const others = this.#entries.filter((e) => e.key !== entry.key || e.sender_id !== entry.sender_id);
    const next = [...others, entry].sort((a, b) => a.sent_at_ms - b.sent_at_ms);
    this.#entries = next.slice(-MESSAGES_MAX);
    this.emit("changed", null);
  }
}
