import type { AccessStream, RecordingParticipant, RecordingStreamView } from "@turnpike/sdk";

import { t } from "../locale";
import { Avatar } from "../ui/avatar";
import { Icon } from "../ui/icons";
import type { Playback } from "./playback";
import { localTime } from "./transport";

/** As the voices on the track. */
const HUES = [165, 265] as const;

export interface Tile {
  key: string;
  /** Of the person's placard. */
  hue: number;
  person: RecordingParticipant;
  screen: boolean;
  streams: readonly AccessStream[];
}

export type StreamFacts = readonly Pick<RecordingStreamView, "n" | "video_codec" | "source">[];

/** Each person, then each screen that was shared. */
export function tilesOf(
  people: readonly RecordingParticipant[],
  streams: readonly AccessStream[],
  facts: StreamFacts,
): Tile[] {
  const isScreen = (s: AccessStream) => facts.find((f) => f.n === s.n)?.source === "screen";
  const of = (person: RecordingParticipant, screen: boolean): Tile => ({
    key: screen ? `${person.id} screen` : person.id,
    hue: HUES[people.indexOf(person) % HUES.length] ?? HUES[0],
    person,
    screen,
    streams: streams.filter((s) => s.participant_id === person.id && isScreen(s) === screen),
  });
  return [...people.map((p) => of(p, false)), ...people.map((p) => of(p, true)).filter((s) => s.streams.length > 0)];
}

function pictured(stream: AccessStream, facts: StreamFacts): boolean {
  const fact = facts.find((f) => f.n === stream.n);
  return fact === undefined ? stream.content_type.startsWith("video/") : (fact.video_codec ?? null) !== null;
}

interface Props {
  tile: Tile;
  facts: StreamFacts;
  at: number;
  attach: Playback["attach"];
  /** Nothing was recorded then, on purpose. */
  paused: boolean;
  muted: boolean;
  onSound: () => void;
  onError: () => void;
  speaking: boolean;
  featured: boolean;
  mos: number | null | undefined;
}

/** One person's picture, or a placard where there is none; or a shared screen. */
export function TileView({ tile, facts, at, attach, paused, muted, onSound, onError, speaking, featured, mos }: Props) {
  const { person, screen, streams, hue } = tile;
  const now = streams.filter((s) => localTime(s, at) !== null);
  const seen = now.some((s) => pictured(s, facts));
  const label = screen ? t.player.screenOf(person.name) : person.name;
  return (
    <div
      className="player-tile"
      data-speaking={speaking}
      data-featured={featured}
      hidden={screen && !seen}
      data-testid={`player-tile-${screen ? "screen" : person.role}`}
    >
      {streams.map((stream) => (
        <video
          key={stream.n}
          ref={(element) => attach(stream.n, element)}
          className={
            localTime(stream, at) === null || !pictured(stream, facts)
              ? "player-video player-video-hidden"
              : "player-video"
          }
          src={stream.url}
          muted={muted}
          preload="auto"
          playsInline
          aria-label={label}
          onError={onError}
          data-testid={`player-stream-${stream.n}`}
        />
      ))}
      {seen ? null : (
        <div className="placard">
          <Avatar user={{ name: person.name, avatar_hue: hue }} size={featured ? 96 : 72} />
          <span className={paused ? "placard-words placard-paused" : "placard-words"}>
            {paused ? t.player.paused : placard(now.length > 0, streams, at)}
          </span>
        </div>
      )}
      {mos === undefined ? null : (
        <span className="tile-quality" data-testid="tile-quality">
          {mos === null ? "–" : mos.toFixed(1)}
          {mos === null ? null : <span className="tile-quality-word"> {t.quality.word(mos)}</span>}
        </span>
      )}
      <span className="player-name">
        <span className="speaking-mark" aria-hidden="true" />
        {label}
        {screen ? null : (
          <button
            type="button"
            className="sound-toggle"
            aria-pressed={!muted}
            aria-label={t.player.solo(person.name)}
            title={t.player.solo(person.name)}
            onClick={onSound}
          >
            <Icon name={muted ? "soundOff" : "sound"} size={16} />
          </button>
        )}
      </span>
    </div>
  );
}

function placard(heard: boolean, streams: readonly AccessStream[], at: number): string {
  if (heard) return t.player.audioOnly;
  if (!streams.some((s) => at * 1000 >= s.offset_ms)) return t.player.absent;
  return streams.some((s) => at * 1000 < s.offset_ms) ? t.player.missing : t.player.gone;
}
