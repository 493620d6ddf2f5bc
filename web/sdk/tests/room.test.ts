import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { TurnpikeError } from "../src/errors";
import { Room, type RoomSignal } from "../src/room";
import type { Muted, RoomAnswer, Source } from "../src/wire";

/** As much of a browser as a Room touches. */
class FakeTrack {
  enabled = true;
  muted = false;
  onmute: (() => void) | null = null;
  onunmute: (() => void) | null = null;
  onended: (() => void) | null = null;
  constructor(readonly kind: string) {}
  stop(): void {}
  getSettings() {
    return { deviceId: this.kind };
  }
}

class FakeStream {
  readonly tracks: FakeTrack[] = [];
  constructor(tracks: FakeTrack[] = []) {
    this.tracks.push(...tracks);
  }
  addTrack(track: FakeTrack): void {
    this.tracks.push(track);
  }
  removeTrack(track: FakeTrack): void {
    this.tracks.splice(this.tracks.indexOf(track), 1);
  }
  getTracks(): FakeTrack[] {
    return this.tracks;
  }
  getAudioTracks(): FakeTrack[] {
    return this.tracks.filter((t) => t.kind === "audio");
  }
  getVideoTracks(): FakeTrack[] {
    return this.tracks.filter((t) => t.kind === "video");
  }
}

class FakeConnection {
  static readonly made: FakeConnection[] = [];
  connectionState: RTCPeerConnectionState = "new";
  onconnectionstatechange: (() => void) | null = null;
  localDescription: { sdp: string } | null = null;
  restarts = 0;
  closed = false;
  readonly #transceivers: {
    mid: string;
    sender: { replaceTrack: () => Promise<void> };
    receiver: { track: FakeTrack };
  }[] = [];

  constructor(readonly configuration: RTCConfiguration) {
    FakeConnection.made.push(this);
  }
  addTransceiver(kind: string) {
    const transceiver = {
      mid: String(this.#transceivers.length),
      sender: { replaceTrack: () => Promise.resolve() },
      receiver: { track: new FakeTrack(kind) },
    };
    this.#transceivers.push(transceiver);
    return transceiver;
  }
  getTransceivers() {
    return this.#transceivers;
  }
  async setLocalDescription(): Promise<void> {
    this.localDescription = { sdp: `offer ${FakeConnection.made.indexOf(this)}` };
  }
  async setRemoteDescription(): Promise<void> {
    if (this.connectionState === "new") this.become("connected");
  }
  become(state: RTCPeerConnectionState): void {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }
  restartIce(): void {
    this.restarts += 1;
  }
  async getStats() {
    return new Map();
  }
  close(): void {
    this.closed = true;
    this.connectionState = "closed";
  }
}

class FakeSignal implements RoomSignal {
  online = true;
  iceServers: { urls: string[]; username?: string; credential?: string }[] = [];
  epoch = 1;
  refusals: TurnpikeError[] = [];
  readonly joins: { sdp: string; sources: Record<string, Source>; fresh: boolean }[] = [];
  readonly mutes: Muted[] = [];

  async join(sdp: string, sources: Record<string, Source>, fresh: boolean): Promise<RoomAnswer> {
    this.joins.push({ sdp, sources, fresh });
    const refusal = this.refusals.shift();
    if (refusal !== undefined) throw refusal;
    const tracks = Object.entries(sources).map(([mid, source]) => ({ mid, source, user_id: "usr_other" }));
    const muted = { usr_other: { screen: true } };
    return { sdp: "answer", room_epoch: this.epoch, tracks, muted, ice_servers: this.iceServers };
  }

  async report(): Promise<void> {}

  async mute(muted: Muted): Promise<void> {
    this.mutes.push(muted);
  }
}

const settle = () => vi.advanceTimersByTimeAsync(0);

describe("Room", () => {
  let signal: FakeSignal;
  let room: Room;

  beforeEach(() => {
    vi.useFakeTimers();
    FakeConnection.made.length = 0;
    vi.stubGlobal("RTCPeerConnection", FakeConnection);
    vi.stubGlobal("MediaStream", FakeStream);
    vi.stubGlobal("MediaStreamTrack", FakeTrack);
    vi.stubGlobal("navigator", {
      mediaDevices: {
        getUserMedia: async ({ audio, video }: MediaStreamConstraints) =>
          new FakeStream([...(audio ? [new FakeTrack("audio")] : []), ...(video ? [new FakeTrack("video")] : [])]),
      },
    });
    signal = new FakeSignal();
    room = new Room("video", "usr_me", signal);
  });

  afterEach(() => {
    room.close();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it("makes its offer before the room is open and joins with it at once", async () => {
    room.prepare();
    await settle();
    expect(signal.joins).toEqual([]);
    expect(FakeConnection.made.length).toBe(1);
    room.enter(1);
    await settle();
    expect(signal.joins).toEqual([
      { sdp: "offer 0", sources: { 0: "microphone", 1: "camera", 2: "screen" }, fresh: true },
    ]);
    expect(room.state).toBe("connected");
    expect(room.remote.camera.available).toBe(true);
    expect(room.remote.screen.available).toBe(false);
    expect(signal.mutes).toEqual([{ microphone: false, camera: false, screen: true }]);
  });

  it("opens a new connection behind the same tracks when the room moves", async () => {
    room.enter(1);
    await settle();
    const { stream } = room.remote.camera;
    const before = stream.getTracks()[0];
    signal.epoch = 2;
    room.enter(2);
    room.enter(1);
    await settle();
    expect(FakeConnection.made.length).toBe(2);
    expect(FakeConnection.made[0]?.closed).toBe(true);
    expect(signal.joins.map((j) => j.fresh)).toEqual([true, true]);
    expect(room.remote.camera.stream).toBe(stream);
    expect(stream.getTracks().length).toBe(1);
    expect(stream.getTracks()[0]).not.toBe(before);
  });

  it("restarts ICE after two seconds without a connection, and starts anew when that does not help", async () => {
    room.enter(1);
    await settle();
    const [first] = FakeConnection.made;
    first?.become("disconnected");
    await vi.advanceTimersByTimeAsync(1_900);
    expect(signal.joins.length).toBe(1);
    await vi.advanceTimersByTimeAsync(200);
    expect(first?.restarts).toBe(1);
    expect(signal.joins.at(-1)?.fresh).toBe(false);
    expect(room.state).toBe("reconnecting");
    await vi.advanceTimersByTimeAsync(5_100);
    expect(FakeConnection.made.length).toBe(2);
    expect(signal.joins.at(-1)?.fresh).toBe(true);
    expect(room.state).toBe("connected");
  });

  it("leaves a connection alone that comes back by itself", async () => {
    room.enter(1);
    await settle();
    FakeConnection.made[0]?.become("disconnected");
    await vi.advanceTimersByTimeAsync(1_000);
    FakeConnection.made[0]?.become("connected");
    await vi.advanceTimersByTimeAsync(10_000);
    expect(signal.joins.length).toBe(1);
    expect(room.state).toBe("connected");
  });

  it("waits for the signaling side and goes on when it is back", async () => {
    signal.online = false;
    room.enter(1);
    await settle();
    expect(signal.joins.length).toBe(0);
    signal.online = true;
    room.resume();
    await settle();
    expect(signal.joins.length).toBe(1);
    expect(room.state).toBe("connected");
    room.resume();
    await settle();
    expect(signal.joins.length).toBe(1);
  });

  it("tries a refused join again with a new connection, but not one that is refused for good", async () => {
    signal.refusals = [new TurnpikeError("timeout", "slow")];
    room.enter(1);
    await settle();
    expect(room.error?.code).toBe("timeout");
    await vi.advanceTimersByTimeAsync(500);
    expect(signal.joins.map((j) => j.sdp)).toEqual(["offer 0", "offer 1"]);
    expect(room.error).toBeNull();

    signal.refusals = [new TurnpikeError("not_found", "There is no such session.")];
    room.enter(2);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(signal.joins.length).toBe(3);
    expect(room.error?.code).toBe("not_found");
  });

  it("declares what is switched off once, and again after a reconnection of the socket", async () => {
    room.enter(1);
    await settle();
    await room.local.microphone.setEnabled(false);
    await room.local.camera.setEnabled(false);
    await settle();
    expect(signal.mutes.at(-1)).toEqual({ microphone: true, camera: true, screen: true });
    const said = signal.mutes.length;
    room.resume();
    await settle();
    expect(signal.mutes.length).toBe(said + 1);
  });

  async function connected(): Promise<FakeConnection> {
    room.enter(1);
    await vi.advanceTimersByTimeAsync(10);
    expect(room.state).toBe("connected");
    return FakeConnection.made[FakeConnection.made.length - 1] as FakeConnection;
  }

  it("gathers candidates anew on another network, once, and keeps the connection", async () => {
    const pc = await connected();
    room.networkChanged();
    room.networkChanged();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(pc.restarts).toBe(1);
    expect(signal.joins.map((join) => join.fresh)).toEqual([true, false]);
    expect(FakeConnection.made.length).toBe(1);
  });

  it("does not wait out its pause when the room has moved", async () => {
    const pc = await connected();
    const gone = new TurnpikeError("unknown_room", "gone");
    signal.refusals = [gone, gone, gone, gone];
    pc.become("failed");
    await vi.advanceTimersByTimeAsync(400 + 800 + 1_600 + 10);
    const before = signal.joins.length;
    signal.refusals = [];
    signal.epoch = 2;
    room.enter(2);
    await vi.advanceTimersByTimeAsync(1);
    expect(signal.joins.length).toBe(before + 1);
    expect(room.state).toBe("connected");
  });

  it("uses the servers of the last answer for the next connection", async () => {
    signal.iceServers = [{ urls: ["turn:a"], username: "1:me", credential: "x" }];
    const first = await connected();
    expect(first.configuration.iceServers).toEqual(signal.iceServers);
    signal.iceServers = [{ urls: ["turn:a"], username: "2:me", credential: "y" }];
    room.enter(2);
    await vi.advanceTimersByTimeAsync(10);
    room.enter(3);
    await vi.advanceTimersByTimeAsync(10);
    const last = FakeConnection.made[FakeConnection.made.length - 1];
    expect(last?.configuration.iceServers).toEqual(signal.iceServers);
  });

  it("goes on as video on the same connection: offers camera and screen on the same connection, and switches them off again", async () => {
    room = new Room("audio", "usr_me", signal);
    room.enter(1);
    await settle();
    expect(signal.joins[0]?.sources).toEqual({ 0: "microphone" });
    room.setKind("video");
    await settle();
    expect(FakeConnection.made.length).toBe(1);
    expect(signal.joins.at(-1)).toMatchObject({
      fresh: false,
      sources: { 0: "microphone", 1: "camera", 2: "screen" },
    });
    expect(room.local.camera.live).toBe(true);
    const joins = signal.joins.length;
    room.setKind("audio");
    await settle();
    expect(signal.joins.length).toBe(joins); // the server has cut it off already
    expect(room.local.camera.live).toBe(false);
    expect(room.remote.camera.available).toBe(false);
    expect(signal.mutes.at(-1)).toEqual({ microphone: false });
    room.setKind("video");
    await settle();
    expect(signal.joins.at(-1)?.sources).toEqual({ 0: "microphone", 1: "camera", 2: "screen" });
    expect(FakeConnection.made.length).toBe(1);
  });

  it("keeps a chat's connection with an m-line that carries nothing", async () => {
    room = new Room("chat", "usr_me", signal);
    room.enter(1);
    await settle();
    expect(signal.joins[0]?.sources).toEqual({ 0: "microphone" });
    expect(room.local.microphone.live).toBe(false);
    room.setKind("audio");
    await settle();
    expect(room.local.microphone.live).toBe(true);
    expect(signal.joins.length).toBe(2);
  });
});
