import { capture } from "./devices";
import { Emitter } from "./emitter";
import { fitEncodings } from "./encodings";
import { asTurnpikeError, type TurnpikeError } from "./errors";
import type { Source } from "./wire";

/**
 * What this page sends from one source. It outlives RTCPeerConnections: a new connection gets its sender with `attach`.
 * `stream` is stable, for the own preview. A camera or screen that is off is released, so that its light goes out; a
 * microphone that is off stays open, silent, so that speech is not clipped when it comes back.
 */
export class LocalTrack extends Emitter<{ changed: null }> {
  readonly stream = new MediaStream();
  #track: MediaStreamTrack | null = null;
  #sender: RTCRtpSender | null = null;
  #enabled: boolean;
  #error: TurnpikeError | null = null;
  #deviceId: string | null = null;
  #queue: Promise<void> = Promise.resolve();
  /** The encodings that the server wants; null: all, as on each new connection. */
  #layers: readonly string[] | null = null;
  #fitting: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(readonly source: Source) {
    super();
    this.#enabled = source !== "screen";
  }

  /** Whether the user wants it sent. */
  get enabled(): boolean {
    return this.#enabled;
  }

  /** Whether it is in fact being captured and sent. */
  get live(): boolean {
    return this.#enabled && this.#track !== null;
  }

  get error(): TurnpikeError | null {
    return this.#error;
  }

  get deviceId(): string | null {
    return this.#deviceId ?? this.#track?.getSettings().deviceId ?? null;
  }

  /** Switches it on or off; rejects (and stays off) when the device can't be had. */
  setEnabled(on: boolean): Promise<void> {
    return this.#serially(async () => {
      this.#enabled = on;
      if (on) await this.#ensure();
      else await this.#rest();
    });
  }

  /** Captures from another device from now on. */
  setDevice(deviceId: string): Promise<void> {
    return this.#serially(async () => {
      this.#deviceId = deviceId;
      if (!this.#enabled && this.source !== "microphone") return;
      const fresh = await capture(this.source, deviceId);
      this.#use(fresh);
      await this.#sender?.replaceTrack(fresh);
    });
  }

  /** Takes a track opened elsewhere (microphone and camera share one prompt), or the reason why there is none. */
  adopt(result: MediaStreamTrack | TurnpikeError): Promise<void> {
    return this.#serially(async () => {
      if (!(result instanceof MediaStreamTrack)) {
        this.#enabled = false;
        this.#error = result;
        return;
      }
      if (this.#closed || this.#track !== null || (!this.#enabled && this.source !== "microphone")) {
        result.stop();
        return;
      }
      this.#use(result);
      await this.#sender?.replaceTrack(result);
    });
  }

  /** The sender of a new RTCPeerConnection. */
  attach(sender: RTCRtpSender): void {
    this.#sender = sender;
    this.#layers = null;
    void sender.replaceTrack(this.#track).catch(() => undefined); // its connection was closed meanwhile
    this.#fit();
  }

  /** Sends these simulcast encodings only, from now on. */
  sendLayers(rids: readonly string[]): void {
    this.#layers = rids;
    this.#fit();
  }

  /** Suits the simulcast encodings to the picture's size and to what the server wants, one change after the other. */
  #fit(): void {
    this.#fitting = this.#fitting.then(async () => {
      const { width, height } = this.#track?.getSettings() ?? {};
      const parameters = width === undefined ? undefined : this.#sender?.getParameters();
      if (parameters === undefined || parameters.encodings.length < 2) return;
      if (fitEncodings(parameters.encodings, width ?? 0, height ?? 0, this.#layers)) {
        // A closed connection, or one between two descriptions, refuses: the server says again what it wants.
        await this.#sender?.setParameters(parameters).catch(() => undefined);
      }
    });
  }

  /** Lets go of the device without switching anything off: the call was not taken after all. */
  release(): void {
    this.#drop();
    this.emit("changed", null);
  }

  close(): void {
    this.#closed = true;
    this.#sender = null;
    this.release();
  }

  #serially(work: () => Promise<void>): Promise<void> {
    const done = this.#queue.then(async () => {
      try {
        this.#error = null;
        await work();
      } catch (thrown) {
        this.#error = asTurnpikeError(thrown);
        if (this.#track === null) this.#enabled = false;
        throw this.#error;
      } finally {
        this.emit("changed", null);
      }
    });
    this.#queue = done.catch(() => undefined);
    return done;
  }

  async #ensure(): Promise<void> {
    if (this.#closed) return;
    if (this.#track !== null) {
      this.#track.enabled = true;
      return;
    }
    const fresh = await capture(this.source, this.#deviceId);
    if (this.#closed) return fresh.stop();
    this.#use(fresh);
    await this.#sender?.replaceTrack(fresh);
  }

  async #rest(): Promise<void> {
    if (this.#track === null) return;
    if (this.source === "microphone") {
      this.#track.enabled = false;
      return;
    }
    this.#drop();
    await this.#sender?.replaceTrack(null);
  }

  #use(track: MediaStreamTrack): void {
    this.#drop();
    this.#track = track;
    track.enabled = this.#enabled;
    this.stream.addTrack(track);
    this.#fit();
    // Unplugged, or sharing stopped from the browser's own bar.
    track.onended = () => {
      if (this.#track === track) void this.setEnabled(false).then(() => this.#drop());
    };
  }

  #drop(): void {
    const track = this.#track;
    if (track === null) return;
    this.#track = null;
    track.onended = null;
    track.stop();
    this.stream.removeTrack(track);
  }
}

/**
 * What the other side sends from one source. It outlives RTCPeerConnections: `stream` is stable, its track is replaced
 * inside, so that a `<video>` keeps playing through a reconnection.
 */
export class RemoteTrack extends Emitter<{ changed: null }> {
  readonly stream = new MediaStream();
  #track: MediaStreamTrack | null = null;
  #muted: boolean | null = null;

  constructor(readonly source: Source) {
    super();
  }

  get track(): MediaStreamTrack | null {
    return this.#track;
  }

  /** Whether the other side has switched it off; null: it has not said. */
  get muted(): boolean | null {
    return this.#muted;
  }

  /** Whether there is something to see or hear: by what the other side declared, else by packets arriving. */
  get available(): boolean {
    if (this.#track === null) return false;
    if (this.#muted !== null) return !this.#muted;
    return this.source === "screen" ? !this.#track.muted : true;
  }

  attach(track: MediaStreamTrack): void {
    if (this.#track === track) return;
    const old = this.#track;
    this.#track = track;
    this.stream.addTrack(track);
    if (old !== null) {
      old.onmute = old.onunmute = null;
      this.stream.removeTrack(old);
    }
    track.onmute = track.onunmute = () => this.emit("changed", null);
    this.emit("changed", null);
  }

  declare(muted: boolean): void {
    if (this.#muted === muted) return;
    this.#muted = muted;
    this.emit("changed", null);
  }
}
