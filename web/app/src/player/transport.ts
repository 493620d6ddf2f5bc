import type { AccessStream } from "@turnpike/sdk";

/** Above this a stream is set to the common time; below, its speed is nudged. */
export const JUMP_S = 0.35;
const NUDGE_S = 0.06;
const NUDGE = 0.06;

/** Where a stream stands when the whole recording is at `positionS`; null: not begun yet, or over. */
export function localTime(stream: Pick<AccessStream, "offset_ms" | "duration_ms">, positionS: number): number | null {
  const local = positionS - stream.offset_ms / 1000;
  return local < 0 || local > stream.duration_ms / 1000 ? null : local;
}

/** What brings a stream back in step: a jump, or a slightly other speed. */
export function correction(actualS: number, wantedS: number, speed: number): { seekTo: number | null; rate: number } {
  const ahead = actualS - wantedS;
  if (Math.abs(ahead) > JUMP_S * Math.max(1, speed)) return { seekTo: wantedS, rate: speed };
  if (Math.abs(ahead) <= NUDGE_S) return { seekTo: null, rate: speed };
  return { seekTo: null, rate: speed * (ahead > 0 ? 1 - NUDGE : 1 + NUDGE) };
}

/** The whole length: to the end of the stream that ends last. */
export function totalSeconds(streams: readonly Pick<AccessStream, "offset_ms" | "duration_ms">[]): number {
  return Math.max(0, ...streams.map((s) => (s.offset_ms + s.duration_ms) / 1000));
}
