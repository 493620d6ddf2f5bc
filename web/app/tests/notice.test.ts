import { afterEach, beforeEach, expect, test, vi } from "vitest";

const DUE = { version: "1", text: "It is recorded.", url: "https://tenant.example/notice.mp3" };
let state: "running" | "suspended";
let sounded = 0;
let audio: { plays: boolean; ends: boolean };

class FakeContext {
  currentTime = 0;
  destination = {};
  get state() {
    return state;
  }
  resume() {
    return Promise.resolve();
  }
  createGain() {
    const ramp = () => undefined;
    const gain = { setValueAtTime: ramp, linearRampToValueAtTime: ramp, exponentialRampToValueAtTime: ramp };
    return { gain, connect: ramp };
  }
  createOscillator() {
    sounded += 1;
    const nothing = () => undefined;
    return { type: "", frequency: { value: 0 }, connect: nothing, start: nothing, stop: nothing };
  }
}

class FakeAudio {
  currentTime = 0;
  readonly #heard = new Map<string, () => void>();
  constructor(readonly src: string) {}
  addEventListener(name: string, listener: () => void) {
    this.#heard.set(name, listener);
  }
  play() {
    if (!audio.plays) return Promise.reject(new Error("NotAllowedError"));
    queueMicrotask(() => this.#heard.get(audio.ends ? "ended" : "error")?.());
    return Promise.resolve();
  }
}

beforeEach(() => {
  state = "running";
  sounded = 0;
  audio = { plays: true, ends: true };
  vi.resetModules();
  vi.stubGlobal("AudioContext", FakeContext);
  vi.stubGlobal("Audio", FakeAudio);
});

afterEach(() => vi.unstubAllGlobals());

const play = async (due: typeof DUE | { version: string; text: string; url: null }) =>
  (await import("../src/call/notice")).playNotice(due);

test("a tenant's own notice is played, and no sound beside it", async () => {
  expect(await play(DUE)).toBe("clip");
  expect(sounded).toBe(0);
});

test("without one, or where it cannot be played, two notes are", async () => {
  expect(await play({ ...DUE, url: null })).toBe("tone");
  expect(sounded).toBe(2);
  audio = { plays: true, ends: false };
  expect(await play(DUE)).toBe("tone");
});

test("where the browser lets no sound out, that is what is told", async () => {
  state = "suspended";
  audio.plays = false;
  expect(await play(DUE)).toBe("shown");
  expect(sounded).toBe(0);
});
