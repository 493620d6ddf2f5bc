import type { RecordingStory, RecordingView } from "@turnpike/sdk";

/** A message, or something that happened, placed on the recording's time line. */
export interface Line {
  at_ms: number;
  kind: "message" | "event";
  /** Who wrote or did it; null: nobody in particular. */
  who: { id: string; name: string } | null;
  text: string;
}

export interface Span {
  from_ms: number;
  to_ms: number;
}

type Recorded = Pick<RecordingView, "participants" | "started_at_ms">;

/** Messages and the events that have a name, in order. What came before the recording stands at its start. */
export function storyLines(
  story: RecordingStory,
  { participants, started_at_ms }: Recorded,
  names: Readonly<Record<string, string>>,
): Line[] {
  const person = (id: string | undefined) => participants.find((p) => p.id === id) ?? null;
  const at = (ms: number) => Math.max(0, ms - started_at_ms);
  const lines: Line[] = [
    ...story.chat.map((message) => ({
      at_ms: at(message.at_ms),
      kind: "message" as const,
      who: person(message.by ?? message.from),
      text: message.text ?? message.body ?? "",
    })),
    ...story.events.flatMap((event) => {
      const text = names[event.what];
      return text === undefined
        ? []
        : [{ at_ms: at(event.at_ms), kind: "event" as const, who: person(event.by), text }];
    }),
  ];
  return lines.sort((a, b) => a.at_ms - b.at_ms);
}

/** When the recording was paused. */
export function pauses(story: RecordingStory, { started_at_ms }: Recorded, total_ms: number): Span[] {
  const found: Span[] = [];
  let from_ms: number | null = null;
  for (const { what, at_ms } of story.events) {
    if (what === "recording_paused") from_ms ??= at_ms - started_at_ms;
    if (from_ms === null || (what !== "recording_resumed" && what !== "recording_stopped")) continue;
    found.push({ from_ms, to_ms: at_ms - started_at_ms });
    from_ms = null;
  }
  if (from_ms !== null) found.push({ from_ms, to_ms: total_ms });
  return found
    .map((s) => ({ from_ms: Math.max(0, s.from_ms), to_ms: Math.min(total_ms, s.to_ms) }))
    .filter((s) => s.to_ms > s.from_ms);
}

/** The newest line at a moment: its place, −1 before the first. */
export function lineAt(lines: readonly Line[], at_ms: number): number {
  let found = -1;
  while (found + 1 < lines.length && (lines[found + 1] as Line).at_ms <= at_ms) found += 1;
  return found;
}

export function within(spans: readonly Span[], at_ms: number): boolean {
  return spans.some((span) => at_ms >= span.from_ms && at_ms < span.to_ms);
}
