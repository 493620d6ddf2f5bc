import type { ReceiptView, Session } from "@turnpike/sdk";

import { duration, exactly, money } from "../format";
import { t } from "../locale";
import { go } from "../router";
import { Avatar } from "../ui/avatar";
import { Button } from "../ui/button";
import { Failure } from "../ui/feedback";
import { Mark } from "../ui/icons";
import { useLoad } from "../ui/load";

/** The receipt of a finished session; waits while it is being settled. */
export function Receipt({ session }: { session: Session }) {
  const { data, error, reload } = useLoad(() => session.receipt(), [session]);
  const { view } = session;
  return (
    <div className="page page-narrow">
      {data === null ? (
        error === null ? (
          <div className="ticket">
            <div className="paper paper-waiting" role="status">
              <span className="spinner" aria-hidden="true" />
              <h1>{t.receipt.settling}</h1>
              <p className="hint">{t.receipt.settlingHint}</p>
            </div>
          </div>
        ) : error.status === 404 ? (
          <p>{t.receipt.none}</p>
        ) : (
          <Failure error={error} retry={reload} />
        )
      ) : (
        <Ticket session={session} receipt={data} />
      )}
      <div className="receipt-actions">
        <Button icon="back" onClick={() => go("/")} data-testid="receipt-done">
          {session.role === "provider" ? t.over.desk : session.role === "client" ? t.over.again : t.common.home}
        </Button>
        <Button icon="list" look="quiet" onClick={() => go(`/sessions/${view.id}`)} data-testid="connection-details">
          {t.quality.open}
        </Button>
        {data === null ? null : (
          <Button icon="print" look="quiet" onClick={() => print()}>
            {t.receipt.print}
          </Button>
        )}
      </div>
      {view.end_reason == null ? null : <p className="hint receipt-reason">{t.endReasons[view.end_reason]}</p>}
    </div>
  );
}

function Ticket({ session, receipt }: { session: Session; receipt: ReceiptView }) {
  const { currency } = receipt;
  const provider = session.role === "provider";
  const extras = receipt.extras ?? [];
  const own = provider && receipt.provider_minor != null ? receipt.provider_minor : receipt.charged_minor;
  const total = own + extras.reduce((sum, extra) => sum + extra.amount_minor, 0);
  const amount = (minor: number) => money(minor, currency);
  return (
    <article className="ticket" data-testid="receipt">
      <div className="paper">
        <header className="ticket-head">
          <div className="brand">
            <Mark size={24} />
            <span>{t.product}</span>
          </div>
          <h1>{t.receipt.title}</h1>
        </header>
        <div className="ticket-who">
          <Avatar user={session.other} size={48} />
          <div>
            <strong>{t.kinds[receipt.kind]}</strong>
            <span>
              {session.role === "observer"
                ? `${receipt.client.name} · ${receipt.provider.name}`
                : t.receipt.with(session.other.name)}
            </span>
          </div>
          <div className="ticket-total">
            <span className="label">{provider ? t.receipt.earned : t.receipt.total}</span>
            <span className="ticket-amount" data-testid="receipt-total" data-minor={total}>
              {amount(total)}
            </span>
          </div>
        </div>
        <dl className="ticket-lines">
          <Line label={t.receipt.billed}>
            <span data-testid="receipt-billed" data-ms={receipt.billed_ms}>
              {duration(receipt.billed_ms)}
            </span>
          </Line>
          {receipt.lines.length > 1 ? null : (
            <Line label={t.receipt.rate}>
              {amount(receipt.rate.minor_per_minute)}
              {t.common.perMinute}
            </Line>
          )}
          {receipt.lines.map((line, index) => (
            <Line key={index} label={line.label}>
              {amount(line.amount_minor)}
            </Line>
          ))}
          {(receipt.promo_minor ?? 0) === 0 ? null : (
            <Line label={t.receipt.promo}>{amount(receipt.promo_minor ?? 0)}</Line>
          )}
          {extras.map((extra) => (
            <Line key={extra.id} label={extra.label}>
              <span data-testid="receipt-extra">{amount(extra.amount_minor)}</span>
            </Line>
          ))}
          {session.role === "client" ? null : (
            <>
              <Line label={t.receipt.charged}>{amount(receipt.charged_minor)}</Line>
              {receipt.platform_minor == null ? null : (
                <Line label={t.receipt.platform}>{amount(receipt.platform_minor)}</Line>
              )}
            </>
          )}
          {receipt.balance_after_minor == null ? null : (
            <Line label={t.receipt.balance}>{amount(receipt.balance_after_minor)}</Line>
          )}
        </dl>
        <dl className="ticket-lines ticket-small">
          {receipt.started_at_ms == null ? null : (
            <Line label={t.receipt.started}>{exactly(receipt.started_at_ms)}</Line>
          )}
          {receipt.ended_at_ms == null ? null : <Line label={t.receipt.ended}>{exactly(receipt.ended_at_ms)}</Line>}
          <Line label={t.receipt.number}>
            <code>{receipt.session_id}</code>
          </Line>
        </dl>
        <p className="hint">{receipt.recording_id == null ? t.receipt.notRecorded : t.receipt.recorded}</p>
      </div>
    </article>
  );
}

function Line({ label, children }: { label: string; children: React.ReactNode }) {
  return (
    <div className="ticket-line">
      <dt>{label}</dt>
      <dd>{children}</dd>
    </div>
  );
}
