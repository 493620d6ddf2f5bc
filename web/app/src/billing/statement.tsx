import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, type TurnpikeError } from "@turnpike/sdk";
import { useState } from "react";

import { t } from "../locale";
import { Button } from "../ui/button";
import { Failure } from "../ui/feedback";
import { saveText } from "../ui/save";

const TYPES = { csv: "text/csv", json: "application/json" } as const;
const DAY_MS = 86_400_000;

const isoDay = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

/** A statement of the wallet as a file: days in UTC, both included. */
export function StatementForm() {
  const { wallet } = useTurnpike();
  const [from, setFrom] = useState(() => isoDay(Date.now() - 29 * DAY_MS));
  const [to, setTo] = useState(() => isoDay(Date.now()));
  const [busy, setBusy] = useState<"csv" | "json" | null>(null);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const save = async (format: "csv" | "json") => {
    setBusy(format);
    setError(null);
    try {
      saveText(await wallet.statement(from, to, format), `statement-${from}-${to}.${format}`, TYPES[format]);
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
    }
    setBusy(null);
  };
  return (
    <section className="block" aria-labelledby="statement">
      <h2 id="statement">{t.purse.statement}</h2>
      <div className="statement-form">
        <label className="field">
          <span className="label">{t.purse.from}</span>
          <input type="date" value={from} max={to} onChange={(event) => setFrom(event.target.value)} />
        </label>
        <label className="field">
          <span className="label">{t.purse.to}</span>
          <input type="date" value={to} min={from} onChange={(event) => setTo(event.target.value)} />
        </label>
        {(["csv", "json"] as const).map((format) => (
          <Button
            key={format}
            icon="download"
            busy={busy === format}
            disabled={from === "" || to === "" || from > to}
            onClick={() => void save(format)}
            data-testid={`statement-${format}`}
          >
            {format.toUpperCase()}
          </Button>
        ))}
      </div>
      {error === null ? null : <Failure error={error} />}
    </section>
  );
}
