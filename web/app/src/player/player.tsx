import type { AccessGrant, AccessStream, RecordingView } from "@turnpike/sdk";
import { useCallback, useEffect, useRef, useState, type KeyboardEvent } from "react";

import { clock } from "../format";
import { t } from "../locale";
import { Avatar } from "../ui/avatar";
import { Button, IconButton } from "../ui/button";
import { Notice } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { correction, localTime, totalSeconds } from "./transport";

const SPEEDS = [0.5, 1, 1.5, 2];
const STEP_S = 10;
const SYNC_MS = 100;

/**
 * Plays all streams of a recording side by side on one time line. The time line is a clock of its own; each stream is
 * kept in step with it, and it waits while a stream that should play is still loading.
 */
export function Player({
  recording,
  grant,
  onExpired,
}: {
  recording: RecordingView;
  grant: AccessGrant;
  onExpired: () => void;
}) {
  const { streams } = grant;
  const total = totalSeconds(streams);
  const media = useRef(new Map<number, HTMLVideoElement>());
  const position = useRef(0);
  const [shown, setShown] = useState(0);
  const [playing, setPlaying] = useState(false);
  const [speed, setSpeed] = useState(1);
  const [muted, setMuted] = useState<ReadonlySet<number>>(new Set());
  const [failed, setFailed] = useState(false);

  const align = useCallback(
    (run: boolean) => {
      for (const stream of streams) {
        const element = media.current.get(stream.n);
        if (element !== undefined) keepInStep(element, stream, position.current, run, speed);
      }
    },
    [streams, speed],
  );
  const seek = useCallback(
    (to: number) => {
      position.current = Math.min(total, Math.max(0, to));
      setShown(position.current);
      align(false);
    },
    [align, total],
  );

  useEffect(() => {
    align(playing);
    if (!playing) return;
    let before = performance.now();
    const timer = setInterval(() => {
      const now = performance.now();
      const elapsed = (now - before) / 1000;
      before = now;
      if (!streams.some((s) => waits(media.current.get(s.n), s, position.current))) position.current += elapsed * speed;
      if (position.current >= total) {
        position.current = total;
        setPlaying(false);
      }
      setShown(position.current);
      align(position.current < total);
    }, SYNC_MS);
    return () => clearInterval(timer);
  }, [align, playing, speed, streams, total]);

  const toggle = () => {
    if (!playing && position.current >= total) seek(0);
    setPlaying(!playing);
  };
  const failure = () => {
    setPlaying(false);
    if (Date.now() >= grant.expires_at_ms) onExpired();
    else setFailed(true);
  };
  const keys = (event: KeyboardEvent) => {
    if ((event.target as HTMLElement).closest("input, select, button") !== null && event.key !== "k") return;
    const action = {
      " ": toggle,
      k: toggle,
      ArrowLeft: () => seek(position.current - STEP_S),
      ArrowRight: () => seek(position.current + STEP_S),
    }[event.key];
    if (action === undefined) return;
    event.preventDefault();
    action();
  };

  return (
    <section className="player" aria-label={t.recordings.title} onKeyDown={keys} tabIndex={-1}>
      {failed ? <Notice>{t.player.failed}</Notice> : null}
      <div className="player-tiles" data-count={recording.participants.length}>
        {recording.participants.map((person) => (
          <div key={person.id} className="player-person">
            {streams
              .filter((s) => s.participant_id === person.id)
              .map((stream) => (
                <StreamTile
                  key={stream.n}
                  stream={stream}
                  hidden={localTime(stream, shown) === null}
                  pictured={(recording.streams.find((s) => s.n === stream.n)?.video_codec ?? null) !== null}
                  muted={muted.has(stream.n)}
                  attach={(element) => {
                    if (element === null) media.current.delete(stream.n);
                    else media.current.set(stream.n, element);
                  }}
                  onError={failure}
                  name={person.name}
                />
              ))}
            <Placard person={person} recording={recording} streams={streams} at={shown} />
            <span className="player-name">
              {person.name}
              <SoundToggle
                name={person.name}
                off={streams.some((s) => s.participant_id === person.id && muted.has(s.n))}
                onToggle={() =>
                  setMuted(
                    toggled(
                      muted,
                      streams.filter((s) => s.participant_id === person.id),
                    ),
                  )
                }
              />
            </span>
          </div>
        ))}
      </div>
      <div className="transport">
        <Button
          look="primary"
          icon={playing ? "pause" : "play"}
          onClick={toggle}
          aria-label={playing ? t.player.pause : t.player.play}
          data-testid="player-play"
          data-playing={playing}
        />
        <IconButton label={t.player.back} icon="back10" onClick={() => seek(position.current - STEP_S)} />
        <IconButton label={t.player.ahead} icon="ahead10" onClick={() => seek(position.current + STEP_S)} />
        <span className="transport-time" data-testid="player-position" data-s={shown.toFixed(2)}>
          {clock(shown * 1000)} <span className="soft">/ {clock(total * 1000)}</span>
        </span>
        <div className="timeline">
          <Spans streams={streams} total={total} recording={recording} />
          <input
            type="range"
            min={0}
            max={total}
            step={0.05}
            value={shown}
            aria-label={t.player.seek}
            aria-valuetext={clock(shown * 1000)}
            style={{ "--done": `${total === 0 ? 0 : (shown / total) * 100}%` } as React.CSSProperties}
            onChange={(event) => seek(Number(event.target.value))}
            data-testid="player-seek"
          />
        </div>
        <label className="speed">
          <span className="visually-hidden">{t.player.speed}</span>
          <select value={speed} onChange={(event) => setSpeed(Number(event.target.value))}>
            {SPEEDS.map((s) => (
              <option key={s} value={s}>
                {s}×
              </option>
            ))}
          </select>
        </label>
      </div>
    </section>
  );
}

function keepInStep(
  element: HTMLVideoElement,
  stream: AccessStream,
  positionS: number,
  run: boolean,
  speed: number,
): void {
  const wanted = localTime(stream, positionS);
  if (wanted === null) {
    if (!element.paused) element.pause();
    return;
  }
  const { seekTo, rate } = correction(element.currentTime, wanted, speed);
  if (!run) {
    if (!element.paused) element.pause();
    if (Math.abs(element.currentTime - wanted) > 0.03) element.currentTime = wanted;
    return;
  }
  if (seekTo !== null && !element.seeking) element.currentTime = seekTo;
  if (element.playbackRate !== rate) element.playbackRate = rate;
  if (element.paused && !element.ended) void element.play().catch(() => undefined); // interrupted by a pause: tried again
}

/** Whether the time line has to wait for this stream. */
function waits(element: HTMLVideoElement | undefined, stream: AccessStream, positionS: number): boolean {
  if (element === undefined || localTime(stream, positionS) === null || element.error !== null || element.ended)
    return false;
  return element.readyState < HTMLMediaElement.HAVE_FUTURE_DATA && element.currentTime < element.duration - 0.5;
}

function toggled(muted: ReadonlySet<number>, streams: readonly AccessStream[]): ReadonlySet<number> {
  const next = new Set(muted);
  const off = streams.some((s) => muted.has(s.n));
  for (const { n } of streams) {
    if (off) next.delete(n);
    else next.add(n);
  }
  return next;
}

interface TileProps {
  stream: AccessStream;
  hidden: boolean;
  pictured: boolean;
  muted: boolean;
  name: string;
  attach: (element: HTMLVideoElement | null) => void;
  onError: () => void;
}

function StreamTile({ stream, hidden, pictured, muted, name, attach, onError }: TileProps) {
  return (
    <video
      ref={attach}
      className={hidden || !pictured ? "player-video player-video-hidden" : "player-video"}
      src={stream.url}
      muted={muted}
      preload="auto"
      playsInline
      aria-label={name}
      onError={onError}
      data-testid={`player-stream-${stream.n}`}
    />
  );
}

/** Stands where there is no picture: sound only, not begun, or over. */
function Placard({
  person,
  recording,
  streams,
  at,
}: {
  person: RecordingView["participants"][number];
  recording: RecordingView;
  streams: readonly AccessStream[];
  at: number;
}) {
  const own = streams.filter((s) => s.participant_id === person.id);
  const now = own.filter((s) => localTime(s, at) !== null);
  const pictured = now.some((s) => (recording.streams.find((r) => r.n === s.n)?.video_codec ?? null) !== null);
  if (pictured) return null;
  const begun = own.some((s) => at * 1000 >= s.offset_ms);
  return (
    <div className="placard">
      <Avatar user={{ name: person.name, avatar_hue: hueOf(person.id) }} size={88} />
      <span>{now.length > 0 ? t.player.audioOnly : begun ? t.player.gone : t.player.absent}</span>
    </div>
  );
}

/** A colour for a person of whom the recording knows only the id; always the same one. */
function hueOf(id: string): number {
  return [...id].reduce((hash, letter) => (hash * 31 + letter.charCodeAt(0)) % 360, 7);
}

function SoundToggle({ name, off, onToggle }: { name: string; off: boolean; onToggle: () => void }) {
  return (
    <button
      type="button"
      className="sound-toggle"
      aria-pressed={!off}
      aria-label={t.player.solo(name)}
      title={t.player.solo(name)}
      onClick={onToggle}
    >
      <Icon name={off ? "soundOff" : "sound"} size={16} />
    </button>
  );
}

/** One thin line per participant: when there is something of them. */
function Spans({
  streams,
  total,
  recording,
}: {
  streams: readonly AccessStream[];
  total: number;
  recording: RecordingView;
}) {
  if (total === 0) return null;
  return (
    <div className="spans" aria-hidden="true">
      {recording.participants.map((person) => (
        <div key={person.id} className="span-line">
          {streams
            .filter((s) => s.participant_id === person.id)
            .map((s) => (
              <span
                key={s.n}
                style={{ left: `${s.offset_ms / 10 / total}%`, width: `${s.duration_ms / 10 / total}%` }}
              />
            ))}
        </div>
      ))}
    </div>
  );
}
