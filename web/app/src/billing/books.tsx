import { useTurnpike } from "@turnpike/react";
import type { AlertView, BooksView, RevenueLine } from "@turnpike/sdk";

import { exactly, money } from "../format";
import { t } from "../locale";
import { Button } from "../ui/button";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { useLoad } from "../ui/load";

/** Whether everything adds up, what was earned, and whose behaviour stands out. */
export function Books({ onAccount }: { onAccount: (userId: string) => void }) {
  const { finance } = useTurnpike();
  const books = useLoad(() => finance.books(), [finance]);
  const revenue = useLoad(() => finance.revenue(), [finance]);
  const alerts = useLoad(() => finance.alerts(), [finance]);
  return (
    <>
      <section className="block" aria-labelledby="proof">
        <h2 id="proof">{t.finance.books.title}</h2>
        {books.error === null ? null : <Failure error={books.error} retry={books.reload} />}
        {books.data === null ? books.error === null ? <Skeleton rows={2} /> : null : <Proof books={books.data} />}
      </section>
      <section className="block" aria-labelledby="revenue">
        <h2 id="revenue">{t.finance.books.revenue}</h2>
        {revenue.error === null ? null : <Failure error={revenue.error} retry={revenue.reload} />}
        {revenue.data === null ? null : <Revenue lines={revenue.data} />}
      </section>
      <section className="block" aria-labelledby="alerts">
        <h2 id="alerts">{t.finance.books.alerts}</h2>
        {alerts.error === null ? null : <Failure error={alerts.error} retry={alerts.reload} />}
        {alerts.data === null ? null : <Alerts alerts={alerts.data} onAccount={onAccount} />}
      </section>
    </>
  );
}

function Proof({ books }: { books: BooksView }) {
  if (books.proved_at_ms == null) {
    return (
      <Empty icon="shield" title={t.finance.books.never}>
        {t.finance.books.neverHint}
      </Empty>
    );
  }
  const wrong = books.disagreements ?? 0;
  const waiting = books.waiting_for_evidence ?? 0;
  return (
    <>
      <div className={wrong === 0 ? "proof proof-right" : "proof proof-wrong"} data-testid="proof">
        <Icon name={wrong === 0 ? "check" : "alert"} size={24} />
        <div>
          <strong>{wrong === 0 ? t.finance.books.right : t.finance.books.wrong(wrong)}</strong>
          <span>
            {t.finance.books.at(exactly(books.proved_at_ms))}
            {waiting === 0 ? "" : ` · ${t.finance.books.waiting(waiting)}`}
          </span>
        </div>
      </div>
      <table className="table">
        <thead>
          <tr>
            <th scope="col">{t.finance.books.check}</th>
            <th scope="col" className="number">
              {t.finance.books.examined}
            </th>
            <th scope="col" className="number">
              {t.finance.books.disagree}
            </th>
          </tr>
        </thead>
        <tbody>
          {books.findings.map((finding) => (
            <tr key={finding.name}>
              <td>
                {finding.proves}
                {finding.rows.length === 0 ? null : (
                  <pre className="finding">{finding.rows.map((row) => JSON.stringify(row)).join("\n")}</pre>
                )}
              </td>
              <td className="number soft">{finding.examined}</td>
              <td className={finding.disagreeing === 0 ? "number soft" : "number wrong"}>
                {finding.disagreeing === 0 ? "–" : finding.disagreeing}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

function Revenue({ lines }: { lines: readonly RevenueLine[] }) {
  const sums = new Map<string, { source: string; currency: string; gross: number; platform: number }>();
  for (const line of lines) {
    const key = `${line.source} ${line.currency}`;
    const sum = sums.get(key) ?? { source: line.source, currency: line.currency, gross: 0, platform: 0 };
    sum.gross += line.gross_minor;
    sum.platform += line.platform_minor;
    sums.set(key, sum);
  }
  if (sums.size === 0) return <p className="hint">{t.finance.books.noRevenue}</p>;
  return (
    <table className="table">
      <thead>
        <tr>
          <th scope="col">{t.finance.books.source}</th>
          <th scope="col" className="number">
            {t.finance.books.gross}
          </th>
          <th scope="col" className="number">
            {t.finance.books.platform}
          </th>
        </tr>
      </thead>
      <tbody>
        {[...sums.values()].map((sum) => (
          <tr key={sum.source + sum.currency}>
            <td>{t.finance.books.sources[sum.source] ?? sum.source}</td>
            <td className="number">{money(sum.gross, sum.currency)}</td>
            <td className="number">{money(sum.platform, sum.currency)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Alerts({ alerts, onAccount }: { alerts: readonly AlertView[]; onAccount: (userId: string) => void }) {
  if (alerts.length === 0) return <p className="hint">{t.finance.books.noAlerts}</p>;
  return (
    <table className="table">
      <thead>
        <tr>
          <th scope="col">{t.finance.books.rule}</th>
          <th scope="col" className="number">
            {t.finance.books.figure}
          </th>
          <th scope="col">{t.finance.books.day}</th>
          <th scope="col">{t.finance.books.who}</th>
        </tr>
      </thead>
      <tbody>
        {alerts.map((alert, n) => (
          <tr key={n}>
            <td>{alert.means}</td>
            <td className="number">{alert.figure}</td>
            <td className="soft">{alert.day}</td>
            <td>
              {alert.user_id == null ? null : (
                <Button look="quiet" onClick={() => onAccount(alert.user_id ?? "")}>
                  {t.finance.accounts.open}
                </Button>
              )}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
