import { asTurnpikeError, TurnpikeError } from "./errors";

/** `udp` is what calls want; over `tcp`, or a detour by a TURN server, they work, if not as well. */
export type NetworkPath = "udp" | "tcp" | "turn";

/** What to tell the person, the most important first. */
export type NetworkAdvice =
  "good" | "blocked" | "detour_only" | "video_impossible" | "video_reduced" | "lossy" | "far" | "unstable";

export interface NetworkFigures {
  /** Which paths connected; a path that was not offered is left out. */
  paths: Partial<Record<NetworkPath, boolean>>;
  connect_ms: number | null;
  rtt_ms: number | null;
  jitter_ms: number | null;
  /** 0–1: what the server did not receive of what was sent, and the page of what came back. */
  loss_up: number | null;
  loss_down: number | null;
  /** What the connection takes upwards, as estimated. */
  up_bps: number | null;
  /** What came back at best: at least this much fits downwards. */
  down_bps: number | null;
}

export interface NetworkTestResult extends NetworkFigures {
  advice: NetworkAdvice[];
}

export type NetworkTestStep = "connecting" | "measuring" | "paths";

interface Signal {
  request<T>(message: string, body: object): Promise<T>;
}

interface Opened {
  probe_id: string;
  test_ms: number;
  open_ms: number;
}

const CONNECT_MS = 4_000;
const MEASURE_MS = 6_000;
const SAMPLE_MS = 500;
/** The estimate has left its careful beginning by then. */
const WARM_UP_MS = 2_000;
const PATH_MS = 2_500;
const BITRATE_MAX_BPS = 2_500_000;

/** Reasoned bounds: what a 640 × 360 picture with sound needs, and what people notice in a conversation. */
export function advise(figures: NetworkFigures): NetworkAdvice[] {
  const { paths, rtt_ms, jitter_ms, loss_up, loss_down, up_bps, down_bps } = figures;
  if (!Object.values(paths).includes(true)) return ["blocked"];
  const advice: NetworkAdvice[] = [];
  if (paths.udp !== true) advice.push("detour_only");
  const least = Math.min(up_bps ?? Infinity, down_bps ?? Infinity);
  if (least < 200_000) advice.push("video_impossible");
  else if (least < 700_000) advice.push("video_reduced");
  if (Math.max(loss_up ?? 0, loss_down ?? 0) > 0.03) advice.push("lossy");
  if ((rtt_ms ?? 0) > 300) advice.push("far");
  if ((jitter_ms ?? 0) > 50) advice.push("unstable");
  return advice.length > 0 ? advice : ["good"];
}

/** Only the candidates of one path. */
export function onlyPath(sdp: string, path: "udp" | "tcp"): string {
  return sdp
    .split("\r\n")
    .filter((line) => !line.startsWith("a=candidate:") || line.split(" ")[2]?.toLowerCase() === path)
    .join("\r\n");
}

function offers(sdp: string, path: "udp" | "tcp"): boolean {
  return sdp
    .split("\r\n")
    .some((line) => line.startsWith("a=candidate:") && line.split(" ")[2]?.toLowerCase() === path);
}

/**
 * Tests the way to the media servers before a call: sends a made-up picture and receives it back, so that neither
 * camera nor microphone nor money is needed. Takes about ten seconds.
 */
export class NetworkTest {
  readonly #pcs: RTCPeerConnection[] = [];
  #source: MadeUpPicture | null = null;
  #stopped = false;

  /** `iceServers`: as calls use them; those with TURN are a path of their own. */
  constructor(
    readonly signal: Signal,
    readonly iceServers: readonly RTCIceServer[] = [],
  ) {}

  /** Once only. Rejects where the server refuses the test; a network that fails is a result. */
  async run(onStep: (step: NetworkTestStep) => void = () => undefined): Promise<NetworkTestResult> {
    const { probe_id } = await this.signal.request<Opened>("probe.open", {});
    try {
      return await this.#measure(probe_id, onStep);
    } finally {
      this.stop();
      void this.signal.request("probe.close", { probe_id }).catch(() => undefined); // it ends by itself soon after
    }
  }

  /** Gives up; `run` rejects. */
  stop(): void {
    this.#stopped = true;
    this.#source?.stop();
    for (const pc of this.#pcs) pc.close();
  }

  async #measure(probeId: string, onStep: (step: NetworkTestStep) => void): Promise<NetworkTestResult> {
    const figures = none();
    const begun = performance.now();
    onStep("connecting");
    this.#source = new MadeUpPicture();
    const sender = this.#sender();
    const receiver = this.#connection();
    receiver.addTransceiver("video", { direction: "recvonly" });
    const answer = await this.#negotiate(probeId, "send", sender);
    await this.#negotiate(probeId, "receive", receiver);
    if (await connected([sender, receiver], CONNECT_MS)) {
      figures.connect_ms = Math.round(performance.now() - begun);
      const used = await usedPath(sender);
      figures.paths[used] = true;
      onStep("measuring");
      await this.#sample(sender, receiver, figures);
      if (used !== "udp") figures.paths.udp = false; // the better one would have been taken
    } else {
      for (const path of ["udp", "tcp"] as const) if (offers(answer, path)) figures.paths[path] = false;
    }
    if (figures.paths.tcp === undefined && offers(answer, "tcp")) {
      onStep("paths");
      figures.paths.tcp = await this.#tryPath(probeId, "tcp");
    }
    if (figures.paths.turn === undefined && this.#turn.length > 0) {
      onStep("paths");
      figures.paths.turn = await this.#tryPath(probeId, "turn");
    }
    this.#check();
    return { ...figures, advice: advise(figures) };
  }

  async #sample(sender: RTCPeerConnection, receiver: RTCPeerConnection, figures: NetworkFigures): Promise<void> {
    const until = performance.now() + MEASURE_MS;
    const warm = performance.now() + WARM_UP_MS;
    let before = await received(receiver);
    let first = before;
    let sentBefore = await sent(sender);
    const jitters: number[] = [];
    while (performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
      this.#check();
      const [up, down] = await Promise.all([sent(sender), received(receiver)]);
      figures.rtt_ms = lower(figures.rtt_ms, up.rtt_ms);
      if (performance.now() < warm) first = down;
      else jitters.push(down.jitter_ms);
      figures.loss_up = up.lossUp ?? figures.loss_up;
      figures.up_bps = Math.max(rate(sentBefore, up), up.available ?? 0, 0);
      figures.down_bps = Math.max(figures.down_bps ?? 0, rate(before, down));
      [before, sentBefore] = [down, up];
    }
    if (jitters.length > 0) figures.jitter_ms = jitters.reduce((sum, ms) => sum + ms, 0) / jitters.length;
    const expected = before.packets - first.packets + (before.lost - first.lost);
    if (expected > 0) figures.loss_down = Math.min(1, Math.max(0, (before.lost - first.lost) / expected));
  }

  /** Whether a connection comes about over this path alone. */
  async #tryPath(probeId: string, path: NetworkPath): Promise<boolean> {
    const pc = this.#sender(path === "turn" ? "relay" : "all");
    try {
      await this.#negotiate(probeId, "send", pc, path === "turn" ? undefined : path);
      return await connected([pc], PATH_MS);
    } catch (thrown) {
      if (this.#stopped) throw asTurnpikeError(thrown);
      return false;
    }
  }

  get #turn(): RTCIceServer[] {
    const urls = (server: RTCIceServer) => [server.urls].flat();
    return this.iceServers.filter((server) => urls(server).some((url) => /^turns?:/.test(url)));
  }

  #connection(iceTransportPolicy: RTCIceTransportPolicy = "all"): RTCPeerConnection {
    const pc = new RTCPeerConnection({
      bundlePolicy: "max-bundle",
      iceTransportPolicy,
      iceServers: [...this.iceServers],
    });
    this.#pcs.push(pc);
    return pc;
  }

  #sender(iceTransportPolicy: RTCIceTransportPolicy = "all"): RTCPeerConnection {
    const pc = this.#connection(iceTransportPolicy);
    const track = this.#source?.track;
    pc.addTransceiver(track ?? "video", { direction: "sendonly", sendEncodings: [{ maxBitrate: BITRATE_MAX_BPS }] });
    return pc;
  }

  async #negotiate(
    probe_id: string,
    side: "send" | "receive",
    pc: RTCPeerConnection,
    path?: "udp" | "tcp",
  ): Promise<string> {
    await pc.setLocalDescription();
    const mid = pc.getTransceivers()[0]?.mid ?? "0";
    const body = { probe_id, side, sdp: pc.localDescription?.sdp ?? "", mid };
    const { sdp } = await this.signal.request<{ sdp: string }>("probe.join", body);
    this.#check();
    await pc.setRemoteDescription({ type: "answer", sdp: path === undefined ? sdp : onlyPath(sdp, path) });
    return sdp;
  }

  #check(): void {
    if (this.#stopped) throw new TurnpikeError("stopped", "The test was stopped.");
  }
}

/** Noise that costs an encoder bits: moving blocks of random colour. */
class MadeUpPicture {
  readonly track: MediaStreamTrack | undefined;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor() {
    const canvas = document.createElement("canvas");
    canvas.width = 640;
    canvas.height = 360;
    const context = canvas.getContext("2d");
    const draw = () => {
      for (let n = 0; context !== null && n < 150; n += 1) {
        context.fillStyle = `hsl(${Math.random() * 360} 70% ${20 + Math.random() * 60}%)`;
        context.fillRect(Math.random() * 640, Math.random() * 360, 8 + Math.random() * 24, 8 + Math.random() * 24);
      }
    };
    draw();
    this.#timer = setInterval(draw, 40);
    this.track = canvas.captureStream(25).getVideoTracks()[0];
  }

  stop(): void {
    clearInterval(this.#timer);
    this.track?.stop();
  }
}

interface Counted {
  at: number;
  bytes: number;
}

function none(): NetworkFigures {
  return {
    paths: {},
    connect_ms: null,
    rtt_ms: null,
    jitter_ms: null,
    loss_up: null,
    loss_down: null,
    up_bps: null,
    down_bps: null,
  };
}

function lower(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.min(a, b);
}

function rate(before: Counted, now: Counted): number {
  return now.at > before.at ? (Math.max(0, now.bytes - before.bytes) * 8000) / (now.at - before.at) : 0;
}

function connected(pcs: readonly RTCPeerConnection[], withinMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const look = () => {
      const states = pcs.map((pc) => pc.connectionState);
      if (states.every((state) => state === "connected")) done(true);
      else if (states.some((state) => state === "failed" || state === "closed")) done(false);
    };
    const done = (result: boolean) => {
      clearTimeout(timer);
      for (const pc of pcs) pc.removeEventListener("connectionstatechange", look);
      resolve(result);
    };
    const timer = setTimeout(() => done(false), withinMs);
    for (const pc of pcs) pc.addEventListener("connectionstatechange", look);
    look();
  });
}

type Stats = Record<string, unknown> & { type: string };

async function entries(pc: RTCPeerConnection): Promise<Stats[]> {
  return [...(await pc.getStats()).values()] as Stats[];
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

async function usedPath(pc: RTCPeerConnection): Promise<NetworkPath> {
  const report = await entries(pc);
  const pair = report.find((entry) => entry.type === "candidate-pair" && entry.nominated === true);
  const local = report.find((entry) => entry.id === pair?.localCandidateId);
  if (local?.candidateType === "relay") return "turn";
  return local?.protocol === "tcp" ? "tcp" : "udp";
}

async function sent(
  pc: RTCPeerConnection,
): Promise<Counted & { rtt_ms: number | null; available: number | null; lossUp: number | null }> {
  const found = { at: performance.now(), bytes: 0, rtt_ms: null, available: null, lossUp: null } as Awaited<
    ReturnType<typeof sent>
  >;
  for (const entry of await entries(pc)) {
    if (entry.type === "candidate-pair" && entry.nominated === true) {
      if (typeof entry.currentRoundTripTime === "number") found.rtt_ms = entry.currentRoundTripTime * 1000;
      if (typeof entry.availableOutgoingBitrate === "number") found.available = entry.availableOutgoingBitrate;
    } else if (entry.type === "outbound-rtp") found.bytes += number(entry.bytesSent);
    else if (entry.type === "remote-inbound-rtp" && typeof entry.fractionLost === "number") {
      found.lossUp = entry.fractionLost;
    }
  }
  return found;
}

async function received(
  pc: RTCPeerConnection,
): Promise<Counted & { packets: number; lost: number; jitter_ms: number }> {
  const found = { at: performance.now(), bytes: 0, packets: 0, lost: 0, jitter_ms: 0 };
  for (const entry of await entries(pc)) {
    if (entry.type !== "inbound-rtp") continue;
    found.bytes += number(entry.bytesReceived);
    found.packets += number(entry.packetsReceived);
    found.lost += number(entry.packetsLost);
    found.jitter_ms = number(entry.jitter) * 1000;
  }
  return found;
}
