import { clock } from "../format";
import { t } from "../locale";
import { Button, IconButton } from "../ui/button";
import { Icon, type IconName } from "../ui/icons";
import { SPEEDS, type Playback } from "./playback";

const STEP_S = 10;

export type PictureView = "side" | "speaker";

interface Props {
  play: Playback;
  view: PictureView;
  onView: (view: PictureView) => void;
  quality: boolean;
  onQuality: () => void;
  lines: boolean;
  onLines: () => void;
  onFullscreen: () => void;
  onKeys: () => void;
}

/** The controls below the track. */
export function Bar({ play, view, onView, quality, onQuality, lines, onLines, onFullscreen, onKeys }: Props) {
  const { position, total, playing, waiting } = play;
  return (
    <div className="transport" role="toolbar" aria-label={t.player.region}>
      <Button
        look="primary"
        icon={playing ? "pause" : "play"}
        onClick={play.toggle}
        aria-label={playing ? t.player.pause : t.player.play}
        data-testid="player-play"
        data-playing={playing}
      />
      <IconButton label={t.player.back} icon="back10" onClick={() => play.seek(position - STEP_S)} />
      <IconButton label={t.player.ahead} icon="ahead10" onClick={() => play.seek(position + STEP_S)} />
      <span className="transport-time" data-testid="player-position" data-s={position.toFixed(2)}>
        {clock(position * 1000)} <span className="soft">/ {clock(total * 1000)}</span>
      </span>
      {waiting ? (
        <span className="transport-waiting" role="status">
          <span className="spinner" aria-hidden="true" />
          {t.player.loading}
        </span>
      ) : null}
      <span className="transport-gap" />
      <label className="speed">
        <span className="visually-hidden">{t.player.speed}</span>
        <select
          value={play.speed}
          onChange={(event) => play.setSpeed(Number(event.target.value))}
          data-testid="player-speed"
        >
          {SPEEDS.map((s) => (
            <option key={s} value={s}>
              {s}×
            </option>
          ))}
        </select>
      </label>
      <label className="speed view-choice">
        <span className="visually-hidden">{t.player.view}</span>
        <select value={view} onChange={(event) => onView(event.target.value as PictureView)} data-testid="player-view">
          <option value="side">{t.player.views.side}</option>
          <option value="speaker">{t.player.views.speaker}</option>
        </select>
      </label>
      <Toggle icon="signal" label={t.player.qualityShow} on={quality} onClick={onQuality} testId="player-quality" />
      <Toggle icon="chat" label={t.player.chatShow} on={lines} onClick={onLines} testId="player-lines" />
      <IconButton label={t.player.keysTitle} icon="keyboard" className="wide-only" onClick={onKeys} />
      <IconButton label={t.player.fullscreen} icon="expand" onClick={onFullscreen} />
    </div>
  );
}

function Toggle(props: { icon: IconName; label: string; on: boolean; onClick: () => void; testId: string }) {
  return (
    <button
      type="button"
      className="icon-button"
      aria-label={props.label}
      title={props.label}
      aria-pressed={props.on}
      onClick={props.onClick}
      data-testid={props.testId}
    >
      <Icon name={props.icon} />
    </button>
  );
}
