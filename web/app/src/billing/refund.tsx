import { useTurnpike } from "@turnpike/react";
import type { Session, Timeline } from "@turnpike/sdk";
import { useState } from "react";

import { money } from "../format";
import { t } from "../locale";
import { Button } from "../ui/button";
import { RefundDialog, type Returnable } from "./refund-dialog";

/** Finance's way to give back a session, or what else was paid in it; nothing for anybody else. */
export function Refund({ session, line, onDone }: { session: Session; line: Timeline; onDone: () => void }) {
  const { me } = useTurnpike();
  const [open, setOpen] = useState(false);
  const [first, ...others] = returnables(session, line);
  if ((me?.user.role !== "finance" && me?.user.role !== "admin") || first === undefined) return null;
  return (
    <>
      <Button icon="back" onClick={() => setOpen(true)} data-testid="refund">
        {t.refund.open}
      </Button>
      {open ? (
        <RefundDialog
          of={[first, ...others]}
          currency={session.view.rate.currency}
          onClose={() => setOpen(false)}
          onDone={onDone}
        />
      ) : null}
    </>
  );
}

function returnables(session: Session, line: Timeline): Returnable[] {
  const { currency } = session.view.rate;
  const left = line.meter?.refundable_minor ?? null;
  const call: Returnable[] =
    left === null
      ? []
      : [{ label: t.refund.call(money(left, currency)), what: { session_id: session.id }, leftMinor: left }];
  const charges = line.money
    .filter((mark) => mark.id.startsWith("chg_"))
    .map((mark) => ({
      label: t.refund.charge(t.timeline.money[mark.what] ?? mark.what, money(mark.amount_minor, currency)),
      what: { charge_id: mark.id },
      leftMinor: mark.amount_minor,
    }));
  return [...call, ...charges];
}
