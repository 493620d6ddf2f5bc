import { useTurnpike } from "@turnpike/react";
import type { EarningsView, TransferView, WalletView } from "@turnpike/sdk";
import { useEffect } from "react";

import { LiveBalance, LiveCall } from "../billing/live";
import { Packages } from "../billing/packages";
import { StatementForm } from "../billing/statement";
import { day, money, when } from "../format";
import { t } from "../locale";
import { Button, Link } from "../ui/button";
import { Empty, Failure, Notice, Skeleton } from "../ui/feedback";
import { useLoad } from "../ui/load";
import { usePages } from "../ui/pages";
import { TopUp } from "../ui/top-up";

/** A client's wallet, or a provider's earnings: what is there, what a call takes at this moment, and every movement. */
export function WalletPage() {
  const client = useTurnpike();
  const { wallet, current } = client;
  const provider = client.me?.user.role === "provider";
  const pages = usePages(
    async (cursor) => {
      const page = await wallet.transfers(cursor);
      return { items: page.transfers, next: page.next_cursor ?? null };
    },
    [wallet],
  );
  useEffect(() => void wallet.load().catch(() => undefined), [wallet]); // the list below tells what is wrong
  useEffect(() => wallet.on("changed", pages.reload), [wallet, pages.reload]);

  return (
    <div className="page">
      <header className="page-head">
        <h1>{provider ? t.wallet.titleProvider : t.wallet.title}</h1>
      </header>
      {current === null || (current.view.state !== "active" && current.view.state !== "interrupted") ? null : (
        <LiveCall session={current} />
      )}
      {provider ? <Earnings /> : <Purse />}
      {provider ? null : <Packages />}
      <section className="block" aria-labelledby="transfers">
        <h2 id="transfers">{t.wallet.transfers}</h2>
        {pages.error === null ? null : <Failure error={pages.error} retry={pages.reload} />}
        {pages.items === null ? (
          pages.error === null ? (
            <Skeleton rows={4} height={44} />
          ) : null
        ) : pages.items.length === 0 ? (
          <Empty icon="wallet" title={t.wallet.empty}>
            {t.wallet.emptyHint}
          </Empty>
        ) : (
          <>
            <TransferTable transfers={pages.items} />
            {pages.more === null ? null : (
              <Button busy={pages.loading} onClick={pages.more}>
                {t.common.more}
              </Button>
            )}
          </>
        )}
      </section>
      <StatementForm />
    </div>
  );
}

function Purse() {
  const { wallet, current } = useTurnpike();
  const view = wallet.view;
  return (
    <section className="purse">
      <span className="label">{current === null ? t.wallet.available : t.purse.balance}</span>
      <span className="purse-amount" data-testid="purse-amount">
        {view === null ? (
          "…"
        ) : current === null ? (
          money(view.available_minor, view.currency)
        ) : (
          <LiveBalance session={current} />
        )}
      </span>
      {view === null ? null : <PurseParts view={view} />}
      <TopUp />
    </section>
  );
}

function PurseParts({ view }: { view: WalletView }) {
  const held = view.held_minor ?? 0;
  const promo = view.promo_minor ?? 0;
  if (held === 0 && promo === 0) return null;
  return (
    <dl className="purse-parts">
      {held === 0 ? null : (
        <>
          <div>
            <dt>{t.purse.reserved}</dt>
            <dd data-testid="purse-held">{money(held, view.currency)}</dd>
          </div>
          <div>
            <dt>{t.wallet.available}</dt>
            <dd>{money(view.available_minor, view.currency)}</dd>
          </div>
        </>
      )}
      {promo === 0 ? null : (
        <div title={t.purse.promoHint}>
          <dt>{t.purse.promo}</dt>
          <dd>{money(promo, view.currency)}</dd>
        </div>
      )}
    </dl>
  );
}

function Earnings() {
  const { wallet } = useTurnpike();
  const { data, error, reload } = useLoad(() => wallet.earnings(), [wallet]);
  useEffect(() => wallet.on("changed", reload), [wallet, reload]);
  if (data === null)
    return error === null ? <Skeleton rows={1} height={140} /> : <Failure error={error} retry={reload} />;
  const amount = (minor: number) => money(minor, data.currency);
  return (
    <>
      <section className="purse">
        <span className="label">{t.wallet.earned}</span>
        <span className="purse-amount" data-testid="purse-amount">
          {amount(wallet.view?.balance_minor ?? data.balance_minor)}
        </span>
        <dl className="purse-parts">
          <div>
            <dt>{t.purse.today}</dt>
            <dd data-testid="earned-today">{amount(data.today_minor)}</dd>
          </div>
          <div>
            <dt>{t.purse.month}</dt>
            <dd data-testid="earned-month">{amount(data.month_minor)}</dd>
          </div>
        </dl>
        {data.owed_minor === 0 ? null : <Notice tone="warn">{t.purse.owed(amount(data.owed_minor))}</Notice>}
      </section>
      <section className="block" aria-labelledby="by-day">
        <h2 id="by-day">{t.purse.perSession}</h2>
        {data.days.length === 0 ? <p className="hint">{t.purse.noDays}</p> : <Days earnings={data} />}
      </section>
    </>
  );
}

/** Each day as a bar beside its figure: which days are good is seen at a glance. */
function Days({ earnings }: { earnings: EarningsView }) {
  const most = Math.max(1, ...earnings.days.map((one) => one.amount_minor));
  return (
    <table className="table days">
      <thead>
        <tr>
          <th scope="col">{t.purse.day}</th>
          <th scope="col" className="number">
            {t.purse.sessions}
          </th>
          <th scope="col" className="number">
            {t.purse.earned}
          </th>
          <th scope="col" className="wide-only days-bar" aria-hidden="true" />
        </tr>
      </thead>
      <tbody>
        {earnings.days.map((one) => (
          <tr key={one.day}>
            <td>{day(Date.parse(`${one.day}T12:00:00Z`))}</td>
            <td className="number soft">{one.sessions}</td>
            <td className="number">{money(one.amount_minor, earnings.currency)}</td>
            <td className="wide-only days-bar" aria-hidden="true">
              <span style={{ width: `${(Math.max(0, one.amount_minor) / most) * 100}%` }} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function TransferTable({ transfers }: { transfers: readonly TransferView[] }) {
  return (
    <table className="table" data-testid="transfers">
      <thead>
        <tr>
          <th scope="col">{t.wallet.what}</th>
          <th scope="col">{t.wallet.when}</th>
          <th scope="col" className="number">
            {t.wallet.amount}
          </th>
          <th scope="col" className="number wide-only">
            {t.wallet.after}
          </th>
        </tr>
      </thead>
      <tbody>
        {transfers.map((transfer) => (
          <tr key={`${transfer.kind}${transfer.id}`}>
            <td>
              {transfer.session_id == null ? (
                label(transfer)
              ) : (
                <Link to={`/session/${transfer.session_id}`} className="link">
                  {label(transfer)}
                </Link>
              )}
            </td>
            <td className="soft">{when(transfer.at_ms)}</td>
            <td className={transfer.amount_minor >= 0 ? "number plus" : "number"}>
              {transfer.amount_minor > 0 ? "+" : ""}
              {money(transfer.amount_minor, transfer.currency)}
            </td>
            <td className="number soft wide-only">
              {transfer.balance_after_minor == null ? "" : money(transfer.balance_after_minor, transfer.currency)}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function label({ kind, memo }: TransferView): string {
  const word = t.wallet.kinds[kind];
  const said = memo == null || memo === "" ? null : memo;
  if (kind === "charge") return said ?? t.wallet.kinds.charge ?? kind;
  return word ?? said ?? kind.replaceAll("_", " ");
}
