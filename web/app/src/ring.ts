/** The sounds of ringing, made with WebAudio: no file to load, nothing to license. */

interface Tone {
  /** Frequencies sounded together, in Hz. */
  notes: readonly number[];
  startS: number;
  lengthS: number;
}

/** What a provider hears: two rising pairs, friendly but not to be missed. */
const RING: readonly Tone[] = [
  { notes: [659, 830], startS: 0, lengthS: 0.22 },
  { notes: [784, 988], startS: 0.24, lengthS: 0.22 },
  { notes: [659, 830], startS: 0.7, lengthS: 0.22 },
  { notes: [784, 988], startS: 0.94, lengthS: 0.34 },
];
/** What a client hears while it rings over there: quieter and slower. */
const RINGBACK: readonly Tone[] = [{ notes: [440, 480], startS: 0, lengthS: 1.1 }];
/** Something is to be noted: two falling notes, told apart from ringing at once. */
const NOTICE: readonly Tone[] = [
  { notes: [880], startS: 0, lengthS: 0.3 },
  { notes: [587], startS: 0.32, lengthS: 0.5 },
];
const RESUME_MS = 500;
const MESSAGE: readonly Tone[] = [{ notes: [988], startS: 0, lengthS: 0.09 }];

let context: AudioContext | null = null;

function audio(): AudioContext | null {
  if (typeof AudioContext === "undefined") return null;
  context ??= new AudioContext();
  if (context.state === "suspended") void context.resume().catch(() => undefined); // no gesture yet: stays silent
  return context;
}

/** Browsers allow sound only after a gesture on the page: call this in one. */
export function unlockSound(): void {
  audio();
}

function play(tones: readonly Tone[], volume: number): void {
  const ctx = audio();
  if (ctx === null || ctx.state !== "running") return;
  for (const { notes, startS, lengthS } of tones) {
    const gain = ctx.createGain();
    const start = ctx.currentTime + startS;
    gain.gain.setValueAtTime(0, start);
    gain.gain.linearRampToValueAtTime(volume, start + 0.02);
    gain.gain.setValueAtTime(volume, start + lengthS * 0.6);
    gain.gain.exponentialRampToValueAtTime(0.0001, start + lengthS);
    gain.connect(ctx.destination);
    for (const note of notes) {
      const oscillator = ctx.createOscillator();
      oscillator.type = "triangle";
      oscillator.frequency.value = note;
      oscillator.connect(gain);
      oscillator.start(start);
      oscillator.stop(start + lengthS);
    }
  }
}

function repeat(tones: readonly Tone[], volume: number, everyMs: number): () => void {
  play(tones, volume);
  const timer = setInterval(() => play(tones, volume), everyMs);
  return () => clearInterval(timer);
}

/** Rings until the returned function is called. */
export const startRinging = (): (() => void) => repeat(RING, 0.18, 2_400);
export const startRingback = (): (() => void) => repeat(RINGBACK, 0.05, 3_200);
export const ringOnce = (): void => play(RING, 0.18);
export const messageSound = (): void => play(MESSAGE, 0.05);

/** Sounds a notice once; whether it could be heard. */
export async function noticeSound(): Promise<boolean> {
  const ctx = audio();
  if (ctx === null) return false;
  const running = () => ctx.state === "running";
  if (!running()) {
    const patience = new Promise((resolve) => setTimeout(resolve, RESUME_MS));
    await Promise.race([ctx.resume().catch(() => undefined), patience]);
  }
  if (!running()) return false;
  play(NOTICE, 0.14);
  return true;
}
