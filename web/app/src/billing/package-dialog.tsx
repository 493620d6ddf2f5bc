import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, type TurnpikeError } from "@turnpike/sdk";
import { useState } from "react";

import { t } from "../locale";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Failure } from "../ui/feedback";
import { parseAmount } from "./amount";

/** Put prepaid time on sale, for any provider and any kind of call. */
export function PackageDialog({
  currency,
  onClose,
  onSold,
}: {
  currency: string;
  onClose: () => void;
  onSold: (name: string) => void;
}) {
  const { finance } = useTurnpike();
  const [name, setName] = useState("");
  const [minutes, setMinutes] = useState("");
  const [price, setPrice] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const price_minor = parseAmount(price, currency);
  const time = /^\d{1,4}$/.test(minutes.trim()) ? Number(minutes) : 0;
  const valid = name.trim() !== "" && price_minor !== null && time >= 1 && time <= 6_000;
  const sell = async () => {
    if (!valid || price_minor === null) return;
    setBusy(true);
    setError(null);
    try {
      await finance.offerPackage({ name: name.trim(), minutes: time, price_minor, currency });
      onSold(name.trim());
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
      setBusy(false);
    }
  };
  return (
    <Dialog title={t.finance.tariffs.packageAdd} onClose={onClose} className="dialog-small">
      <form
        className="form"
        onSubmit={(event) => {
          event.preventDefault();
          void sell();
        }}
      >
        <label className="field">
          <span className="label">{t.finance.tariffs.packageName}</span>
          <input
            value={name}
            maxLength={100}
            onChange={(event) => setName(event.target.value)}
            data-testid="package-name"
          />
        </label>
        <div className="form-pair">
          <label className="field">
            <span className="label">{t.finance.tariffs.packageMinutes}</span>
            <input
              inputMode="numeric"
              value={minutes}
              onChange={(event) => setMinutes(event.target.value)}
              data-testid="package-minutes"
            />
          </label>
          <label className="field">
            <span className="label">{t.finance.tariffs.packagePrice}</span>
            <span className="with-unit">
              <input
                inputMode="decimal"
                value={price}
                onChange={(event) => setPrice(event.target.value)}
                data-testid="package-price"
              />
              <span className="soft">{currency}</span>
            </span>
          </label>
        </div>
        {error === null ? null : <Failure error={error} />}
        <footer className="dialog-actions">
          <Button onClick={onClose}>{t.common.cancel}</Button>
          <Button look="primary" type="submit" busy={busy} disabled={!valid} data-testid="package-sell">
            {t.finance.tariffs.packageAdd}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
