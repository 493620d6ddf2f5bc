import type { AccessGrant } from "@turnpike/sdk";
import { useMemo, useRef, useState } from "react";

import "../styles/player.css";

import { t } from "../locale";
import { Dialog } from "../ui/dialog";
import { Notice } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { Bar, type PictureView } from "./bar";
import { Lines } from "./lines";
import { useMaterial, type Playable } from "./material";
import { mosAt } from "./overlay";
import { usePlayback } from "./playback";
import { lineAt, within } from "./story";
import { TileView, tilesOf, type StreamFacts } from "./tiles";
import { Track } from "./track";
import { usePlayerKeys } from "./use-keys";

interface Props {
  recording: Playable;
  grant: AccessGrant;
  /** The links have run out. */
  onExpired: () => void;
  /** Asks for a waveform; left out where nobody may. */
  onMakeWaveform?: (() => void) | undefined;
}

const NO_FACTS: StreamFacts = [];

/** All sides of a recording in step on one time line, with what was said, written, lost and paused in it. */
export function Player({ recording, grant, onExpired, onMakeWaveform }: Props) {
  const box = useRef<HTMLElement>(null);
  const [view, setView] = useState<PictureView>("side");
  const [showQuality, setShowQuality] = useState(false);
  const [showLines, setShowLines] = useState(true);
  const [showKeys, setShowKeys] = useState(false);
  const [muted, setMuted] = useState<ReadonlySet<string>>(new Set());
  const [failed, setFailed] = useState(false);
  const [begun, setBegun] = useState(false);

  const { participants: people } = recording;
  const facts = recording.streams ?? NO_FACTS;
  const play = usePlayback(grant.streams);
  const { position, seek } = play;
  const now_ms = position * 1000;
  const { data, lines, linesError, speaker } = useMaterial(recording, grant, play.total * 1000, showQuality);
  const tiles = useMemo(() => tilesOf(people, grant.streams, facts), [people, grant.streams, facts]);
  const current = lineAt(data.lines, now_ms);
  const speaking = speaker(now_ms);
  if (!begun && (play.playing || position > 0)) setBegun(true);
  const featured = useRef(people[0]?.id ?? "");
  if (speaking !== null) featured.current = speaking; // stays large while nobody speaks

  const switches = {
    onQuality: () => setShowQuality(!showQuality),
    onLines: () => setShowLines(!showLines),
    onFullscreen: () => {
      if (document.fullscreenElement !== null) void document.exitFullscreen();
      else void box.current?.requestFullscreen().catch(() => undefined); // refused: it stays as it is
    },
  };
  const sliderKey = usePlayerKeys({ play, lines: data.lines, current, ...switches });
  const failure = () => {
    play.pause();
    if (Date.now() >= grant.expires_at_ms) onExpired();
    else setFailed(true);
  };

  return (
    <div className="player-frame">
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
                paused={within(data.pauses, now_ms)}
                muted={muted.has(tile.person.id)}
                onSound={() => setMuted(toggled(muted, tile.person.id))}
                onError={failure}
                speaking={!tile.screen && speaking === tile.person.id}
                featured={view === "speaker" && !tile.screen && featured.current === tile.person.id}
                mos={data.quality === null || tile.screen ? undefined : mosAt(data.quality, tile.person.id, now_ms)}
              />
            ))}
            {begun || grant.thumbnail_url === null ? null : (
              <Cover url={grant.thumbnail_url} onPlay={play.toggle} onGone={() => setBegun(true)} />
            )}
          </div>
          <Track data={data} position={position} onSeek={seek} onKey={sliderKey} />
          {grant.waveform_url === null && onMakeWaveform !== undefined ? (
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
            lines={showLines}
            onKeys={() => setShowKeys(true)}
            {...switches}
          />
        </div>
        {showLines ? (
          <Lines lines={lines} error={linesError} current={current} onJump={(line) => seek(line.at_ms / 1000)} />
        ) : null}
        {showKeys ? <Keys onClose={() => setShowKeys(false)} /> : null}
      </section>
    </div>
  );
}

/** A picture of the call, until it is played. */
function Cover({ url, onPlay, onGone }: { url: string; onPlay: () => void; onGone: () => void }) {
  return (
    <button
      type="button"
      className="player-cover"
      aria-label={t.player.play}
      onClick={onPlay}
      data-testid="player-cover"
    >
      <img src={url} alt="" onError={onGone} />
      <span className="player-cover-mark">
        <Icon name="play" size={32} />
      </span>
    </button>
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
