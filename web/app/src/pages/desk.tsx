import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, type TurnpikeError } from "@turnpike/sdk";
import { useEffect, useState } from "react";

import { money } from "../format";
import { t } from "../locale";
import { ringOnce, unlockSound } from "../ring";
import { Button } from "../ui/button";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { NetworkTestButton } from "../quality/network-test";
import { useLoad } from "../ui/load";
import { SessionRows } from "./sessions";

export function Desk() {
  const client = useTurnpike();
  const recent = useLoad(() => client.sessions(null, 6), [client]);
  useEffect(() => client.on("resync", recent.reload), [client, recent.reload]);
  const current = client.current;
  useEffect(() => {
    if (current === null) recent.reload();
  }, [current, recent.reload]);
  const wallet = client.wallet.view;
  return (
    <div className="page">
      <header className="page-head page-head-row">
        <h1>{t.desk.title}</h1>
        {wallet === null ? null : (
          <dl className="facts">
            <div>
              <dt>{t.desk.earnings}</dt>
              <dd data-testid="earnings">{money(wallet.balance_minor, wallet.currency)}</dd>
            </div>
          </dl>
        )}
      </header>
      <Availability />
      <section className="block" aria-labelledby="recent">
        <h2 id="recent">{t.desk.recent}</h2>
        {recent.error === null ? null : <Failure error={recent.error} retry={recent.reload} />}
        {recent.data === null ? (
          <Skeleton rows={3} />
        ) : recent.data.sessions.length === 0 ? (
          <Empty icon="phone" title={t.desk.none}>
            {t.desk.noneHint}
          </Empty>
        ) : (
          <SessionRows sessions={recent.data.sessions} selfId={client.me?.user.id ?? ""} />
        )}
      </section>
    </div>
  );
}

function Availability() {
  const client = useTurnpike();
  const open = client.me?.available === true;
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const toggle = async () => {
    unlockSound();
    setBusy(true);
    setError(null);
    try {
      await client.setAvailability(!open);
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
    } finally {
      setBusy(false);
    }
  };
  return (
    <section className={open ? "availability availability-open" : "availability"}>
      <div>
        <h2>{open ? t.desk.open : t.desk.closed}</h2>
        <p>{open ? t.desk.openHint : t.desk.closedHint}</p>
      </div>
      <div className="availability-controls">
        <NetworkTestButton />
        <Button icon="sound" look="quiet" onClick={ringOnce}>
          {t.desk.testRing}
        </Button>
        <button
          type="button"
          role="switch"
          aria-checked={open}
          aria-label={t.desk.toggle}
          className="switch"
          disabled={busy}
          onClick={() => void toggle()}
          data-testid="availability"
        >
          <span className="switch-knob" />
        </button>
      </div>
      {error === null ? null : <Failure error={error} />}
    </section>
  );
}
