import { asTurnpikeError, type ReportSearch, type TurnpikeError } from "@turnpike/sdk";
import { useState, type FormEvent, type ReactNode } from "react";

import { t } from "../locale";
import { Button } from "../ui/button";
import { Failure } from "../ui/feedback";
import { saveText } from "../ui/save";

const DAY_MS = 86_400_000;

/** The days of the reader, both included. */
export function daysOf(from: string, to: string): Pick<ReportSearch, "from_ms" | "to_ms"> {
  const start = (day: string) => (day === "" ? null : new Date(`${day}T00:00`).getTime());
  const end = start(to);
  return { from_ms: start(from), to_ms: end === null ? null : end + DAY_MS - 1 };
}

interface Props {
  name: string;
  onSearch: (search: ReportSearch) => void;
  csv: (search: ReportSearch) => Promise<string>;
  /** More fields; they write into the search. */
  children?: (search: ReportSearch, set: (change: ReportSearch) => void) => ReactNode;
}

/** From, to, and what else a report is asked by; and the same as a file. */
export function ReportForm({ name, onSearch, csv, children }: Props) {
  const [from, setFrom] = useState("");
  const [to, setTo] = useState("");
  const [rest, setRest] = useState<ReportSearch>({});
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const search = (): ReportSearch => ({ ...rest, ...daysOf(from, to) });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    onSearch(search());
  };
  const save = async () => {
    setBusy(true);
    setError(null);
    try {
      const today = new Date().toISOString().slice(0, 10);
      saveText(await csv(search()), `${name}-${from || "all"}-${to || today}.csv`, "text/csv");
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
    } finally {
      setBusy(false);
    }
  };
  return (
    <form className="search-form" onSubmit={submit}>
      <div className="search-row">
        <label className="field">
          <span className="label">{t.reports.from}</span>
          <input type="date" value={from} max={to || undefined} onChange={(e) => setFrom(e.target.value)} />
        </label>
        <label className="field">
          <span className="label">{t.reports.to}</span>
          <input type="date" value={to} min={from || undefined} onChange={(e) => setTo(e.target.value)} />
        </label>
        {children?.(rest, (change) => setRest({ ...rest, ...change }))}
        <Button type="submit" look="primary" data-testid="report-show">
          {t.reports.show}
        </Button>
        <Button icon="download" busy={busy} onClick={() => void save()} data-testid="report-csv">
          {t.reports.csv}
        </Button>
      </div>
      {error === null ? null : <Failure error={error} />}
    </form>
  );
}
