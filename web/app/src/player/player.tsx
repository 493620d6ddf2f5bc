import { useTurnpike } from "@turnpike/react";
import type { AccessGrant, RecordingGap, RecordingParticipant } from "@turnpike/sdk";
import { useCallback, useEffect, useMemo, useRef, useState, type KeyboardEvent } from "react";

import "../styles/player.css";

import { t } from "../locale";
import { Dialog } from "../ui/dialog";
import { Notice } from "../ui/feedback";
import { useLoad } from "../ui/load";
import { Bar, type PictureView } from "./bar";
import { playerKey } from "./keys";
import { Lines } from "./lines";
import { mosAt, overlayOf } from "./overlay";
import { SPEEDS, usePlayback } from "./playback";
import { lineAt, pauses, storyLines, within, type Line } from "./story";
import { TileView, tilesOf, type StreamFacts } from "./tiles";
import { rowOf, Track, type TrackData } from "./track";
import { speakerAt, speeches } from "./waveform";

/** What the player has to know of a recording; what is left out is found out from the streams. */
export interface Playable {
  session_id: string;
  participants: RecordingParticipant[];
  started_at_ms: number;
  streams?: StreamFacts;
  gaps?: readonly RecordingGap[];
}

interface Props {
  recording: Playable;
  grant: AccessGrant;
  /** The links have run out. */
  onExpired: () => void;
  /** Asks for a waveform; left out where nobody may. */
  onMakeWaveform?: (() => void) | undefined;
}

const NOTHING: StreamFacts = [];
const NO_GAPS: readonly RecordingGap[] = [];
/** Where keys are for writing, or belong to a dialog. */
const WRITING = "input:not([type='range']), textarea, select, [contenteditable], dialog";

/** All sides of a recording in step on one time line, with what was said, written, lost and paused in it. */
export function Player({ recording, grant, onExpired, onMakeWaveform }: Props) {
  const client = useTurnpike();
  const { streams } = grant;
  const { participants: people, started_at_ms } = recording;
  const facts = recording.streams ?? NOTHING;
  const play = usePlayback(streams);
  const { position, total, seek } = play;
  const total_ms = total * 1000;

  const box = useRef<HTMLElement>(null);
  const [view, setView] = useState<PictureView>("side");
  const [showQuality, setShowQuality] = useState(false);
  const [showLines, setShowLines] = useState(true);
  const [showKeys, setShowKeys] = useState(false);
  const [muted, setMuted] = useState<ReadonlySet<string>>(new Set());
  const [failed, setFailed] = useState(false);

  const story = useLoad(() => client.recordings.story(grant), [client, grant.story_url]);
  const wave = useLoad(() => client.recordings.waveform(grant), [client, grant.waveform_url]);
  const quality = useLoad(
    async () =>
      showQuality ? overlayOf(await (await client.session(recording.session_id)).qualitySeries(), started_at_ms) : null,
    [client, recording.session_id, showQuality, started_at_ms],
  );

  const lines = useMemo(
    () => (story.data === null ? [] : storyLines(story.data, { participants: people, started_at_ms }, t.player.events)),
    [story.data, people, started_at_ms],
  );
  const data = useMemo<TrackData>(
    () => ({
      people,
      streams,
      gaps: recording.gaps ?? NO_GAPS,
      pauses: story.data === null ? [] : pauses(story.data, { participants: people, started_at_ms }, total_ms),
      lines,
      waveform: wave.data,
      speech: wave.data === null ? [] : speeches(wave.data),
      quality: quality.data,
      total_ms,
    }),
    [people, streams, recording.gaps, story.data, lines, wave.data, quality.data, started_at_ms, total_ms],
  );
  const tiles = useMemo(() => tilesOf(people, streams, facts), [people, streams, facts]);

  const now_ms = position * 1000;
  const n = speakerAt(data.speech, now_ms);
  const speaker = n === null ? null : (people[rowOf(wave.data, people, n)]?.id ?? null);
  const featured = useRef(people[0]?.id ?? "");
  if (speaker !== null) featured.current = speaker;
  const current = lineAt(lines, now_ms);

  const jump = useCallback((line: Line) => seek(line.at_ms / 1000), [seek]);
  const fullscreen = () => {
    if (document.fullscreenElement === null) void box.current?.requestFullscreen().catch(() => undefined);
    else void document.exitFullscreen();
  };
  const failure = () => {
    play.pause();
    if (Date.now() >= grant.expires_at_ms) onExpired();
    else setFailed(true);
  };
  const pressed = (key: string): boolean => {
    const wish = playerKey(key);
    if (wish === null) return false;
    const at = SPEEDS.indexOf(play.speed as (typeof SPEEDS)[number]);
    const line = (index: number) => {
      const found = lines[index];
      if (found !== undefined) jump(found);
    };
    if (wish.do === "toggle") play.toggle();
    else if (wish.do === "move") seek(position + wish.s);
    else if (wish.do === "tenth") seek((wish.n * total) / 10);
    else if (wish.do === "speed") play.setSpeed(SPEEDS[at + wish.by] ?? play.speed);
    else if (wish.do === "quality") setShowQuality(!showQuality);
    else if (wish.do === "chat") setShowLines(!showLines);
    else if (wish.do === "fullscreen") fullscreen();
    else if (wish.do === "next") line(current + 1);
    else line(Math.max(0, current - 1));
    return true;
  };
  const newest = useRef(pressed);
  newest.current = pressed;
  useEffect(() => {
    const onKey = (event: globalThis.KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const target = event.target as HTMLElement;
      if (target.closest(WRITING) !== null || document.querySelector("dialog[open]") !== null) return;
      if (event.key === " " && target.closest("button, a, summary") !== null) return; // theirs
      if (newest.current(event.key)) event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  /** A slider takes the arrows for itself, a step at a time: here they move as everywhere in the player. */
  const sliderKey = (event: KeyboardEvent) => {
    if (event.key.startsWith("Arrow") && pressed(event.key)) event.preventDefault();
  };

  return (
    <section
      className="player"
      aria-label={t.player.region}
      ref={box}
      data-lines={showLines}
      data-testid="player"
      data-position={position.toFixed(2)}
    >
      <div className="player-main">
        {failed ? <Notice>{t.player.failed}</Notice> : null}
        <div className="player-tiles" data-view={view} data-count={tiles.length}>
          {tiles.map((tile) => (
            <TileView
              key={tile.key}
              tile={tile}
              facts={facts}
              at={position}
              attach={play.attach}
              muted={muted.has(tile.person.id)}
              onSound={() => setMuted(toggled(muted, tile.person.id))}
              onError={failure}
              speaking={!tile.screen && speaker === tile.person.id}
              featured={view === "speaker" && !tile.screen && featured.current === tile.person.id}
              mos={quality.data === null || tile.screen ? undefined : mosAt(quality.data, tile.person.id, now_ms)}
            />
          ))}
          {within(data.pauses, now_ms) ? <p className="paused-here">{t.player.paused}</p> : null}
        </div>
        <Track data={data} position={position} onSeek={seek} onKey={sliderKey} />
        {wave.data === null && grant.waveform_url === null && onMakeWaveform !== undefined ? (
          <p className="track-note">
            {t.player.noWaveform}{" "}
            <button type="button" className="link-like" onClick={onMakeWaveform}>
              {t.player.makeWaveform}
            </button>
          </p>
        ) : null}
        <Bar
          play={play}
          view={view}
          onView={setView}
          quality={showQuality}
          onQuality={() => setShowQuality(!showQuality)}
          lines={showLines}
          onLines={() => setShowLines(!showLines)}
          onFullscreen={fullscreen}
          onKeys={() => setShowKeys(true)}
        />
      </div>
      {showLines ? (
        <Lines lines={story.data === null ? null : lines} error={story.error} current={current} onJump={jump} />
      ) : null}
      {showKeys ? <Keys onClose={() => setShowKeys(false)} /> : null}
    </section>
  );
}

function toggled(set: ReadonlySet<string>, id: string): ReadonlySet<string> {
  const next = new Set(set);
  if (!next.delete(id)) next.add(id);
  return next;
}

function Keys({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title={t.player.keysTitle} onClose={onClose} className="dialog-small">
      <dl className="key-list">
        {t.player.keyList.map(([keys, what]) => (
          <div key={keys}>
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
