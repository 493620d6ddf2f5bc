import { Chat } from "./chat";
import { CostClock, type CostReading } from "./cost";
import { Emitter } from "./emitter";
import { asTurnpikeError, TurnpikeError } from "./errors";
import { requestKey } from "./keys";
import type { Link } from "./link";
import type { Rest } from "./rest";
import { Room } from "./room";
import type { ChargedEvent, SessionTerms, Timeline } from "./wire-billing";
import {
  isLive,
  type AnnouncedHow,
  type Announcement,
  type ChatMessage,
  type ChatPage,
  type Consent,
  type CostEvent,
  type IceServer,
  type KindAsked,
  type MutedEvent,
  type QualityEvent,
  type QualitySide,
  type ReceiptView,
  type RoomAnswer,
  type SessionKind,
  type SessionQuality,
  type SessionView,
  type UserView,
  type WarningEvent,
} from "./wire";

const ANNOUNCED_TRIES_MAX = 5;
const ANNOUNCED_RETRY_MS = 2_000;
/** Seconds for which a change of kind waits for its turn. */
const TOO_SOON_TRIES_MAX = 6;
const RECEIPT_TRIES_MAX = 40;
const RECEIPT_RETRY_MS = 400;
const END_SILENCE_MS = 1_000;
const END_RETRY_MS = 1_000;
/** Errors that leave open whether the server has heard. */
const UNREACHED: ReadonlySet<string> = new Set(["offline", "timeout"]);
/** How long to wait to be told that the session is settled, before asking all the same. */
const SETTLED_WAIT_MS = 4_000;

export interface SessionEvents {
  changed: null;
  warning: WarningEvent;
  /** A gift or a tip was paid; the provider's amount is what they earn of it. */
  charged: ChargedEvent;
  ended: SessionView;
}

/** What a session needs of the client that owns it. */
export interface SessionHost {
  readonly rest: Rest;
  link(): Link;
  readonly online: boolean;
  readonly iceServers: readonly IceServer[];
  /** The session's newest view came in over an acknowledgement or REST. */
  learned(view: SessionView): void;
}

/** One paid engagement, from the request to the receipt. */
export class Session extends Emitter<SessionEvents> {
  readonly chat: Chat;
  readonly room: Room;
  readonly #cost: CostClock;
  #view: SessionView;
  #quality: readonly QualitySide[] = [];
  #warning: WarningEvent | null = null;
  #announcement: Announcement | null = null;
  #entered = false;

  constructor(
    view: SessionView,
    readonly selfId: string,
    readonly host: SessionHost,
  ) {
    super();
    this.#view = view;
    this.#cost = new CostClock(view.rate.minor_per_minute);
    this.chat = new Chat(selfId, this.#chatSignal());
    this.room = new Room(view.kind, selfId, this.#roomSignal());
    this.chat.on("changed", () => this.emit("changed", null));
    this.room.on("changed", () => this.emit("changed", null));
    this.#follow(null);
  }

  get id(): string {
    return this.#view.id;
  }

  /** As the server last told it; a new object at every change. */
  get view(): SessionView {
    return this.#view;
  }

  get live(): boolean {
    return isLive(this.#view.state);
  }

  get role(): "client" | "provider" | "observer" {
    if (this.#view.client.id === this.selfId) return "client";
    return this.#view.provider.id === this.selfId ? "provider" : "observer";
  }

  /** The other side, as this user sees it. */
  get other(): UserView {
    return this.role === "provider" ? this.#view.client : this.#view.provider;
  }

  get quality(): { own: QualitySide | null; other: QualitySide | null } {
    return {
      own: this.#quality.find((s) => s.user_id === this.selfId) ?? null,
      other: this.#quality.find((s) => s.user_id === this.other.id) ?? null,
    };
  }

  /** The newest warning that the money ends, while it stands. */
  get warning(): WarningEvent | null {
    return this.#warning;
  }

  /** Time and cost of this moment; call it as often as the display is drawn. */
  cost(): CostReading {
    return this.#cost.read(performance.now());
  }

  /**
   * Opens the devices and makes the offer, and joins the room as soon as it is open: this page takes part from now on.
   * A provider's page does so with `accept`, never while it only rings.
   */
  enter(): void {
    if (this.role === "observer" || !this.live) return;
    if (this.role === "provider" && (this.#view.state === "ringing" || this.#view.state === "requested")) return;
    this.#entered = true;
    this.room.prepare();
    if (this.#view.room_epoch > 0) this.room.enter(this.#view.room_epoch);
  }

  /** Provider: takes the call. The devices are opened meanwhile, and let go when it fails. */
  async accept(consent: Consent): Promise<SessionView> {
    this.#entered = true;
    this.room.prepare();
    try {
      return await this.#change("session.accept", { consent });
    } catch (thrown) {
      this.#entered = false;
      this.room.release();
      throw thrown;
    }
  }

  decline(): Promise<SessionView> {
    return this.#change("session.decline");
  }

  cancel(): Promise<SessionView> {
    return this.#change("session.cancel");
  }

  /**
   * Hangs up. Without an answer of the server the media stops here within a second all the same, and the server is told
   * as soon as it can be reached.
   */
  async end(): Promise<SessionView> {
    const silence = setTimeout(() => this.room.close(), END_SILENCE_MS);
    try {
      while (this.live) {
        try {
          return await this.#change("session.end");
        } catch (thrown) {
          if (!UNREACHED.has(asTurnpikeError(thrown).code)) throw thrown;
          await new Promise((resolve) => setTimeout(resolve, END_RETRY_MS));
        }
      }
      return this.#view;
    } finally {
      clearTimeout(silence);
    }
  }

  /** Provider: nothing is recorded for a while (1–900 s), while a card's number is said. Again: it counts from then. */
  pauseRecording(maxS: number): Promise<SessionView> {
    return this.#recording("pause", { max_s: maxS });
  }

  /** Provider: records again before the pause is over. */
  resumeRecording(): Promise<SessionView> {
    return this.#recording("resume");
  }

  /** Takes the consent back: the recording ends, the call goes on. */
  withdrawConsent(): Promise<SessionView> {
    return this.#recording("withdraw");
  }

  /** What to play and show when the recording begins, by the tenant's policy; null: nothing, or the room is not joined yet. */
  get announcement(): Announcement | null {
    return this.#announcement;
  }

  /** This page has announced that the call is recorded: kept with the recording, as evidence. */
  async announced(how: AnnouncedHow): Promise<void> {
    if (this.#announcement === null) return;
    const body = { key: requestKey(), version: this.#announcement.version, how };
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#recording("announced", body);
        return;
      } catch (thrown) {
        if (!UNREACHED.has(asTurnpikeError(thrown).code) || attempt >= ANNOUNCED_TRIES_MAX || !this.live) throw thrown;
        await new Promise((resolve) => setTimeout(resolve, ANNOUNCED_RETRY_MS));
      }
    }
  }

  /** What is charged, and the kinds that the session could change to. */
  terms(): Promise<SessionTerms> {
    return this.host.rest.get<SessionTerms>(`/sessions/${this.id}/terms`);
  }

  /**
   * Goes on as another kind, at the rate and the steps that were shown (`terms`). What costs no more than the present kind
   * comes at once; else the other side is asked first (`view.asked`), who agrees by calling this with the same. If that
   * has been taken back meanwhile, it is refused (`not_asked`). Two changes are five seconds apart: this waits for its turn.
   */
  async changeKind(kind: SessionKind, minorPerMinute: number, stepMs = 1): Promise<SessionView> {
    const asked = this.asked;
    const agrees = asked !== null && !asked.mine && asked.kind === kind;
    const wanted = { kind, minor_per_minute: minorPerMinute, step_ms: stepMs, agrees };
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#change("session.change_kind", wanted);
      } catch (thrown) {
        if (asTurnpikeError(thrown).code !== "too_soon" || attempt > TOO_SOON_TRIES_MAX || !this.live) throw thrown;
        await new Promise((resolve) => setTimeout(resolve, 1_000));
      }
    }
  }

  /** Declines what the other side has asked, or takes back what this side has. */
  keepKind(): Promise<SessionView> {
    return this.#change("session.keep_kind");
  }

  /** What the other side wants, while it stands. */
  get asked(): (KindAsked & { mine: boolean }) | null {
    const asked = this.#view.asked ?? null;
    if (asked === null || !this.live || asked.until_ms <= Date.now()) return null;
    return { ...asked, mine: asked.by === this.selfId };
  }

  /** States, evidence and charges on one line of time. */
  timeline(): Promise<Timeline> {
    return this.host.rest.get<Timeline>(`/sessions/${this.id}/timeline`);
  }

  /** How good the connections were, second by second. */
  qualitySeries(): Promise<SessionQuality> {
    return this.host.rest.get<SessionQuality>(`/sessions/${this.id}/quality`);
  }

  /** The receipt; waits while the session is being settled. */
  async receipt(): Promise<ReceiptView> {
    await this.#settled();
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.host.rest.get<ReceiptView>(`/sessions/${this.id}/receipt`);
      } catch (thrown) {
        const error = asTurnpikeError(thrown);
        if (error.code !== "not_settled" || attempt >= RECEIPT_TRIES_MAX) throw error;
        await new Promise((resolve) => setTimeout(resolve, RECEIPT_RETRY_MS));
      }
    }
  }

  /** A view came in; one with a lower revision than the known one is late and ignored. */
  take(view: SessionView): void {
    if (view.revision < this.#view.revision) return;
    const before = this.#view;
    this.#view = view;
    const ended = isLive(before.state) && !isLive(view.state);
    this.#follow(before);
    this.emit("changed", null);
    if (ended) this.emit("ended", view);
  }

  takeCost(event: CostEvent): void {
    this.#cost.take(event, performance.now());
    if (event.remaining_ms == null || event.remaining_ms > 61_000) this.#warning = null;
    this.emit("changed", null);
  }

  takeWarning(event: WarningEvent): void {
    this.#warning = event;
    this.emit("warning", event);
    this.emit("changed", null);
  }

  takeCharged(event: ChargedEvent): void {
    this.emit("charged", event);
    this.emit("changed", null);
  }

  takeQuality(event: QualityEvent): void {
    this.#quality = event.sides;
    this.emit("changed", null);
  }

  takeMuted(event: MutedEvent): void {
    this.room.declare(event.user_id, event.muted);
  }

  takeChat(message: ChatMessage): void {
    this.chat.take(message);
  }

  /** The socket is back. */
  resume(): void {
    if (!this.#entered) return;
    this.room.resume();
    void this.chat.load().catch(() => undefined); // tried again at the next reconnection
  }

  close(): void {
    this.room.close();
  }

  #follow(before: SessionView | null): void {
    const { state, room_epoch } = this.#view;
    const now = performance.now();
    if (before !== null && before.kind !== this.#view.kind) {
      this.#cost.minorPerMinute = this.#view.rate.minor_per_minute;
      this.room.setKind(this.#view.kind);
    }
    if (state === "active") {
      if (before !== null && before.state !== "active") this.#cost.start(now);
    } else {
      this.#cost.stop(now);
    }
    if (this.#entered && room_epoch > 0 && isLive(state)) this.room.enter(room_epoch);
    if (!isLive(state)) {
      this.#warning = null;
      this.room.close();
    }
  }

  /** Resolves when the server has told that the session is settled, or might have without being heard. */
  #settled(): Promise<void> {
    if (this.#view.settled !== false) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        off();
        resolve();
      };
      const timer = setTimeout(done, SETTLED_WAIT_MS);
      const off = this.on("changed", () => this.#view.settled === true && done());
    });
  }

  async #change(message: string, body: object = {}): Promise<SessionView> {
    if (this.role === "observer") throw new TurnpikeError("forbidden", "Only participants can do that.");
    const view = await this.host.link().request<SessionView>(message, { session_id: this.id, ...body });
    this.host.learned(view);
    return view;
  }

  async #recording(what: string, body?: object): Promise<SessionView> {
    const view = await this.host.rest.post<SessionView>(`/sessions/${this.id}/recording/${what}`, body);
    this.host.learned(view);
    return view;
  }

  #roomSignal() {
    const { host } = this;
    const id = () => this.id;
    return {
      get online() {
        return host.online;
      },
      get iceServers() {
        return host.iceServers;
      },
      join: async (sdp: string, sources: Record<string, string>, fresh: boolean) => {
        const answer = await host.link().request<RoomAnswer>("room.join", { session_id: id(), sdp, sources, fresh });
        this.#announcement = answer.announcement ?? null;
        this.emit("changed", null);
        return answer;
      },
      mute: async (muted: object) => {
        await host.link().request("room.mute", { session_id: id(), muted });
      },
      report: async (stats: object) => {
        await host.link().request("room.stats", { session_id: id(), ...stats });
      },
    };
  }

  #chatSignal() {
    const { host } = this;
    const id = () => this.id;
    return {
      get online() {
        return host.online;
      },
      send: (clientMessageId: string, text: string) =>
        host.link().request<ChatMessage>("chat.send", { session_id: id(), client_message_id: clientMessageId, text }),
      history: (after: string | null) => host.rest.get<ChatPage>(`/sessions/${id()}/messages`, { after, limit: 100 }),
    };
  }
}
