import type { Waveform } from "@turnpike/sdk";

/** Below this (of 255) nobody is said to speak. */
const HEARD = 10;
/** Pauses within what one person says. */
const BREATH_MS = 700;
/** Shorter sounds are no speech. */
const WORD_MS = 250;

/** The loudest of each of `count` stretches, 0–1, bent so that quiet speech is seen. */
export function bars(peaks: readonly number[], count: number): number[] {
  const found = new Array<number>(count).fill(0);
  peaks.forEach((peak, index) => {
    const bar = Math.min(count - 1, Math.floor((index * count) / peaks.length));
    found[bar] = Math.max(found[bar] ?? 0, peak);
  });
  return found.map((peak) => (Math.min(255, Math.max(0, peak)) / 255) ** 0.6);
}

/** Bars around a middle line as one SVG path, in a box `bars × height`; silence is a thin line. */
export function barPath(values: readonly number[], height: number): string {
  const middle = height / 2;
  return values
    .map((value, index) => {
      const half = Math.max(0.02, value) * (middle - 0.5);
      return `M${index + 0.5} ${(middle - half).toFixed(1)}V${(middle + half).toFixed(1)}`;
    })
    .join("");
}

/** Somebody speaks, from the recording's start; `n` is their place among the waveform's participants. */
export interface Speech {
  n: number;
  from_ms: number;
  to_ms: number;
}

/** Who is heard when: the louder one counts, breaths are bridged, clicks are left out. */
export function speeches({ participants, step_ms }: Pick<Waveform, "participants" | "step_ms">): Speech[] {
  const steps = Math.max(0, ...participants.map((p) => p.peaks.length));
  const found: Speech[] = [];
  for (let step = 0; step < steps; step += 1) {
    let loudest = -1;
    let peak = HEARD;
    participants.forEach(({ peaks }, n) => {
      const own = peaks[step] ?? 0;
      if (own > peak) [loudest, peak] = [n, own];
    });
    if (loudest < 0) continue;
    const from_ms = step * step_ms;
    const last = found.at(-1);
    if (last !== undefined && last.n === loudest && from_ms - last.to_ms <= BREATH_MS) last.to_ms = from_ms + step_ms;
    else found.push({ n: loudest, from_ms, to_ms: from_ms + step_ms });
  }
  return found.filter((speech) => speech.to_ms - speech.from_ms >= Math.min(WORD_MS, step_ms * 2));
}

/** Who speaks at a moment; null: nobody. */
export function speakerAt(all: readonly Speech[], at_ms: number): number | null {
  return all.find((speech) => at_ms >= speech.from_ms && at_ms < speech.to_ms)?.n ?? null;
}
