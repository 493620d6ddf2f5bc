import { asTurnpikeError, type Session, type TurnpikeError } from "@turnpike/sdk";
import { useRef, useState } from "react";

import { clock } from "../format";
import { t } from "../locale";
import { Button } from "../ui/button";
import { CountdownRing } from "../ui/countdown";
import { Dialog } from "../ui/dialog";
import { Failure } from "../ui/feedback";
import { Icon } from "../ui/icons";

const PAUSE_MINUTES = [1, 2, 5, 15] as const;
const MINUTE_S = 60;
const AGREED = new Set(["recording", "paused", "stopped"]);

interface Props {
  session: Session;
  /** Of a pause, in milliseconds. */
  left: number | null;
  onClose: () => void;
}

/** What the recording's state means, who agreed, and what this person can do about it. */
export function RecordingDialog({ session, left, onClose }: Props) {
  const [minutes, setMinutes] = useState<number>(2);
  const [leaving, setLeaving] = useState(false);
  const [busy, setBusy] = useState<string | null>(null);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const { view } = session;
  const longest = useRef(1);
  longest.current = left === null ? 1 : Math.max(longest.current, left);
  const going = view.recording === "recording" || view.recording === "paused";
  const attempt = async (what: string, work: () => Promise<unknown>, close: boolean) => {
    setBusy(what);
    setError(null);
    try {
      await work();
      if (close) onClose();
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
    } finally {
      setBusy(null);
    }
  };
  if (leaving) {
    return (
      <Dialog title={t.inCall.withdrawTitle} onClose={onClose} className="dialog-small">
        <p>{t.inCall.withdrawHint}</p>
        {error === null ? null : <Failure error={error} />}
        <footer className="dialog-actions">
          <Button onClick={() => setLeaving(false)}>{t.common.cancel}</Button>
          <Button
            look="danger"
            busy={busy === "withdraw"}
            onClick={() => void attempt("withdraw", () => session.withdrawConsent(), true)}
            data-testid="withdraw-yes"
          >
            {t.inCall.withdrawYes}
          </Button>
        </footer>
      </Dialog>
    );
  }
  return (
    <Dialog title={t.inCall.title} onClose={onClose} className="dialog-small">
      <div className={`rec-now rec-now-${view.recording}`}>
        {view.recording === "paused" && left !== null ? (
          <CountdownRing share={left / longest.current} size={56}>
            <span className="rec-left">{clock(left + 999)}</span>
          </CountdownRing>
        ) : (
          <span className="recording-dot" aria-hidden="true" />
        )}
        <div>
          <strong>{t.recording[view.recording]}</strong>
          <p className="hint">{t.inCall.what[view.recording]}</p>
        </div>
      </div>
      {AGREED.has(view.recording) ? (
        <ul className="rec-agreed">
          {[t.common.you, session.other.name].map((name) => (
            <li key={name}>
              <Icon name="check" size={16} />
              {t.inCall.agreed(name)}
            </li>
          ))}
        </ul>
      ) : null}
      {going && session.role === "provider" ? (
        <section className="rec-pause" aria-labelledby="rec-pause">
          <h3 id="rec-pause">{t.inCall.pauseTitle}</h3>
          <p className="hint">{left === null ? t.inCall.pauseHint : t.inCall.left(clock(left + 999))}</p>
          <fieldset className="segments">
            <legend className="visually-hidden">{t.inCall.pauseFor}</legend>
            {PAUSE_MINUTES.map((n) => (
              <label key={n} className="segment segment-word">
                <input type="radio" name="pause" checked={minutes === n} onChange={() => setMinutes(n)} />
                <span>{t.inCall.minutes(n)}</span>
              </label>
            ))}
          </fieldset>
          <div className="rec-buttons">
            <Button
              icon="pause"
              look={view.recording === "paused" ? "secondary" : "primary"}
              busy={busy === "pause"}
              onClick={() => void attempt("pause", () => session.pauseRecording(minutes * MINUTE_S), false)}
              data-testid="recording-pause"
            >
              {view.recording === "paused" ? t.inCall.again : t.inCall.pause}
            </Button>
            {view.recording === "paused" ? (
              <Button
                look="primary"
                busy={busy === "resume"}
                onClick={() => void attempt("resume", () => session.resumeRecording(), true)}
                data-testid="recording-resume"
              >
                {t.inCall.resume}
              </Button>
            ) : null}
          </div>
        </section>
      ) : going ? (
        <p className="hint">{t.inCall.onlyProvider(session.other.name)}</p>
      ) : null}
      {error === null ? null : <Failure error={error} />}
      {going ? (
        <button
          type="button"
          className="link-like rec-withdraw"
          onClick={() => setLeaving(true)}
          data-testid="recording-withdraw"
        >
          {t.inCall.withdraw}
        </button>
      ) : null}
    </Dialog>
  );
}
