import { useCost, useTurnpike } from "@turnpike/react";
import type { Session } from "@turnpike/sdk";
import { useState } from "react";

import { clock, money } from "../format";
import { t } from "../locale";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { TopUp } from "../ui/top-up";

/** Time and cost, counting smoothly. The server's figures are the truth; this only moves between them. */
export function Meter({ session }: { session: Session }) {
  const reading = useCost(session);
  const { wallet } = useTurnpike();
  const balance = reading.balance_minor ?? wallet.view?.balance_minor ?? null; // until the first figure comes
  const { currency } = session.view.rate;
  const earner = session.role === "provider";
  const amount = earner && reading.earnings_minor !== null ? reading.earnings_minor : reading.cost_minor;
  return (
    <dl className={reading.running ? "meter" : "meter meter-still"}>
      <div>
        <dt>{t.call.timer}</dt>
        <dd data-testid="timer" data-ms={Math.round(reading.live_ms)}>
          {clock(reading.live_ms)}
        </dd>
      </div>
      <div>
        <dt>{earner ? t.call.earned : t.call.cost}</dt>
        <dd data-testid="cost" data-minor={amount}>
          {money(amount, currency)}
        </dd>
      </div>
      {session.role === "client" && balance !== null ? (
        <div className="meter-balance">
          <dt>{t.call.balance}</dt>
          <dd data-testid="balance" data-minor={balance}>
            {money(balance, currency)}
          </dd>
        </div>
      ) : null}
    </dl>
  );
}

/** The last minute from which on the bar shows. */
const LAST_MS = 65_000;

/** Appears when the paid time nears its end: how much is left, and a way to add more. */
export function MoneyBar({ session }: { session: Session }) {
  const reading = useCost(session);
  const [adding, setAdding] = useState(false);
  const left = reading.remaining_ms ?? session.warning?.remaining_ms ?? null;
  const close = left !== null && left <= LAST_MS;
  if (!close && !adding) return null;
  const client = session.role === "client";
  const urgency = left === null || left > 30_000 ? "calm" : left > 10_000 ? "soon" : "now";
  return (
    <>
      {close ? (
        <div className={`money-bar money-${urgency}`} role="status" data-testid="money-warning">
          <span className="money-words">{client ? t.call.left(clock(left)) : t.call.leftProvider(clock(left))}</span>
          <span className="money-track" aria-hidden="true">
            <span style={{ width: `${Math.min(100, (left / 60_000) * 100)}%` }} />
          </span>
          {client ? (
            <Button look="primary" icon="plus" onClick={() => setAdding(true)} data-testid="top-up">
              {t.call.topUp}
            </Button>
          ) : null}
        </div>
      ) : null}
      {adding ? (
        <Dialog title={t.wallet.topUp} onClose={() => setAdding(false)} className="dialog-small">
          <TopUp onDone={() => setAdding(false)} />
        </Dialog>
      ) : null}
    </>
  );
}
