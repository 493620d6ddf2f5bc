import type { AccessStream, RecordingGap, RecordingParticipant, Waveform } from "@turnpike/sdk";
import { memo, useMemo, useState, type KeyboardEvent } from "react";

import { clock } from "../format";
import { t } from "../locale";
import { mosPath, type QualityOverlay } from "./overlay";
import type { Line, Span } from "./story";
import { barPath, bars, type Speech } from "./waveform";

const BARS = 480;
const ROW = 40;

export interface TrackData {
  people: readonly RecordingParticipant[];
  streams: readonly AccessStream[];
  gaps: readonly RecordingGap[];
  pauses: readonly Span[];
  lines: readonly Line[];
  waveform: Waveform | null;
  speech: readonly Speech[];
  quality: QualityOverlay | null;
  total_ms: number;
}

interface Props {
  data: TrackData;
  position: number;
  onSeek: (s: number) => void;
  onKey: (event: KeyboardEvent) => void;
}

/** The whole recording from left to right: who is heard, what is missing, what was written; and where one is in it. */
export function Track({ data, position, onSeek, onKey }: Props) {
  const total = data.total_ms / 1000;
  const [hover, setHover] = useState<number | null>(null);
  const done = total === 0 ? 0 : (position / total) * 100;
  return (
    <div
      className="track"
      style={{ "--done": `${done}%` } as React.CSSProperties}
      onPointerMove={(event) => {
        const box = event.currentTarget.getBoundingClientRect();
        setHover(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
      }}
      onPointerLeave={() => setHover(null)}
    >
      <Drawing data={data} />
      <span className="playhead" aria-hidden="true" />
      {hover === null ? null : (
        <span className="track-hover" style={{ left: `${hover * 100}%` }} aria-hidden="true">
          {clock(hover * data.total_ms)}
        </span>
      )}
      <input
        type="range"
        min={0}
        max={total}
        step={0.05}
        value={position}
        aria-label={t.player.seek}
        aria-valuetext={`${clock(position * 1000)} / ${clock(data.total_ms)}`}
        onChange={(event) => onSeek(Number(event.target.value))}
        onKeyDown={onKey}
        data-testid="player-seek"
      />
    </div>
  );
}

/** All that does not move; drawn once. */
const Drawing = memo(function Drawing({ data }: { data: TrackData }) {
  const { people, waveform, speech, quality, total_ms } = data;
  const share = (ms: number) => `${total_ms === 0 ? 0 : (ms / total_ms) * 100}%`;
  const band = ({ from_ms, to_ms }: Span) => ({ left: share(from_ms), width: share(to_ms - from_ms) });
  const paths = useMemo(
    () =>
      people.map(({ id }) => {
        const own = waveform?.participants.find((p) => p.participant_id === id);
        if (waveform === null || own === undefined) return null;
        const values = bars(own.peaks, Math.min(BARS, own.peaks.length));
        const share = (own.peaks.length * waveform.step_ms) / Math.max(1, total_ms);
        return { d: barPath(values, ROW), width: Math.max(1, values.length / Math.max(0.01, share)) };
      }),
    [people, waveform, total_ms],
  );
  return (
    <div className="track-rows" data-testid="player-track" data-waveform={waveform !== null}>
      {people.map((person, n) => (
        <div key={person.id} className={`track-row track-row-${n % 2}`}>
          {paths[n] == null ? (
            data.streams
              .filter((s) => s.participant_id === person.id)
              .map((s) => (
                <span
                  key={s.n}
                  className="track-span"
                  style={band({ from_ms: s.offset_ms, to_ms: s.offset_ms + s.duration_ms })}
                />
              ))
          ) : (
            <Wave path={paths[n]} />
          )}
          {data.gaps
            .filter((gap) => gap.participant_id === person.id)
            .map((gap) => (
              <span key={gap.from_ms} className="track-gap" style={band(gap)} title={t.player.missing} />
            ))}
          {quality === null ? null : (
            <svg className="track-quality" viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
              {quality.sides
                .filter((side) => side.user_id === person.id)
                .map((side) => (
                  <path key={side.user_id} d={mosPath(quality, side, total_ms)} />
                ))}
            </svg>
          )}
          <span className="track-name">{person.name}</span>
        </div>
      ))}
      {speech.length === 0 ? null : (
        <div className="speaker-line" data-testid="speaker-line" aria-hidden="true">
          {speech.map((s) => (
            <span key={s.from_ms} className={`speaker-${rowOf(waveform, people, s.n) % 2}`} style={band(s)} />
          ))}
        </div>
      )}
      {data.pauses.map((pause) => (
        <span key={pause.from_ms} className="track-pause" style={band(pause)} title={t.player.paused} />
      ))}
      <div className="track-marks" aria-hidden="true">
        {data.lines.map((line, index) => (
          <span key={index} className={`mark-${line.kind}`} style={{ left: share(Math.min(line.at_ms, total_ms)) }} />
        ))}
      </div>
    </div>
  );
});

/** The waveform twice: what has been played is bright. */
function Wave({ path }: { path: { d: string; width: number } }) {
  return ["wave", "wave wave-done"].map((look) => (
    <svg key={look} className={look} viewBox={`0 0 ${path.width} ${ROW}`} preserveAspectRatio="none" aria-hidden="true">
      <path d={path.d} />
    </svg>
  ));
}

/** The row of the waveform's `n`th participant. */
export function rowOf(waveform: Waveform | null, people: readonly RecordingParticipant[], n: number): number {
  const id = waveform?.participants[n]?.participant_id;
  return Math.max(
    0,
    people.findIndex((p) => p.id === id),
  );
}
