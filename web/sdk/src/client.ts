import { Emitter } from "./emitter";
import { asTurnpikeError, TurnpikeError } from "./errors";
import { Finance } from "./finance";
import { requestKey } from "./keys";
import { Link } from "./link";
import { watchNetwork } from "./network";
import { Recordings } from "./recordings";
import { Rest } from "./rest";
import { Session, type SessionHost } from "./session";
import { Wallet } from "./wallet";
import {
  isLive,
  type Consent,
  type ConsentText,
  type DemoAccount,
  type IceServer,
  type IceServersView,
  type MeView,
  type PresenceEvent,
  type ProviderView,
  type ServerEvents,
  type SessionKind,
  type SessionPage,
  type SessionView,
  type SignedIn,
  type WorkerView,
} from "./wire";

export type ClientState = "signed_out" | "connecting" | "online" | "reconnecting";

export interface ClientEvents {
  changed: null;
  state: ClientState;
  /** Provider: somebody calls. */
  ringing: Session;
  presence: PresenceEvent;
  /** Events may have been missed for good: lists that the page shows should be read again. */
  resync: null;
}

export interface ClientOptions {
  /** Where Turnpike is; default: where the page came from. */
  baseUrl?: string;
  /** Where the sign-in is kept over a reload; default `sessionStorage`, so that each tab may be somebody else. */
  storage?: Storage | null;
}

const STORAGE_KEY = "turnpike.sign-in";
/** Sessions kept in memory; ended ones go first. */
const SESSIONS_MAX = 50;

type Handlers = { [Name in keyof ServerEvents]: (data: ServerEvents[Name]) => void };

/** The way into the SDK: one user's sign-in, connection and sessions. */
export class TurnpikeClient extends Emitter<ClientEvents> implements SessionHost {
  readonly rest: Rest;
  readonly wallet: Wallet;
  readonly recordings: Recordings;
  readonly finance: Finance;
  readonly #storage: Storage | null;
  readonly #sessions = new Map<string, Session>();
  #me: MeView | null = null;
  #state: ClientState = "signed_out";
  #link: Link | null = null;
  #iceServers: readonly IceServer[] = [];
  #stopNetworkWatch: (() => void) | null = null;

  constructor(options: ClientOptions = {}) {
    super();
    this.rest = new Rest(options.baseUrl ?? "");
    this.rest.onUnauthorized = () => this.signOut();
    this.wallet = new Wallet(this.rest);
    this.recordings = new Recordings(this.rest);
    this.finance = new Finance(this.rest);
    this.#storage = options.storage === undefined ? globalThis.sessionStorage : options.storage;
    this.wallet.on("changed", () => this.emit("changed", null));
  }

  get state(): ClientState {
    return this.#state;
  }

  get me(): MeView | null {
    return this.#me;
  }

  /** STUN and TURN servers, as the server told them last. */
  get iceServers(): readonly IceServer[] {
    return this.#iceServers;
  }

  get online(): boolean {
    return this.#link?.connected ?? false;
  }

  /** The session that is going on or ringing, of those this user takes part in. */
  get current(): Session | null {
    for (const session of this.#sessions.values()) if (session.live && session.role !== "observer") return session;
    return null;
  }

  /** Goes on with the sign-in kept from before a reload, if there is one. */
  restore(): boolean {
    const kept = this.#storage?.getItem(STORAGE_KEY);
    if (kept == null) return false;
    try {
      const signedIn = JSON.parse(kept) as SignedIn;
      if (signedIn.expires_at_ms <= Date.now()) return false;
      this.#begin(signedIn);
      return true;
    } catch {
      this.#storage?.removeItem(STORAGE_KEY);
      return false;
    }
  }

  async signIn(email: string, password: string): Promise<MeView> {
    this.#begin(await this.rest.post<SignedIn>("/auth/login", { email, password }));
    return this.#me as MeView;
  }

  signOut(): void {
    this.#storage?.removeItem(STORAGE_KEY);
    this.#link?.close();
    this.#link = null;
    this.#stopNetworkWatch?.();
    this.#stopNetworkWatch = null;
    for (const session of this.#sessions.values()) session.close();
    this.#sessions.clear();
    this.rest.token = null;
    this.#me = null;
    this.#setState("signed_out");
  }

  /** Empty outside a demo. */
  async demoAccounts(): Promise<DemoAccount[]> {
    try {
      return (await this.rest.get<{ accounts: DemoAccount[] }>("/demo/accounts")).accounts;
    } catch (thrown) {
      if (asTurnpikeError(thrown).status === 404) return [];
      throw thrown;
    }
  }

  async providers(): Promise<ProviderView[]> {
    return (await this.rest.get<{ providers: ProviderView[] }>("/providers")).providers;
  }

  consent(): Promise<ConsentText> {
    return this.rest.get<ConsentText>("/consent");
  }

  /** Provider: whether to take calls. */
  async setAvailability(available: boolean): Promise<MeView> {
    this.#me = await this.rest.put<MeView>("/me/availability", { available });
    this.emit("changed", null);
    return this.#me;
  }

  /** Client: asks a provider for a session; it rings until they answer, or half a minute has passed. */
  async request(providerId: string, kind: SessionKind, consent: Consent): Promise<Session> {
    const body = { provider_id: providerId, kind, consent, request_key: requestKey() };
    const view = this.online
      ? await this.link().request<SessionView>("session.request", body)
      : await this.rest.post<SessionView>("/sessions", body);
    return this.#learn(view);
  }

  sessions(cursor: string | null = null, limit = 25): Promise<SessionPage> {
    return this.rest.get<SessionPage>("/sessions", { cursor, limit });
  }

  /** One session by its id, live objects first. */
  async session(id: string): Promise<Session> {
    return (
      this.#sessions.get(id) ?? this.#learn(await this.rest.get<SessionView>(`/sessions/${encodeURIComponent(id)}`))
    );
  }

  /** Administrator: the media workers that run. */
  async workers(): Promise<WorkerView[]> {
    return (await this.rest.get<{ workers: WorkerView[] }>("/workers")).workers;
  }

  link(): Link {
    if (this.#link === null) throw new TurnpikeError("signed_out", "You are signed out. Sign in again.");
    return this.#link;
  }

  learned(view: SessionView): void {
    this.#learn(view);
  }

  #begin(signedIn: SignedIn): void {
    this.#link?.close();
    this.rest.token = signedIn.access_token;
    this.#me = signedIn.me;
    this.#storage?.setItem(STORAGE_KEY, JSON.stringify(signedIn));
    const link = new Link(this.rest.baseUrl, signedIn.access_token);
    this.#link = link;
    link.on("state", (state) => this.#setState(state));
    link.on("refused", () => this.signOut());
    link.on("resync", () => void this.#resync());
    link.on("event", ({ event, data }) => {
      (this.#handlers[event] as ((data: unknown) => void) | undefined)?.(data);
      this.emit("changed", null);
    });
    link.open();
    this.#stopNetworkWatch ??= watchNetwork(() => this.#networkChanged());
    this.emit("changed", null);
  }

  #networkChanged(): void {
    this.#link?.networkChanged();
    for (const session of this.#sessions.values()) if (session.live) session.room.networkChanged();
  }

  readonly #handlers: Handlers = {
    "session.ringing": (view) => this.emit("ringing", this.#learn(view)),
    "session.updated": (view) => void this.#learn(view),
    "session.cost": (event) => this.#sessions.get(event.session_id)?.takeCost(event),
    "session.warning": (event) => this.#sessions.get(event.session_id)?.takeWarning(event),
    "session.charged": (event) => this.#sessions.get(event.session_id)?.takeCharged(event),
    "room.muted": (event) => this.#sessions.get(event.session_id)?.takeMuted(event),
    "room.quality": (event) => this.#sessions.get(event.session_id)?.takeQuality(event),
    "room.layers": (event) => this.#sessions.get(event.session_id)?.room.sendLayers(event.source, event.rids),
    "room.renegotiate": (event) => this.#sessions.get(event.session_id)?.room.renegotiate(),
    "chat.message": (message) => this.#sessions.get(message.session_id)?.takeChat(message),
    "presence.changed": (event) => this.emit("presence", event),
    "wallet.changed": (event) => this.wallet.take(event),
  };

  /** Reads the state of everything anew; a failure here is made good by the next reconnection or heartbeat. */
  async #resync(): Promise<void> {
    const link = this.#link;
    const role = this.#me?.user.role;
    try {
      if (role === "client" || role === "provider") {
        const [me, page, ice] = await Promise.all([
          this.rest.get<MeView>("/me"),
          this.sessions(null, 10),
          this.rest.get<IceServersView>("/ice-servers").catch(() => null),
          this.wallet.load().catch(() => null),
        ]);
        if (link !== this.#link) return;
        this.#me = me;
        if (ice !== null) this.#iceServers = ice.ice_servers;
        for (const view of page.sessions) if (isLive(view.state) || this.#sessions.has(view.id)) this.#learn(view);
      }
      for (const session of this.#sessions.values()) if (session.live) session.resume();
    } catch {
      return;
    } finally {
      this.emit("resync", null);
      this.emit("changed", null);
    }
  }

  #learn(view: SessionView): Session {
    const known = this.#sessions.get(view.id);
    if (known !== undefined) {
      known.take(view);
      this.emit("changed", null);
      return known;
    }
    const session = new Session(view, this.#me?.user.id ?? "", this);
    this.#sessions.set(view.id, session);
    for (const [id, old] of this.#sessions) {
      if (this.#sessions.size <= SESSIONS_MAX) break;
      if (!old.live) this.#sessions.delete(id);
    }
    this.emit("changed", null);
    return session;
  }

  #setState(state: ClientState): void {
    this.#state = state;
    this.emit("state", state);
    this.emit("changed", null);
  }
}
