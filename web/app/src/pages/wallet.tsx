import { useTurnpike } from "@turnpike/react";
import type { TransferView } from "@turnpike/sdk";
import { useEffect } from "react";

import { money, when } from "../format";
import { t } from "../locale";
import { Button, Link } from "../ui/button";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { usePages } from "../ui/pages";
import { TopUp } from "../ui/top-up";

export function WalletPage() {
  const client = useTurnpike();
  const { wallet } = client;
  const provider = client.me?.user.role === "provider";
  const view = wallet.view;
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
      <section className="purse">
        <span className="label">{provider ? t.wallet.earned : t.wallet.available}</span>
        <span className="purse-amount">
          {view === null ? "…" : money(provider ? view.balance_minor : view.available_minor, view.currency)}
        </span>
        {view !== null && (view.held_minor ?? 0) > 0 && !provider ? (
          <p className="hint">{t.wallet.held(money(view.held_minor ?? 0, view.currency))}</p>
        ) : null}
        {provider ? null : <TopUp />}
      </section>
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
    </div>
  );
}

function TransferTable({ transfers }: { transfers: readonly TransferView[] }) {
  return (
    <table className="table">
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
          <tr key={transfer.id}>
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
  return t.wallet.kinds[kind] ?? (memo == null || memo === "" ? kind.replaceAll("_", " ") : memo);
}
