import { Playout } from "./playout";
import type { Source } from "./wire";

/** What one remote track brought, over all connections of the call so far. */
export interface RemoteStats {
  frames_decoded: number;
  width: number;
  height: number;
  frames_per_second: number;
  frozen_ms: number;
  /** Sound played, without what was made up for lost packets. */
  audio_ms: number;
  packets_lost: number;
  codec: string | null;
  /** Unix ms of the first and the last decoded frame (video) or played sample (audio) noticed; null: none yet. */
  first_at_ms: number | null;
  last_at_ms: number | null;
}

/** A digest of getStats, small enough to look at and to send. */
export interface RoomStats {
  at_ms: number;
  connections: number;
  connection_state: RTCPeerConnectionState | "none";
  rtt_ms: number | null;
  available_outgoing_bps: number | null;
  bytes_sent: number;
  bytes_received: number;
  remote: Record<Source, RemoteStats>;
}

const UNTIL_FIRST_MS = 60;
const AFTERWARDS_MS = 250;

function empty(): RemoteStats {
  return {
    frames_decoded: 0,
    width: 0,
    height: 0,
    frames_per_second: 0,
    frozen_ms: 0,
    audio_ms: 0,
    packets_lost: 0,
    codec: null,
    first_at_ms: null,
    last_at_ms: null,
  };
}

type Totals = Pick<RemoteStats, "frames_decoded" | "frozen_ms" | "audio_ms" | "packets_lost">;
const TOTALS = ["frames_decoded", "frozen_ms", "audio_ms", "packets_lost"] as const;

/**
 * Watches one room's connections one after the other. It samples often until the first frame and then four times a
 * second, so that the times of the first and last frame are known to a quarter second, independent of the server, and
 * so that what arrives is played later as soon as packets get lost.
 */
export class StatsWatch {
  readonly #digest: RoomStats = {
    at_ms: 0,
    connections: 0,
    connection_state: "none",
    rtt_ms: null,
    available_outgoing_bps: null,
    bytes_sent: 0,
    bytes_received: 0,
    remote: { microphone: empty(), camera: empty(), screen: empty() },
  };
  #pc: RTCPeerConnection | null = null;
  #sourceOf: ReadonlyMap<string, Source> = new Map();
  /** Sums of connections that are gone. */
  #before = new Map<Source, Totals>();
  #timer: ReturnType<typeof setTimeout> | null = null;
  #playout = new Playout();

  get digest(): RoomStats {
    return this.#digest;
  }

  /** From now on this connection. `sourceOf`: the source that arrives on each mid. */
  watch(pc: RTCPeerConnection, sourceOf: ReadonlyMap<string, Source>): void {
    this.#sourceOf = sourceOf;
    if (this.#pc === pc) return;
    this.#pc = pc;
    this.#playout = new Playout();
    this.#digest.connections += 1;
    for (const [source, stats] of Object.entries(this.#digest.remote) as [Source, RemoteStats][]) {
      this.#before.set(source, { ...stats });
    }
    this.#again(0);
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#pc = null;
    this.#digest.connection_state = "closed";
  }

  /** Reads getStats now. */
  async sample(): Promise<RoomStats> {
    const pc = this.#pc;
    if (pc === null) return this.#digest;
    const report = await pc.getStats();
    if (pc !== this.#pc) return this.#digest;
    this.#digest.at_ms = Date.now();
    this.#digest.connection_state = pc.connectionState;
    report.forEach((entry: Record<string, unknown> & { type: string }) => this.#take(entry, report));
    if (this.#playout.take(report.values(), performance.now())) this.#playout.apply(pc.getReceivers());
    return this.#digest;
  }

  #again(delay: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      void this.sample().then(() => {
        if (this.#pc === null) return;
        const { camera, microphone } = this.#digest.remote;
        const begun = camera.first_at_ms !== null || (camera.codec === null && microphone.first_at_ms !== null);
        this.#again(begun ? AFTERWARDS_MS : UNTIL_FIRST_MS);
      });
    }, delay);
  }

  #take(entry: Record<string, unknown> & { type: string }, report: RTCStatsReport): void {
    if (entry.type === "candidate-pair" && entry.nominated === true) {
      if (typeof entry.currentRoundTripTime === "number") this.#digest.rtt_ms = entry.currentRoundTripTime * 1000;
      if (typeof entry.availableOutgoingBitrate === "number") {
        this.#digest.available_outgoing_bps = entry.availableOutgoingBitrate;
      }
      this.#digest.bytes_sent = number(entry.bytesSent);
      this.#digest.bytes_received = number(entry.bytesReceived);
    }
    if (entry.type !== "inbound-rtp" || typeof entry.mid !== "string") return;
    const source = this.#sourceOf.get(entry.mid);
    if (source !== undefined) this.#takeInbound(source, entry, report);
  }

  #takeInbound(source: Source, entry: Record<string, unknown>, report: RTCStatsReport): void {
    const stats = this.#digest.remote[source];
    const before = this.#before.get(source) ?? empty();
    const concealed = number(entry.silentConcealedSamples) + number(entry.concealedSamples);
    const samples = Math.max(0, number(entry.totalSamplesReceived) - concealed);
    const now: Totals = {
      frames_decoded: number(entry.framesDecoded),
      frozen_ms: number(entry.totalFreezesDuration) * 1000,
      audio_ms: samples / 48,
      packets_lost: number(entry.packetsLost),
    };
    const grew = before.frames_decoded + now.frames_decoded > stats.frames_decoded;
    const heard = source === "microphone" && before.audio_ms + now.audio_ms > stats.audio_ms;
    for (const key of TOTALS) stats[key] = before[key] + now[key];
    stats.width = number(entry.frameWidth) || stats.width;
    stats.height = number(entry.frameHeight) || stats.height;
    stats.frames_per_second = number(entry.framesPerSecond);
    const codec = typeof entry.codecId === "string" ? (report.get(entry.codecId) as { mimeType?: string }) : undefined;
    stats.codec = codec?.mimeType ?? stats.codec;
    if (grew || heard) {
      stats.first_at_ms ??= Date.now();
      stats.last_at_ms = Date.now();
    }
  }
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}
