import { useTurnpike } from "@turnpike/react";
import type { HeldView, LedgerSubject, PackageView } from "@turnpike/sdk";
import { useState } from "react";

import { Books } from "../billing/books";
import { Ledger } from "../billing/ledger";
import { RefundDialog } from "../billing/refund-dialog";
import { Tariffs } from "../billing/tariffs";
import { duration, money } from "../format";
import { t } from "../locale";
import { Avatar } from "../ui/avatar";
import { Button } from "../ui/button";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { useLoad } from "../ui/load";

const TABS = ["books", "tariffs", "accounts", "ledger"] as const;
type Tab = (typeof TABS)[number];

/** For finance staff: whether the books are right, what providers charge, whose money is where, and the rows behind it. */
export function FinancePage() {
  const [tab, setTab] = useState<Tab>("books");
  const [sought, setSought] = useState<{ what: LedgerSubject; key: string } | null>(null);
  return (
    <div className="page page-wide" data-testid="finance">
      <header className="page-head">
        <h1>{t.finance.title}</h1>
      </header>
      <div className="tabs" role="tablist" aria-label={t.finance.title}>
        {TABS.map((one) => (
          <button
            key={one}
            type="button"
            role="tab"
            aria-selected={one === tab}
            className="tab"
            onClick={() => setTab(one)}
            data-testid={`tab-${one}`}
          >
            {t.finance.tabs[one]}
          </button>
        ))}
      </div>
      {tab === "books" ? <Books onAccount={(key) => look("account", key)} /> : null}
      {tab === "tariffs" ? <Tariffs /> : null}
      {tab === "accounts" ? <Accounts onLedger={(key) => look("account", key)} /> : null}
      {tab === "ledger" ? <Ledger sought={sought} onSeek={setSought} /> : null}
    </div>
  );

  function look(what: LedgerSubject, key: string) {
    setSought({ what, key });
    setTab("ledger");
  }
}

function Accounts({ onLedger }: { onLedger: (key: string) => void }) {
  const { finance } = useTurnpike();
  const [text, setText] = useState("");
  const [query, setQuery] = useState("");
  const { data, error, reload } = useLoad(() => finance.accounts(query), [finance, query]);
  const [open, setOpen] = useState<string | null>(null);
  return (
    <section className="block" aria-label={t.finance.tabs.accounts}>
      <form
        className="search-line"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          setQuery(text.trim());
        }}
      >
        <input
          type="search"
          aria-label={t.finance.accounts.search}
          placeholder={t.finance.accounts.search}
          value={text}
          maxLength={64}
          onChange={(event) => setText(event.target.value)}
          data-testid="account-search"
        />
        <Button type="submit">{t.recordings.search}</Button>
      </form>
      {error === null ? null : <Failure error={error} retry={reload} />}
      {data === null ? (
        error === null ? (
          <Skeleton rows={4} />
        ) : null
      ) : data.length === 0 ? (
        <Empty icon="people" title={t.finance.accounts.none}>
          {t.finance.accounts.noneHint}
        </Empty>
      ) : (
        <ul className="accounts">
          {data.map((one) => (
            <Account
              key={one.user_id + one.currency}
              account={one}
              open={open === one.user_id}
              onOpen={() => setOpen(open === one.user_id ? null : one.user_id)}
              onLedger={() => onLedger(one.user_id)}
            />
          ))}
        </ul>
      )}
    </section>
  );
}

function Account({
  account,
  open,
  onOpen,
  onLedger,
}: {
  account: HeldView;
  open: boolean;
  onOpen: () => void;
  onLedger: () => void;
}) {
  const amount = (minor: number) => money(minor, account.currency);
  return (
    <li className="account" data-testid="account">
      <Avatar user={account} size={40} />
      <span className="account-who">
        <strong>{account.name}</strong>
        <span className="soft">
          {t.roles[account.role]} · {account.email}
        </span>
      </span>
      <dl className="account-money">
        <div>
          <dt>{t.finance.accounts.balance}</dt>
          <dd>{amount(account.balance_minor)}</dd>
        </div>
        {account.held_minor === 0 ? null : (
          <div>
            <dt>{t.finance.accounts.held}</dt>
            <dd>{amount(account.held_minor)}</dd>
          </div>
        )}
        {account.owed_minor === 0 ? null : (
          <div className="account-owes">
            <dt>{t.finance.accounts.owed}</dt>
            <dd>{amount(account.owed_minor)}</dd>
          </div>
        )}
      </dl>
      <span className="account-actions">
        {account.role === "client" ? (
          <Button look="quiet" aria-expanded={open} onClick={onOpen} data-testid="account-packages">
            {t.finance.accounts.packages}
          </Button>
        ) : null}
        <Button look="quiet" onClick={onLedger} data-testid="account-ledger">
          {t.finance.accounts.open}
        </Button>
      </span>
      {open ? <ClientPackages userId={account.user_id} currency={account.currency} /> : null}
    </li>
  );
}

/** A client's packages, and the way to give back what is left of one. */
function ClientPackages({ userId, currency }: { userId: string; currency: string }) {
  const { finance } = useTurnpike();
  const { data, error, reload } = useLoad(() => finance.packagesOf(userId), [finance, userId]);
  const [chosen, setChosen] = useState<PackageView | null>(null);
  if (data === null)
    return error === null ? <Skeleton rows={1} height={40} /> : <Failure error={error} retry={reload} />;
  return (
    <div className="account-more">
      {data.length === 0 ? <p className="hint">{t.finance.accounts.noPackages}</p> : null}
      <ul className="offers">
        {data.map((pack) => (
          <li key={pack.id} className="offer">
            <span className="offer-words">
              <strong>{pack.name}</strong>
              <span className="soft">{t.purse.left(duration(pack.left_ms))}</span>
            </span>
            <Button disabled={pack.reserved_ms > 0} onClick={() => setChosen(pack)} data-testid="refund-package">
              {t.refund.open}
            </Button>
          </li>
        ))}
      </ul>
      {chosen === null ? null : (
        <RefundDialog
          of={[
            {
              label: chosen.name,
              what: { package_id: chosen.id },
              leftMinor: chosen.unearned_minor,
            },
          ]}
          currency={currency}
          onClose={() => {
            setChosen(null);
            reload();
          }}
          onDone={() => undefined}
        />
      )}
    </div>
  );
}
