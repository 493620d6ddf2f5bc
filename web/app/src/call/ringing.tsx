import { useChanges } from "@turnpike/react";
import { asTurnpikeError, type Session, type TurnpikeError } from "@turnpike/sdk";
import { useEffect, useState } from "react";

import { t } from "../locale";
import { startRingback } from "../ring";
import { Avatar } from "../ui/avatar";
import { Button } from "../ui/button";
import { CountdownRing, useCountdown } from "../ui/countdown";
import { Failure } from "../ui/feedback";
import { Picture } from "../ui/media";

const RING_MS = 30_000;

/** The client waits for an answer, sees how they will look, and may cancel. */
export function Ringing({ session }: { session: Session }) {
  const { view, room } = session;
  const { camera } = room.local;
  useChanges(camera);
  const { seconds, share } = useCountdown(view.ring_until_ms, RING_MS);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<TurnpikeError | null>(null);
  useEffect(() => startRingback(), []);

  const cancel = async () => {
    setBusy(true);
    try {
      await session.cancel();
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
      setBusy(false);
    }
  };
  return (
    <div className="stage stage-ringing">
      <div className="ringing">
        <CountdownRing share={share} size={152}>
          <Avatar user={session.other} size={128} />
        </CountdownRing>
        <h1>{t.ringing.calling(session.other.name)}</h1>
        <p className="figure">{t.ringing.wait(seconds)}</p>
        <p className="stage-hint">{t.ringing.free}</p>
        {error === null ? null : <Failure error={error} />}
        <Button look="danger" icon="hangUp" busy={busy} onClick={() => void cancel()} data-testid="cancel">
          {t.ringing.cancel}
        </Button>
      </div>
      {view.kind === "video" ? (
        <figure className="preview">
          {camera.live ? (
            <Picture stream={camera.stream} mirrored label={t.ringing.preview} />
          ) : (
            <div className="preview-off" />
          )}
          <figcaption>{camera.live ? t.ringing.preview : t.ringing.previewOff}</figcaption>
        </figure>
      ) : null}
    </div>
  );
}
