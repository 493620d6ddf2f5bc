import { useTurnpike } from "@turnpike/react";
import type { AccessGrant, RecordingGap, RecordingParticipant, TurnpikeError } from "@turnpike/sdk";
import { useMemo } from "react";

import { t } from "../locale";
import { useLoad } from "../ui/load";
import { overlayOf } from "./overlay";
import { pauses, storyLines, type Line } from "./story";
import type { StreamFacts } from "./tiles";
import { rowOf, type TrackData } from "./track";
import { speakerAt, speeches } from "./waveform";

/** What the player has to know of a recording; what is left out is found out from the streams. */
export interface Playable {
  session_id: string;
  participants: RecordingParticipant[];
  started_at_ms: number;
  streams?: StreamFacts;
  gaps?: readonly RecordingGap[];
}

export interface Material {
  data: TrackData;
  /** null: still being read. */
  lines: readonly Line[] | null;
  linesError: TurnpikeError | null;
  /** The id of whoever speaks at a moment; null: nobody, or nobody knows. */
  speaker: (at_ms: number) => string | null;
}

const NO_GAPS: readonly RecordingGap[] = [];
const NO_LINES: readonly Line[] = [];

/** Reads what belongs to a recording beside its streams: story, voices and, once asked for, the connections' quality. */
export function useMaterial(recording: Playable, grant: AccessGrant, total_ms: number, withQuality: boolean): Material {
  const client = useTurnpike();
  const { participants: people, started_at_ms, session_id } = recording;
  const gaps = recording.gaps ?? NO_GAPS;
  const story = useLoad(() => client.recordings.story(grant), [client, grant.story_url]);
  const voices = useLoad(() => client.recordings.waveform(grant), [client, grant.waveform_url]);
  const quality = useLoad(
    async () =>
      withQuality ? overlayOf(await (await client.session(session_id)).qualitySeries(), started_at_ms) : null,
    [client, session_id, withQuality, started_at_ms],
  );
  const told = useMemo(() => {
    if (story.data === null) return null;
    const recorded = { participants: people, started_at_ms };
    return {
      lines: storyLines(story.data, recorded, t.player.events),
      pauses: pauses(story.data, recorded, total_ms),
    };
  }, [story.data, people, started_at_ms, total_ms]);
  const data = useMemo<TrackData>(
    () => ({
      people,
      streams: grant.streams,
      gaps,
      pauses: told?.pauses ?? [],
      lines: told?.lines ?? NO_LINES,
      waveform: voices.data,
      speech: voices.data === null ? [] : speeches(voices.data),
      quality: quality.data,
      total_ms,
    }),
    [people, grant.streams, gaps, told, voices.data, quality.data, total_ms],
  );
  const speaker = (at_ms: number) => {
    const n = speakerAt(data.speech, at_ms);
    return n === null ? null : (people[rowOf(data.waveform, people, n)]?.id ?? null);
  };
  return { data, lines: told?.lines ?? null, linesError: story.error, speaker };
}
