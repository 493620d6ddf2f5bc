import type { Session } from "@turnpike/sdk";
import { useCallback, useEffect, useState } from "react";

import { t } from "../locale";
import { Avatar } from "../ui/avatar";
import { Button } from "../ui/button";
import { Icon } from "../ui/icons";
import { Picture, Sound } from "../ui/media";
import { SelfView } from "./self-view";

/** What is seen and heard of the other side, the own picture, and why nothing is seen when nothing is. */
export function Stage({ session }: { session: Session }) {
  const { room, other } = session;
  const { remote, local } = room;
  const [blocked, setBlocked] = useState(false);
  const [attempt, setAttempt] = useState(0);
  const onBlocked = useCallback((is: boolean) => setBlocked(is), []);
  const seen = useSeen(session);
  const shared = remote.screen.available;
  const leftOut = session.quality.own?.videos_paused ?? [];
  const pictured = seen && remote.camera.available && session.view.kind === "video";

  return (
    <>
      <Sound stream={remote.microphone.stream} attempt={attempt} onBlocked={onBlocked} />
      {shared ? (
        <Picture stream={remote.screen.stream} className="tile-screen" label={t.call.theyShare(other.name)} />
      ) : null}
      {shared && leftOut.includes("screen") ? <LeftOut title={t.inCall.pausedScreen} /> : null}
      {session.view.kind === "video" ? (
        <div
          className={shared ? "tile-other tile-beside" : "tile-other"}
          data-testid="remote-tile"
          hidden={!remote.camera.available}
        >
          <Picture stream={remote.camera.stream} label={other.name} />
          {leftOut.includes("camera") && remote.camera.available ? <LeftOut title={t.inCall.pausedVideo} /> : null}
        </div>
      ) : null}
      {pictured || shared ? null : <Absent session={session} seen={seen} />}
      <Overlay session={session} seen={seen} />
      <ul className="call-tags" aria-live="polite">
        {remote.microphone.muted === true ? <Tag icon="microphoneOff">{t.call.theyMuted(other.name)}</Tag> : null}
        {seen && session.view.kind === "video" && remote.camera.muted === true ? (
          <Tag icon="cameraOff">{t.call.theyCameraOff(other.name)}</Tag>
        ) : null}
        {shared ? <Tag icon="screen">{t.call.theyShare(other.name)}</Tag> : null}
        {local.screen.live ? <Tag icon="screen">{t.call.youShare}</Tag> : null}
      </ul>
      {blocked ? (
        <div className="unheard" role="alert">
          <p>{t.call.unheard}</p>
          <Button look="primary" icon="sound" onClick={() => setAttempt(attempt + 1)}>
            {t.call.hear}
          </Button>
        </div>
      ) : null}
      {session.view.kind === "video" ? <SelfView track={local.camera} muted={!local.microphone.enabled} /> : null}
    </>
  );
}

/** Over a picture that stands still because it is left out, so that the sound gets through. */
function LeftOut({ title }: { title: string }) {
  return (
    <div className="video-paused" data-testid="video-paused">
      <Icon name="cameraOff" size={24} />
      <p className="video-paused-title">{title}</p>
      <p className="stage-hint">{t.inCall.pausedVideoHint}</p>
    </div>
  );
}

/** Whether media of the other side has ever arrived. */
function useSeen({ view, room }: Session): boolean {
  const begun = view.started_at_ms != null;
  const [seen, setSeen] = useState(begun);
  useEffect(() => {
    if (seen) return;
    if (begun) {
      setSeen(true);
      return;
    }
    const timer = setInterval(() => {
      void room.stats().then(({ remote }) => {
        if (remote.camera.first_at_ms !== null || remote.microphone.first_at_ms !== null) setSeen(true);
      });
    }, 300);
    return () => clearInterval(timer);
  }, [begun, room, seen]);
  return seen;
}

function Absent({ session, seen }: { session: Session; seen: boolean }) {
  const { other, view } = session;
  const quiet = seen || view.state === "active";
  return (
    <div className="absent">
      <span className={quiet ? "absent-avatar" : "absent-avatar absent-waiting"}>
        <Avatar user={other} size={136} />
      </span>
      {quiet ? (
        <div>
          <p className="absent-name">{other.name}</p>
          {view.kind === "chat" ? <p className="stage-hint">{t.call.chatting}</p> : null}
        </div>
      ) : (
        <div role="status">
          <p className="absent-name">
            {session.room.state === "connected" ? t.call.waiting(other.name) : t.call.connecting}
          </p>
          <p className="stage-hint">
            {view.kind === "chat" ? t.call.freeChat : view.kind === "audio" ? t.call.freeAudio : t.call.free}
          </p>
        </div>
      )}
    </div>
  );
}

/** Over everything: the connection of one side is lost, and what that means for the bill. */
function Overlay({ session, seen }: { session: Session; seen: boolean }) {
  const ending = session.room.state === "closed";
  const own = session.room.state === "reconnecting";
  const theirs = session.view.state === "interrupted";
  if (ending) {
    return (
      <div className="overlay" role="status">
        <span className="spinner" aria-hidden="true" />
        <p className="overlay-title">{t.call.ending}</p>
        <p>{t.call.endingHint}</p>
      </div>
    );
  }
  if (!seen || (!own && !theirs)) return null;
  return (
    <div className="overlay" role="alert" data-testid="interrupted">
      <span className="spinner" aria-hidden="true" />
      <p className="overlay-title">{own ? t.call.reconnecting : t.call.interrupted(session.other.name)}</p>
      <p>{own ? t.call.reconnectingHint : t.call.interruptedHint}</p>
    </div>
  );
}

function Tag({ icon, children }: { icon: "microphoneOff" | "cameraOff" | "screen"; children: string }) {
  return (
    <li className="call-tag">
      <Icon name={icon} size={16} />
      {children}
    </li>
  );
}
