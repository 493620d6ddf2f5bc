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
export function LiveBalance({ session }: { session: Session }) {
  const { wallet } = useTurnpike();
  const reading = useCost(session);
  return <>{money(reading.balance_minor ?? wallet.view?.balance_minor ?? 0, session.view.rate.currency)}</>;
}
