import { asTurnpikeError, type TurnpikeError } from "@turnpike/sdk";
import { useState, type FormEvent, type ReactNode } from "react";

import { t } from "../locale";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Failure } from "../ui/feedback";
import type { IconName } from "../ui/icons";

const REASON_MIN = 10;
const REASON_MAX = 500;

interface Props {
  title: string;
  hint: string;
  submit: string;
  example?: string;
  icon?: IconName;
  danger?: boolean;
  /** A reason given before in this visit, to be sent again or changed. */
  before?: string;
  /** More to fill in, above the reason. */
  children?: ReactNode;
  onSubmit: (reason: string) => Promise<void>;
  onClose: () => void;
}

/** Asks why, before what is asked for is done. Whoever submits sees to it that the dialog goes away. */
export function ReasonDialog({ title, hint, submit, onSubmit, onClose, ...more }: Props) {
  const [reason, setReason] = useState(more.before ?? "");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const missing = Math.max(0, REASON_MIN - reason.trim().length);
  const send = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await onSubmit(reason.trim());
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form className="form" onSubmit={(event) => void send(event)}>
        <p className="hint">{hint}</p>
        {more.children}
        <label className="field">
          <span className="label">{t.recordings.reasonLabel}</span>
          <textarea
            rows={3}
            required
            minLength={REASON_MIN}
            maxLength={REASON_MAX}
            value={reason}
            placeholder={more.example ?? t.recordings.reasonExample}
            onChange={(e) => setReason(e.target.value)}
            data-testid="reason-input"
            autoFocus={more.children === undefined}
          />
          <span className="hint reason-left" aria-live="polite">
            {reason !== "" && missing > 0 ? t.recordings.reasonLeft(missing) : ""}
          </span>
        </label>
        {error === null ? null : <Failure error={error} />}
        <footer className="dialog-actions">
          <Button onClick={onClose}>{t.common.cancel}</Button>
          <Button
            type="submit"
            look={more.danger === true ? "danger" : "primary"}
            icon={more.icon ?? "lock"}
            busy={busy}
            disabled={missing > 0}
            data-testid="reason-submit"
          >
            {submit}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
