import { io, type Socket } from "socket.io-client";

import { Emitter } from "./emitter";
import { errorFromWire, TurnpikeError } from "./errors";
import { EventSequence, type NumberedEvent } from "./sequence";
import { steadyInterval } from "./timer";
import type { ServerEvents } from "./wire";

const HEARTBEAT_MS = 10_000;
const ACK_MS = 10_000;
/** After a change of network the socket is given so long to answer. */
const PROBE_MS = 2_000;
const SIGN_IN_AGAIN: ReadonlySet<string> = new Set(["unauthenticated", "invalid_token"]);

interface Ack {
  ok: boolean;
  data?: unknown;
  error?: unknown;
}

interface LinkEvents {
  state: "connecting" | "online" | "reconnecting";
  /** The state of everything must be read again: first connect, or events that the server no longer keeps. */
  resync: null;
  refused: TurnpikeError;
  event: { [Name in keyof ServerEvents]: { event: Name; data: ServerEvents[Name] } }[keyof ServerEvents];
}

/**
 * The Socket.IO side: one websocket, opened again for as long as it takes; every message acknowledged; every event of
 * the server delivered once and in order, those lost on the way fetched with `events.since`.
 */
export class Link extends Emitter<LinkEvents> {
  readonly #socket: Socket;
  readonly #sequence = new EventSequence();
  #stopHeartbeat: (() => void) | null = null;
  #fetching = false;

  constructor(baseUrl: string, token: string) {
    super();
    this.#socket = io(baseUrl === "" ? location.origin : baseUrl, {
      transports: ["websocket"],
      auth: { token },
      autoConnect: false,
      forceNew: true,
      reconnectionDelay: 250,
      reconnectionDelayMax: 4_000,
      timeout: 8_000,
    });
    this.#socket.on("connect", () => this.#connected());
    this.#socket.on("disconnect", (reason) => {
      this.emit("state", "reconnecting");
      if (reason === "io server disconnect") setTimeout(() => this.#socket.connect(), 1_000);
    });
    this.#socket.on("connect_error", (error: Error & { data?: unknown }) => this.#refused(error));
    this.#socket.onAny((event: string, payload: unknown) => this.#arrived(event, payload));
  }

  get connected(): boolean {
    return this.#socket.connected;
  }

  open(): void {
    this.emit("state", "connecting");
    this.#socket.connect();
    this.#stopHeartbeat = steadyInterval(HEARTBEAT_MS, () => void this.#beat());
  }

  /** The machine is on another network: a socket that waits is opened at once, an open one has to prove itself. */
  networkChanged(): void {
    if (!this.#socket.connected) {
      this.#socket.connect();
      return;
    }
    this.#socket
      .timeout(PROBE_MS)
      .emitWithAck("presence.heartbeat", {})
      .catch(() => this.#socket.io.engine?.close());
  }

  close(): void {
    this.#stopHeartbeat?.();
    this.#stopHeartbeat = null;
    this.#socket.offAny();
    this.#socket.removeAllListeners();
    this.#socket.disconnect();
  }

  /** Sends one message; resolves with the acknowledgement's data. Rejects with `offline` when there is no socket. */
  async request<T>(message: string, body: object): Promise<T> {
    if (!this.#socket.connected) {
      throw new TurnpikeError(
        "offline",
        "The connection to Turnpike is lost. It comes back by itself; try again then.",
      );
    }
    let ack: Ack;
    try {
      ack = (await this.#socket.timeout(ACK_MS).emitWithAck(message, body)) as Ack;
    } catch {
      throw new TurnpikeError("timeout", "Turnpike did not answer in time. Try again.");
    }
    if (ack?.ok) return ack.data as T;
    throw errorFromWire(ack?.error);
  }

  #connected(): void {
    this.emit("state", "online");
    // What was missed is numbered and fetched; what is not numbered (presence) only a new look can tell.
    void this.#beat();
    this.emit("resync", null);
  }

  #refused(error: Error & { data?: unknown }): void {
    const data = error.data as { error?: unknown; code?: unknown } | undefined;
    const refusal = errorFromWire(data?.error ?? data ?? { code: "unreachable", message: error.message });
    if (SIGN_IN_AGAIN.has(refusal.code)) {
      this.emit("refused", refusal);
    } else {
      this.emit("state", "reconnecting");
      // Socket.IO retries transport failures itself, but not a refusal by the server.
      if (!this.#socket.active) setTimeout(() => this.#socket.connect(), 2_000);
    }
  }

  async #beat(): Promise<void> {
    if (!this.#socket.connected) return;
    try {
      const answer = await this.request<{ newest?: number }>("presence.heartbeat", {});
      if (typeof answer?.newest !== "number") return;
      const standing = this.#sequence.compare(answer.newest);
      if (standing === "reset") this.emit("resync", null);
      else if (standing === "behind") await this.#fetchMissed();
    } catch {
      // A lost heartbeat is made good by the next one.
    }
  }

  #arrived(event: string, payload: unknown): void {
    if (typeof payload !== "object" || payload === null) return;
    const { seq, data } = payload as { seq?: unknown; data?: unknown };
    this.#deliver(this.#sequence.take({ event, seq: typeof seq === "number" && seq > 0 ? seq : null, data }));
    if (this.#sequence.gap) void this.#fetchMissed();
  }

  async #fetchMissed(): Promise<void> {
    if (this.#fetching) return;
    this.#fetching = true;
    try {
      const answer = await this.request<{ events: NumberedEvent[]; complete: boolean; newest: number }>(
        "events.since",
        {
          seq: this.#sequence.last ?? 0,
        },
      );
      this.#deliver(this.#sequence.fill(answer.events, answer.complete, answer.newest));
      if (!answer.complete) this.emit("resync", null);
    } catch {
      // Still behind: the next heartbeat asks again.
    } finally {
      this.#fetching = false;
    }
  }

  #deliver(events: readonly NumberedEvent[]): void {
    for (const { event, data } of events) this.emit("event", { event, data } as LinkEvents["event"]);
  }
}
