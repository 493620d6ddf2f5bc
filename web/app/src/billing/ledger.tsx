import { useTurnpike } from "@turnpike/react";
import type { LedgerSubject } from "@turnpike/sdk";
import { useState } from "react";

import { t } from "../locale";
import { Button } from "../ui/button";
import { Failure, Skeleton } from "../ui/feedback";
import { useLoad } from "../ui/load";
import { columnsOf, linkOf, sectionsOf, type Cell, type LedgerRow } from "./ledger-rows";

const SUBJECTS: readonly LedgerSubject[] = ["account", "session", "transfer"];

export interface Sought {
  what: LedgerSubject;
  key: string;
}

/** The rows behind a figure, from an account to its transfers to the chain of one. */
export function Ledger({ sought, onSeek }: { sought: Sought | null; onSeek: (sought: Sought) => void }) {
  const [what, setWhat] = useState<LedgerSubject>(sought?.what ?? "account");
  const [key, setKey] = useState(sought?.key ?? "");
  const seek = (next: Sought) => {
    setWhat(next.what);
    setKey(next.key);
    onSeek(next);
  };
  return (
    <section className="block" aria-label={t.finance.tabs.ledger}>
      <p className="hint">{t.finance.ledger.hint}</p>
      <form
        className="search-line"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          if (key.trim() !== "") seek({ what, key: key.trim() });
        }}
      >
        <select
          aria-label={t.finance.ledger.what}
          value={what}
          onChange={(event) => setWhat(event.target.value as LedgerSubject)}
          data-testid="ledger-what"
        >
          {SUBJECTS.map((one) => (
            <option key={one} value={one}>
              {t.finance.ledger.subjects[one]}
            </option>
          ))}
        </select>
        <input
          type="search"
          aria-label={t.finance.ledger.key}
          placeholder={t.finance.ledger.example[what]}
          value={key}
          maxLength={64}
          onChange={(event) => setKey(event.target.value)}
          data-testid="ledger-key"
        />
        <Button type="submit" data-testid="ledger-look">
          {t.finance.ledger.look}
        </Button>
      </form>
      {sought === null ? null : <Report key={`${sought.what} ${sought.key}`} sought={sought} onSeek={seek} />}
    </section>
  );
}

function Report({ sought, onSeek }: { sought: Sought; onSeek: (sought: Sought) => void }) {
  const { finance } = useTurnpike();
  const { data, error, reload } = useLoad(() => finance.ledger(sought.what, sought.key), [finance, sought]);
  if (data === null) return error === null ? <Skeleton rows={3} /> : <Failure error={error} retry={reload} />;
  return (
    <div className="ledger" data-testid="ledger-report">
      {sectionsOf(data).map(({ name, rows }) => (
        <section key={name} className="ledger-section">
          <h3>{t.finance.ledger.sections[name] ?? name.replaceAll("_", " ")}</h3>
          {rows.length === 0 ? <p className="hint">{t.finance.ledger.nothing}</p> : null}
          {rows.length === 1 ? <One row={rows[0] ?? {}} onSeek={onSeek} /> : null}
          {rows.length > 1 ? <Many rows={rows} onSeek={onSeek} /> : null}
        </section>
      ))}
    </div>
  );
}

function One({ row, onSeek }: { row: LedgerRow; onSeek: (sought: Sought) => void }) {
  return (
    <dl className="ledger-one">
      {Object.entries(row).map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>
            <CellText column={name} value={value} onSeek={onSeek} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

function Many({ rows, onSeek }: { rows: readonly LedgerRow[]; onSeek: (sought: Sought) => void }) {
  const columns = columnsOf(rows);
  return (
    <div className="table-scroll">
      <table className="table ledger-table">
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column} scope="col">
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, n) => (
            <tr key={n}>
              {columns.map((column) => (
                <td key={column} className={typeof row[column] === "number" ? "number" : undefined}>
                  <CellText column={column} value={row[column] ?? null} onSeek={onSeek} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function CellText({ column, value, onSeek }: { column: string; value: Cell; onSeek: (sought: Sought) => void }) {
  if (value === null) return null;
  if (column === "agrees") {
    return (
      <span className={value === true ? "agrees" : "wrong"}>
        {value === true ? t.finance.ledger.agrees : t.finance.ledger.differs}
      </span>
    );
  }
  const link = linkOf(column, value);
  const text = String(value);
  if (link === null) return <>{text}</>;
  return (
    <button type="button" className="ledger-link" onClick={() => onSeek(link)}>
      {text}
    </button>
  );
}
