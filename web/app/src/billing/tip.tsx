import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, requestKey, type ChargedEvent, type Session, type TurnpikeError } from "@turnpike/sdk";
import { useEffect, useRef, useState } from "react";

import { money } from "../format";
import { t } from "../locale";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Failure } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { parseAmount } from "./amount";

const AMOUNTS_MINOR = [200, 500, 1_000, 2_000];
const SHOWN_MS = 8_000;

/** A tip or a gift for the provider, paid at once. */
export function TipDialog({ session, onClose }: { session: Session; onClose: () => void }) {
  const { wallet } = useTurnpike();
  const { currency } = session.view.rate;
  const [kind, setKind] = useState<"tip" | "gift">("tip");
  const [chosen, setChosen] = useState<number | "other">(AMOUNTS_MINOR[1] ?? 500);
  const [other, setOther] = useState("");
  const [memo, setMemo] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<TurnpikeError | null>(null);
  /** Said again under the same key when its outcome is unknown, so that it is paid once. */
  const attempt = useRef<{ content: string; key: string } | null>(null);
  const amount = chosen === "other" ? parseAmount(other, currency) : chosen;
  const available = wallet.view?.available_minor ?? 0;

  const pay = async () => {
    if (amount === null) return;
    const content = JSON.stringify([kind, amount, memo]);
    if (attempt.current?.content !== content) attempt.current = { content, key: requestKey() };
    setBusy(true);
    setError(null);
    try {
      const { view } = session;
      await wallet.pay(
        { kind, amount_minor: amount, currency, provider_id: view.provider.id, session_id: view.id, memo },
        attempt.current.key,
      );
      onClose();
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
      setBusy(false);
    }
  };

  return (
    <Dialog title={t.tip.title(session.other.name)} onClose={onClose} className="dialog-small">
      <form
        className="tip"
        onSubmit={(event) => {
          event.preventDefault();
          void pay();
        }}
      >
        <fieldset className="segments">
          <legend className="visually-hidden">{t.tip.what}</legend>
          {(["tip", "gift"] as const).map((one) => (
            <label key={one} className="segment segment-word">
              <input type="radio" name="tip-kind" checked={kind === one} onChange={() => setKind(one)} />
              <span>{t.tip.kinds[one]}</span>
            </label>
          ))}
        </fieldset>
        <fieldset className="tip-amounts">
          <legend className="label">{t.tip.amount}</legend>
          {AMOUNTS_MINOR.map((minor) => (
            <button
              key={minor}
              type="button"
              className="amount-choice"
              aria-pressed={chosen === minor}
              onClick={() => setChosen(minor)}
              data-testid={`tip-${minor}`}
            >
              {money(minor, currency)}
            </button>
          ))}
          <input
            className="input amount-other"
            inputMode="decimal"
            aria-label={t.tip.other}
            placeholder={t.tip.other}
            value={other}
            onChange={(event) => {
              setOther(event.target.value);
              setChosen("other");
            }}
            data-testid="tip-other"
          />
        </fieldset>
        <label className="field">
          <span className="label">{t.tip.note}</span>
          <input
            className="input"
            maxLength={200}
            placeholder={t.tip.notePlaceholder}
            value={memo}
            onChange={(event) => setMemo(event.target.value)}
          />
        </label>
        <p className="hint">
          {amount !== null && amount > available ? t.tip.poor : t.tip.hint(money(available, currency))}
        </p>
        {error === null ? null : <Failure error={error} />}
        <footer className="dialog-actions">
          <Button onClick={onClose}>{t.common.cancel}</Button>
          <Button
            look="primary"
            type="submit"
            busy={busy}
            disabled={amount === null || amount > available}
            data-testid="tip-pay"
          >
            {t.tip.pay(money(amount ?? 0, currency))}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}

/** Says for a moment that something was given, on both pages. */
export function Charged({ session }: { session: Session }) {
  const [event, setEvent] = useState<ChargedEvent | null>(null);
  useEffect(() => session.on("charged", setEvent), [session]);
  useEffect(() => {
    if (event === null) return;
    const timer = setTimeout(() => setEvent(null), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [event]);
  if (event === null) return null;
  const amount = money(event.amount_minor, event.currency);
  return (
    <p className="charged" role="status" data-testid="charged">
      <Icon name="check" size={18} />
      <span>
        {session.role === "provider" ? t.tip.got(session.other.name, amount) : t.tip.gave(amount)}
        {event.memo === "" ? null : <em>“{event.memo}”</em>}
      </span>
    </p>
  );
}
