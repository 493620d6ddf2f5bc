import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, type KindTerms, type Session, type SessionKind, type TurnpikeError } from "@turnpike/sdk";
import { useEffect, useState } from "react";

import { money } from "../format";
import { t } from "../locale";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Failure, Skeleton } from "../ui/feedback";
import { Icon, type IconName } from "../ui/icons";
import { useLoad, useNow } from "../ui/load";
import { TopUp } from "../ui/top-up";

const ICONS: Record<SessionKind, IconName> = { chat: "chat", audio: "phone", video: "camera" };
const ORDER: readonly SessionKind[] = ["chat", "audio", "video"];

/** Chat, audio or video: what each costs, and the way to it. */
export function KindDialog({ session, onClose }: { session: Session; onClose: () => void }) {
  const terms = useLoad(() => session.terms(), [session, session.view.kind]);
  const [busy, setBusy] = useState<SessionKind | null>(null);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const { view } = session;

  const change = async (to: KindTerms) => {
    setBusy(to.kind);
    setError(null);
    try {
      await session.changeKind(to.kind, to.minor_per_minute, to.step_ms);
      onClose();
    } catch (thrown) {
      const refusal = asTurnpikeError(thrown);
      if (refusal.code === "rate_changed") terms.reload();
      setError(refusal);
      setBusy(null);
    }
  };

  const kinds = ORDER.flatMap((kind) => terms.data?.kinds.find((one) => one.kind === kind) ?? []);
  return (
    <Dialog title={t.kindChange.title} onClose={onClose} className="dialog-small">
      {terms.error === null ? null : <Failure error={terms.error} retry={terms.reload} />}
      {error === null ? null : <Failure error={error} />}
      {terms.data === null ? (
        terms.error === null ? (
          <Skeleton rows={3} height={56} />
        ) : null
      ) : (
        <ul className="kind-choices">
          {kinds.map((one) => {
            const now = one.kind === view.kind;
            const steps = t.kindChange.steps(one.step_ms);
            return (
              <li key={one.kind}>
                <button
                  type="button"
                  className="kind-choice"
                  aria-current={now ? "true" : undefined}
                  disabled={now || busy !== null}
                  onClick={() => void change(one)}
                  data-testid={`kind-${one.kind}`}
                >
                  <Icon name={ICONS[one.kind]} size={22} />
                  <span className="kind-words">
                    <strong>{t.kindChange.to[one.kind]}</strong>
                    <span>
                      {now
                        ? t.kindChange.now
                        : one.at_once
                          ? t.kindChange.atOnce
                          : t.kindChange.needs(session.other.name)}
                      {steps === "" ? "" : ` · ${steps}`}
                    </span>
                  </span>
                  <span className="kind-rate">
                    {one.earns_minor_per_minute == null
                      ? t.kindChange.rate(money(one.minor_per_minute, one.currency))
                      : t.kindChange.earns(money(one.earns_minor_per_minute, one.currency))}
                  </span>
                </button>
              </li>
            );
          })}
        </ul>
      )}
      <p className="hint">{kinds.length > 1 || terms.data === null ? t.kindChange.hint : t.kindChange.none}</p>
    </Dialog>
  );
}

/** Over the controls while one side has asked for a dearer kind: the rate, and the answer. */
export function KindAsked({ session }: { session: Session }) {
  const now = useNow(500, session.view.asked != null);
  const asked = session.asked;
  if (asked === null || asked.until_ms <= now) return null;
  const seconds = Math.ceil((asked.until_ms - now) / 1000);
  return asked.mine ? (
    <Waiting key={asked.until_ms} session={session} kind={asked.kind} seconds={seconds} />
  ) : (
    <Asked
      key={asked.until_ms}
      session={session}
      kind={asked.kind}
      minorPerMinute={asked.rate.minor_per_minute}
      stepMs={asked.step_ms}
      seconds={seconds}
    />
  );
}

function Waiting({ session, kind, seconds }: { session: Session; kind: SessionKind; seconds: number }) {
  return (
    <div className="kind-asked" role="status" data-testid="kind-waiting">
      <span className="spinner" aria-hidden="true" />
      <p>
        {t.kindChange.waits(session.other.name, kind)} <span className="soft">{t.kindChange.seconds(seconds)}</span>
      </p>
      <Button onClick={() => void session.keepKind().catch(() => undefined)} data-testid="kind-take-back">
        {t.kindChange.takeBack}
      </Button>
    </div>
  );
}

function Asked({
  session,
  kind,
  minorPerMinute,
  stepMs,
  seconds,
}: {
  session: Session;
  kind: SessionKind;
  minorPerMinute: number;
  stepMs: number;
  seconds: number;
}) {
  const { wallet } = useTurnpike();
  const [busy, setBusy] = useState<"agree" | "keep" | null>(null);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const earns = useEarns(session, kind);
  const { currency, minor_per_minute: was } = session.view.rate;
  const client = session.role === "client";
  const rate = money(minorPerMinute, currency);
  const answer = async (what: "agree" | "keep") => {
    setBusy(what);
    setError(null);
    try {
      await (what === "agree" ? session.changeKind(kind, minorPerMinute, stepMs) : session.keepKind());
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
    }
    setBusy(null);
  };
  return (
    <section
      className="kind-asked kind-question"
      role="alertdialog"
      aria-labelledby="kind-asks"
      data-testid="kind-asked"
    >
      <div>
        <h2 id="kind-asks">
          <Icon name={ICONS[kind]} size={20} />
          {t.kindChange.asks(session.other.name, kind)}
          <span className="soft">{t.kindChange.seconds(seconds)}</span>
        </h2>
        <p>
          {client
            ? t.kindChange.youPay(rate, money(was, currency), t.kindChange.steps(stepMs))
            : earns === null
              ? ""
              : t.kindChange.youEarn(money(earns, currency))}
        </p>
        {error === null ? null : <Failure error={error} />}
        {error?.code === "insufficient_funds" && client ? <TopUp onDone={() => setError(null)} /> : null}
      </div>
      <div className="kind-answers">
        <Button
          busy={busy === "keep"}
          disabled={busy !== null}
          onClick={() => void answer("keep")}
          data-testid="kind-keep"
        >
          {t.kindChange.keep}
        </Button>
        <Button
          look="primary"
          busy={busy === "agree"}
          disabled={busy !== null || (client && wallet.view === null)}
          onClick={() => void answer("agree")}
          data-testid="kind-agree"
        >
          {client ? t.kindChange.agree(kind, rate) : t.kindChange.agreeEarn(kind)}
        </Button>
      </div>
    </section>
  );
}

/** What the provider would earn; null for clients, and until it is known. */
function useEarns(session: Session, kind: SessionKind): number | null {
  const [earns, setEarns] = useState<number | null>(null);
  useEffect(() => {
    if (session.role !== "provider") return;
    let current = true;
    session.terms().then(
      (terms) => {
        const found = terms.kinds.find((one) => one.kind === kind)?.earns_minor_per_minute ?? null;
        if (current) setEarns(found);
      },
      () => undefined, // the rate is left out then
    );
    return () => {
      current = false;
    };
  }, [session, kind]);
  return earns;
}
