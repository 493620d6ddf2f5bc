import type { ParticipantQuality, SessionQuality } from "@turnpike/sdk";

/** The quality series of a session, placed on the time line of its recording. */
export interface QualityOverlay {
  /** Where its first point lies, from the recording's start; may be negative. */
  offset_ms: number;
  step_ms: number;
  sides: readonly ParticipantQuality[];
}

export function overlayOf(quality: SessionQuality, started_at_ms: number): QualityOverlay | null {
  if (quality.from_ms === null || quality.participants.length === 0) return null;
  return { offset_ms: quality.from_ms - started_at_ms, step_ms: quality.step_ms, sides: quality.participants };
}

/** The opinion score of one side at a moment; null where nothing was measured. */
export function mosAt(overlay: QualityOverlay, userId: string, at_ms: number): number | null {
  const side = overlay.sides.find((s) => s.user_id === userId);
  return side?.mos[Math.floor((at_ms - overlay.offset_ms) / overlay.step_ms)] ?? null;
}

const [LOW, HIGH] = [1, 4.5];

/** One side's scores as a path in a box of 1000 × 100 over the whole recording. */
export function mosPath(overlay: QualityOverlay, side: ParticipantQuality, total_ms: number): string {
  const parts: string[] = [];
  let drawing = false;
  side.mos.forEach((value, index) => {
    const at_ms = overlay.offset_ms + (index + 0.5) * overlay.step_ms;
    if (value === null || at_ms < 0 || at_ms > total_ms) {
      drawing = false;
      return;
    }
    const y = 96 - ((Math.min(HIGH, Math.max(LOW, value)) - LOW) * 92) / (HIGH - LOW);
    parts.push(`${drawing ? "L" : "M"}${((at_ms * 1000) / Math.max(1, total_ms)).toFixed(1)} ${y.toFixed(1)}`);
    drawing = true;
  });
  return parts.join("");
}
