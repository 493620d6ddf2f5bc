import { captureBoth } from "./devices";
import { DIGEST_EVERY_MS, StatsDigest, type StatsReport } from "./digest";
import { Emitter } from "./emitter";
import { addSource } from "./encodings";
import { asTurnpikeError, type TurnpikeError } from "./errors";
import { StatsWatch, type RoomStats } from "./stats";
import { LocalTrack, RemoteTrack } from "./tracks";
import type { IceServer, Muted, RoomAnswer, SessionKind, Source } from "./wire";

/** `idle`: the room is not open yet. `reconnecting`: it was connected and is being connected again. */
export type RoomState = "idle" | "connecting" | "connected" | "reconnecting" | "closed";

/** What a room needs of the signaling side. */
export interface RoomSignal {
  readonly online: boolean;
  /** STUN and TURN servers for connections made from now on. */
  readonly iceServers: readonly IceServer[];
  join(sdp: string, sources: Record<string, Source>, fresh: boolean): Promise<RoomAnswer>;
  mute(muted: Muted): Promise<void>;
  /** A digest of getStats; lost ones are not missed. */
  report(stats: StatsReport): Promise<void>;
}

/** In rising order of what they disturb; a higher one includes the lower ones. */
const NEEDS = ["nothing", "renegotiate", "restart", "fresh"] as const;
type Need = (typeof NEEDS)[number];

const SOURCES: Record<SessionKind, readonly Source[]> = {
  chat: [],
  audio: ["microphone"],
  video: ["microphone", "camera", "screen"],
};

/** The m-lines that a connection begins with: a chat's is there so that both are known to be. */
const LINES: Record<SessionKind, readonly Source[]> = { ...SOURCES, chat: ["microphone"] };

/** A connection that reports `disconnected` often comes back by itself within this long. */
const DISCONNECTED_MS = 2_000;
/** An ICE restart or a new connection gets this long to become connected. */
const RESTART_MS = 5_000;
const FRESH_MS = 8_000;
const RETRY_MAX_MS = 4_000;
/** Operating systems tell of one change of network in several events. */
const NETWORK_SETTLES_MS = 300;
const LOST_STATES: ReadonlySet<RTCPeerConnectionState> = new Set(["disconnected", "failed", "closed"]);
/** Refusals that asking again won't change. */
const FINAL_CODES: ReadonlySet<string> = new Set(["not_found", "forbidden", "session_over", "session_ended"]);

/**
 * The media side of one session: one RTCPeerConnection with the server at a time, replaced behind the same LocalTrack
 * and RemoteTrack objects when the network changes or the room moves. Pages look at `state` only.
 */
export class Room extends Emitter<{ changed: null; state: RoomState }> {
  #kind: SessionKind;
  /** What the connection's m-lines carry, in their order: they stay when the kind pays for less. */
  #lines: Source[] = [];
  readonly local: Readonly<Record<Source, LocalTrack>>;
  readonly remote: Readonly<Record<Source, RemoteTrack>>;
  #state: RoomState = "idle";
  #pc: RTCPeerConnection | null = null;
  /** The connection's offer, made ahead of its use. */
  #offer: Promise<void> | null = null;
  #offered = false;
  #epoch = 0;
  #joinedEpoch = 0;
  #need: Need = "nothing";
  #working = false;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #error: TurnpikeError | null = null;
  /** Ends the pause before the next attempt. */
  #hurry: () => void = () => undefined;
  #networkTimer: ReturnType<typeof setTimeout> | null = null;
  #iceServers: readonly IceServer[] = [];
  #declared = "";
  #devices: Promise<void> | null = null;
  readonly #stats = new StatsWatch();
  #reports: ReturnType<typeof setInterval> | null = null;

  constructor(
    kind: SessionKind,
    readonly selfId: string,
    readonly signal: RoomSignal,
  ) {
    super();
    this.#kind = kind;
    this.local = {
      microphone: new LocalTrack("microphone"),
      camera: new LocalTrack("camera"),
      screen: new LocalTrack("screen"),
    };
    this.remote = {
      microphone: new RemoteTrack("microphone"),
      camera: new RemoteTrack("camera"),
      screen: new RemoteTrack("screen"),
    };
    for (const track of Object.values(this.local)) {
      track.on("changed", () => {
        this.emit("changed", null);
        void this.#declare();
      });
    }
    for (const track of Object.values(this.remote)) track.on("changed", () => this.emit("changed", null));
  }

  get state(): RoomState {
    return this.#state;
  }

  /** What the session's kind pays for. */
  get sources(): readonly Source[] {
    return SOURCES[this.#kind];
  }

  /**
   * The session goes on as another kind: what it does not pay for any more is switched off, what it pays for now is
   * opened, and offered on the same connection.
   */
  setKind(kind: SessionKind): void {
    const before = this.sources;
    this.#kind = kind;
    if (this.#state === "closed" || this.#epoch === 0) return;
    for (const source of before) {
      if (this.sources.includes(source)) continue;
      void this.local[source].setEnabled(false).catch(() => undefined);
      this.remote[source].declare(true);
    }
    for (const source of this.sources) {
      if (before.includes(source) || source === "screen") continue;
      void this.local[source].setEnabled(true).catch(() => undefined); // told by track.error
    }
    const pc = this.#pc;
    if (pc !== null && this.#addLines(pc)) this.#ask("renegotiate");
    else if (this.sources.some((source) => !before.includes(source))) this.#ask("renegotiate");
    this.#declared = "";
    void this.#declare();
    this.emit("changed", null);
  }

  /** The connection of the moment, for diagnosis. */
  get pc(): RTCPeerConnection | null {
    return this.#pc;
  }

  /** Why joining failed last; null since it worked. */
  get error(): TurnpikeError | null {
    return this.#error;
  }

  /** A digest of getStats, sampled now; after the call, the last one. */
  stats(): Promise<RoomStats> {
    return this.#stats.sample();
  }

  /** Opens microphone and camera and makes the offer, so that joining later takes one round trip. Never rejects. */
  prepare(): void {
    if (this.#state === "closed") return;
    this.#devices ??= this.#openDevices();
    if (this.#pc === null) this.#makeConnection();
  }

  /** Lets go of the devices again: the call was not taken after all. */
  release(): void {
    this.#devices = null;
    for (const track of Object.values(this.local)) track.release();
  }

  /** The room is open (again) in this epoch: joins it. A lower or equal epoch changes nothing. */
  enter(epoch: number): void {
    if (this.#state === "closed" || epoch <= this.#epoch) return;
    this.prepare();
    const moved = this.#epoch > 0;
    this.#epoch = epoch;
    this.#ask(moved ? "fresh" : "renegotiate");
    this.#hurry();
  }

  /** The machine is on another network, or on one again: candidates are gathered anew, and the connection is kept. */
  networkChanged(): void {
    if (this.#joinedEpoch === 0 || this.#state === "closed") return;
    if (this.#networkTimer !== null) clearTimeout(this.#networkTimer);
    this.#networkTimer = setTimeout(() => {
      this.#networkTimer = null;
      if (this.#running()) this.#ask("restart");
      this.#hurry();
    }, NETWORK_SETTLES_MS);
  }

  /** The server asks for a new offer on the same connection. */
  renegotiate(): void {
    if (this.#joinedEpoch > 0) this.#ask("renegotiate");
  }

  /** The signaling side is back: goes on with what could not be asked, and looks after the connection. */
  resume(): void {
    if (this.#epoch === 0 || this.#state === "closed") return;
    this.#declared = "";
    void this.#declare();
    const lost = LOST_STATES.has(this.#pc?.connectionState ?? "closed");
    if (!this.#working) this.#ask(lost ? "restart" : this.#need);
    this.#hurry();
  }

  /** What the other side declared of its sources. */
  declare(userId: string, muted: Muted): void {
    if (userId === this.selfId) return;
    for (const [source, off] of Object.entries(muted) as [Source, boolean][]) this.remote[source]?.declare(off);
  }

  /** Which simulcast encodings of a source somebody takes: the others rest. */
  sendLayers(source: Source, rids: readonly string[]): void {
    this.local[source]?.sendLayers(rids);
  }

  close(): void {
    if (this.#state === "closed") return;
    void this.#stats.sample().finally(() => {
      this.#stats.stop();
      this.#pc?.close();
    });
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (this.#networkTimer !== null) clearTimeout(this.#networkTimer);
    if (this.#reports !== null) clearInterval(this.#reports);
    for (const track of Object.values(this.local)) track.close();
    this.#setState("closed");
  }

  async #openDevices(): Promise<void> {
    const { microphone, camera } = this.local;
    if (this.sources.includes("camera")) {
      const both = await captureBoth(microphone.deviceId, camera.deviceId);
      await Promise.all([microphone.adopt(both.microphone), camera.adopt(both.camera)]);
    } else if (this.sources.includes("microphone")) {
      await microphone.setEnabled(true).catch(() => undefined); // told by track.error
    }
  }

  #makeConnection(): void {
    const old = this.#pc;
    const iceServers = this.#iceServers.length > 0 ? this.#iceServers : this.signal.iceServers;
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers: [...iceServers] });
    this.#lines = [];
    this.#addLines(pc);
    pc.onconnectionstatechange = () => this.#connectionChanged(pc);
    this.#pc = pc;
    this.#offered = false;
    this.#offer = pc.setLocalDescription();
    this.#offer.catch(() => undefined); // awaited, and told, when it is used
    if (old !== null) {
      old.onconnectionstatechange = null;
      old.close();
    }
  }

  /** An m-line for each source of the kind that has none yet; a chat has one that carries nothing. */
  #addLines(pc: RTCPeerConnection): boolean {
    const person = new MediaStream();
    const missing = LINES[this.#kind].filter((source) => !this.#lines.includes(source));
    for (const source of missing) {
      this.local[source].attach(addSource(pc, source, source === "screen" ? new MediaStream() : person));
    }
    this.#lines.push(...missing);
    return missing.length > 0;
  }

  #ask(need: Need): void {
    if (NEEDS.indexOf(need) > NEEDS.indexOf(this.#need)) this.#need = need;
    if (!this.#working) void this.#work();
  }

  /** The one place where offers are sent, one after the other, until nothing more is needed. */
  async #work(): Promise<void> {
    this.#working = true;
    let failures = 0;
    while (this.#need !== "nothing" && this.#epoch > 0 && this.#running() && this.signal.online) {
      const need = this.#need;
      this.#need = "nothing";
      try {
        await this.#negotiate(need);
        this.#error = null;
        failures = 0;
      } catch (thrown) {
        this.#error = asTurnpikeError(thrown);
        this.emit("changed", null);
        if (FINAL_CODES.has(this.#error.code)) break;
        failures += 1;
        this.#need = "fresh";
        await this.#pause(Math.min(200 * 2 ** failures, RETRY_MAX_MS));
      }
    }
    this.#working = false;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#hurry = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #running(): boolean {
    return this.#state !== "closed";
  }

  async #negotiate(need: Need): Promise<void> {
    this.#setState(this.#joinedEpoch > 0 && this.#state !== "connecting" ? this.#stateDuring(need) : "connecting");
    if (this.#pc === null || (need === "fresh" && this.#offered)) this.#makeConnection();
    const pc = this.#pc;
    if (pc === null) return;
    const fresh = !this.#offered;
    if (fresh) {
      await this.#offer;
    } else {
      if (need === "restart") pc.restartIce();
      await pc.setLocalDescription();
    }
    this.#offered = true;
    const answer = await this.signal.join(pc.localDescription?.sdp ?? "", this.#sourcesByMid(pc), fresh);
    if (pc !== this.#pc || !this.#running()) return;
    await pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    this.#joinedEpoch = answer.room_epoch;
    this.#iceServers = answer.ice_servers;
    this.#attach(pc, answer);
    if (pc.connectionState === "connected")
      this.#setState("connected"); // it came back while it was asked about
    else if (need !== "renegotiate" || fresh) this.#expectConnected(pc, fresh ? FRESH_MS : RESTART_MS);
    this.#declared = "";
    await this.#declare();
  }

  #stateDuring(need: Need): RoomState {
    return need === "renegotiate" ? this.#state : "reconnecting";
  }

  #sourcesByMid(pc: RTCPeerConnection): Record<string, Source> {
    const byMid: Record<string, Source> = {};
    pc.getTransceivers().forEach((transceiver, index) => {
      const source = this.#lines[index];
      if (transceiver.mid !== null && source !== undefined) byMid[transceiver.mid] = source;
    });
    return byMid;
  }

  /** Puts what arrives on each m-line behind its RemoteTrack. */
  #attach(pc: RTCPeerConnection, answer: RoomAnswer): void {
    const arriving = new Map<string, Source>(Object.entries(this.#sourcesByMid(pc)));
    for (const track of answer.tracks) if (track.user_id !== this.selfId) arriving.set(track.mid, track.source);
    for (const transceiver of pc.getTransceivers()) {
      const source = transceiver.mid === null ? undefined : arriving.get(transceiver.mid);
      if (source !== undefined) this.remote[source].attach(transceiver.receiver.track);
    }
    for (const [userId, muted] of Object.entries(answer.muted)) this.declare(userId, muted);
    this.#stats.watch(pc, arriving);
    this.#reportFrom(pc, arriving);
    this.emit("changed", null);
  }

  /** Tells the server what this connection's getStats says, as long as it is the connection of the moment. */
  #reportFrom(pc: RTCPeerConnection, sources: ReadonlyMap<string, Source>): void {
    const digest = new StatsDigest();
    if (this.#reports !== null) clearInterval(this.#reports);
    this.#reports = setInterval(() => {
      if (pc !== this.#pc || this.#state !== "connected" || !this.signal.online) return;
      void pc
        .getStats()
        .then((report) => this.signal.report(digest.take(report.values(), sources)))
        .catch(() => undefined); // the next one says the same and more
    }, DIGEST_EVERY_MS);
  }

  #connectionChanged(pc: RTCPeerConnection): void {
    if (pc !== this.#pc || !this.#running()) return;
    switch (pc.connectionState) {
      case "connected":
        this.#disarm();
        this.#setState("connected");
        break;
      case "disconnected":
        this.#arm(DISCONNECTED_MS, () => this.#ask("restart"));
        break;
      case "failed":
        this.#disarm();
        this.#ask(this.#state === "connected" ? "restart" : "fresh");
        break;
    }
    this.emit("changed", null);
  }

  #expectConnected(pc: RTCPeerConnection, withinMs: number): void {
    this.#arm(withinMs, () => {
      if (pc === this.#pc && pc.connectionState !== "connected") this.#ask("fresh");
    });
  }

  #arm(delay: number, action: () => void): void {
    this.#disarm();
    this.#timer = setTimeout(action, delay);
  }

  #disarm(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** Tells the other side (and the meter) what is switched off, when it changed. */
  async #declare(): Promise<void> {
    if (this.#joinedEpoch === 0 || !this.#running()) return;
    const muted: Muted = {};
    for (const source of this.sources) muted[source] = !this.local[source].enabled;
    const text = JSON.stringify(muted);
    if (text === this.#declared) return;
    this.#declared = text;
    try {
      await this.signal.mute(muted);
    } catch {
      if (this.#declared === text) this.#declared = ""; // said again on the next change or reconnection
    }
  }

  #setState(state: RoomState): void {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    this.emit("state", state);
    this.emit("changed", null);
  }
}
