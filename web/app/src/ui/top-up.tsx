import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, requestKey, type TurnpikeError } from "@turnpike/sdk";
import { useRef, useState } from "react";

import { money } from "../format";
import { t } from "../locale";
import { Button } from "./button";
import { Failure, Notice } from "./feedback";

const AMOUNTS_MINOR = [1_000, 2_500, 5_000];

/** One-tap top-up by the demo's test processor. */
export function TopUp({ onDone }: { onDone?: () => void }) {
  const { wallet, me } = useTurnpike();
  const currency = wallet.view?.currency ?? me?.currency ?? "USD";
  const [busy, setBusy] = useState<number | null>(null);
  const [added, setAdded] = useState<number | null>(null);
  const [error, setError] = useState<TurnpikeError | null>(null);
  /** An attempt whose outcome is unknown is repeated under its own key, so that it can't be booked twice. */
  const attempt = useRef<{ amount: number; key: string } | null>(null);

  const add = async (amount: number) => {
    if (attempt.current?.amount !== amount) attempt.current = { amount, key: requestKey() };
    setBusy(amount);
    setError(null);
    setAdded(null);
    try {
      await wallet.topUp(amount, attempt.current.key);
      attempt.current = null;
      setAdded(amount);
      onDone?.();
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
    } finally {
      setBusy(null);
    }
  };

  return (
    <section className="top-up" aria-label={t.wallet.topUp}>
      <div className="top-up-amounts">
        {AMOUNTS_MINOR.map((amount) => (
          <Button
            key={amount}
            icon="plus"
            busy={busy === amount}
            disabled={busy !== null}
            onClick={() => void add(amount)}
            data-testid={`top-up-${amount}`}
          >
            {money(amount, currency)}
          </Button>
        ))}
      </div>
      <p className="hint">{t.wallet.topUpHint}</p>
      {added === null ? null : <Notice tone="good">{t.wallet.added(money(added, currency))}</Notice>}
      {error === null ? null : <Failure error={error} />}
    </section>
  );
}
