import { useChanges, useCost, useTurnpike } from "@turnpike/react";
import type { Session } from "@turnpike/sdk";

import { clock, money } from "../format";
import { t } from "../locale";
import { Link } from "../ui/button";

/** The call that goes on, as it looks from the wallet: what it has come to by now. */
export function LiveCall({ session }: { session: Session }) {
  useChanges(session);
  const reading = useCost(session);
  const earner = session.role === "provider";
  const amount = earner ? (reading.earnings_minor ?? 0) : reading.cost_minor;
  return (
    <Link to={`/session/${session.id}`} className="live-call" data-testid="live-call">
      <span className={reading.running ? "live-dot live-dot-on" : "live-dot"} aria-hidden="true" />
      <span className="live-words">
        <strong>{t.purse.live(session.other.name)}</strong>
        <span className="soft">
          {t.kinds[session.view.kind]} · {clock(reading.live_ms)}
        </span>
      </span>
      <span className="live-amount">
        <span className="label">{earner ? t.purse.earningSoFar : t.purse.soFar}</span>
        <strong data-testid="live-amount" data-minor={amount}>
          {money(amount, session.view.rate.currency)}
        </strong>
      </span>
    </Link>
  );
}

/** What the wallet would be if the call ended now: its balance less what has accrued and is not posted yet. */
export function useLiveBalance(): { balance: number | null; session: Session | null } {
  const { wallet, current } = useTurnpike();
  useChanges(current);
  const view = wallet.view;
  const reading = current === null ? null : current.cost();
  if (view === null) return { balance: null, session: current };
  if (current === null || current.role !== "client") return { balance: view.balance_minor, session: current };
  return { balance: reading?.balance_minor ?? view.balance_minor, session: current };
}
