import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, requestKey, type Refundable, type ReversalView, type TurnpikeError } from "@turnpike/sdk";
import { useRef, useState } from "react";

import { money } from "../format";
import { t } from "../locale";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Failure, Notice } from "../ui/feedback";
import { parseAmount, plainAmount } from "./amount";

type What = { session_id: string } | { charge_id: string } | { package_id: string };

/** Something that can be given back of; a package is given back as a whole. */
export interface Returnable {
  label: string;
  what: What;
  /** The most that can be given back. */
  leftMinor: number;
}

interface Props {
  of: readonly [Returnable, ...Returnable[]];
  currency: string;
  onClose: () => void;
  onDone: (back: ReversalView) => void;
}

/** Give back all or a part, with a reason that is kept. */
export function RefundDialog({ of, currency, onClose, onDone }: Props) {
  const { finance } = useTurnpike();
  const [chosen, setChosen] = useState(0);
  const { what, leftMinor } = of[chosen] ?? of[0];
  const whole = "package_id" in what;
  const [full, setFull] = useState(true);
  const [part, setPart] = useState("");
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const [done, setDone] = useState<ReversalView | null>(null);
  /** Said again under the same key when its outcome is unknown, so that it is given back once. */
  const attempt = useRef<{ content: string; key: string } | null>(null);
  const amount = full || whole ? leftMinor : parseAmount(part, currency);
  const valid = amount !== null && amount > 0 && amount <= leftMinor && reason.trim().length >= 3;

  const submit = async () => {
    if (!valid || amount === null) return;
    const content = JSON.stringify([what, amount, reason]);
    if (attempt.current?.content !== content) attempt.current = { content, key: requestKey() };
    setBusy(true);
    setError(null);
    try {
      const back = await finance.refund(
        (whole ? what : { ...what, amount_minor: amount }) as Refundable,
        reason.trim(),
        attempt.current.key,
      );
      setDone(back);
      onDone(back);
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
    } finally {
      setBusy(false);
    }
  };

  return (
    <Dialog title={whole ? t.refund.packageTitle : t.refund.title} onClose={onClose} className="dialog-small">
      {done !== null ? (
        <>
          <Notice tone="good">{t.refund.done(money(done.amount_minor, done.currency))}</Notice>
          {done.receivable_minor > 0 ? (
            <Notice tone="info">{t.refund.owes(money(done.receivable_minor, done.currency))}</Notice>
          ) : null}
          <footer className="dialog-actions">
            <Button look="primary" onClick={onClose} autoFocus data-testid="refund-close">
              {t.common.close}
            </Button>
          </footer>
        </>
      ) : of.length === 1 && leftMinor <= 0 ? (
        <p>{t.refund.nothing}</p>
      ) : (
        <form
          className="form"
          onSubmit={(event) => {
            event.preventDefault();
            void submit();
          }}
        >
          {of.length === 1 ? null : (
            <label className="field">
              <span className="label">{t.refund.of}</span>
              <select
                value={chosen}
                onChange={(event) => {
                  setChosen(Number(event.target.value));
                  setFull(true);
                }}
                data-testid="refund-of"
              >
                {of.map((one, n) => (
                  <option key={n} value={n}>
                    {one.label}
                  </option>
                ))}
              </select>
            </label>
          )}
          <p className="hint">{whole ? t.refund.packageHint : t.refund.left(money(leftMinor, currency))}</p>
          {whole ? null : (
            <fieldset className="choices">
              <label className="choice">
                <input type="radio" name="refund" checked={full} onChange={() => setFull(true)} />
                {t.refund.full(money(leftMinor, currency))}
              </label>
              <label className="choice">
                <input
                  type="radio"
                  name="refund"
                  checked={!full}
                  onChange={() => setFull(false)}
                  data-testid="refund-part"
                />
                {t.refund.part}
              </label>
              {full ? null : (
                <input
                  aria-label={t.refund.amount}
                  inputMode="decimal"
                  placeholder={plainAmount(leftMinor, currency)}
                  value={part}
                  onChange={(event) => setPart(event.target.value)}
                  data-testid="refund-amount"
                  autoFocus
                />
              )}
            </fieldset>
          )}
          <label className="field">
            <span className="label">{t.refund.reason}</span>
            <textarea
              rows={2}
              maxLength={500}
              required
              placeholder={t.refund.reasonExample}
              value={reason}
              onChange={(event) => setReason(event.target.value)}
              data-testid="refund-reason"
            />
            <span className="hint">{t.refund.reasonHint}</span>
          </label>
          {error === null ? null : <Failure error={error} />}
          <footer className="dialog-actions">
            <Button onClick={onClose}>{t.common.cancel}</Button>
            <Button look="primary" type="submit" busy={busy} disabled={!valid} data-testid="refund-submit">
              {t.refund.submit(money(amount ?? 0, currency))}
            </Button>
          </footer>
        </form>
      )}
    </Dialog>
  );
}
