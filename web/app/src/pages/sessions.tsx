import { useTurnpike } from "@turnpike/react";
import { isLive, type SessionView } from "@turnpike/sdk";

import { duration, money, when } from "../format";
import { t } from "../locale";
import { Avatar } from "../ui/avatar";
import { Button, Link } from "../ui/button";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { usePages } from "../ui/pages";

export function PastSessions() {
  const client = useTurnpike();
  const role = client.me?.user.role ?? "client";
  const pages = usePages(
    async (cursor) => {
      const page = await client.sessions(cursor);
      return { items: page.sessions, next: page.next_cursor ?? null };
    },
    [client],
  );
  const staff = role !== "client" && role !== "provider";
  return (
    <div className="page">
      <header className="page-head">
        <h1>{staff ? t.sessions.titleStaff : t.sessions.title}</h1>
      </header>
      {pages.error === null ? null : <Failure error={pages.error} retry={pages.reload} />}
      {pages.items === null ? (
        pages.error === null ? (
          <Skeleton />
        ) : null
      ) : pages.items.length === 0 ? (
        <Empty icon="list" title={t.sessions.empty}>
          {role === "client" ? t.sessions.emptyClient : role === "provider" ? t.sessions.emptyProvider : undefined}
        </Empty>
      ) : (
        <>
          <SessionRows sessions={pages.items} selfId={client.me?.user.id ?? ""} />
          {pages.more === null ? null : (
            <Button busy={pages.loading} onClick={pages.more}>
              {t.common.more}
            </Button>
          )}
        </>
      )}
    </div>
  );
}

/** Sessions as rows that open the receipt. */
export function SessionRows({ sessions, selfId }: { sessions: readonly SessionView[]; selfId: string }) {
  return (
    <ul className="rows">
      {sessions.map((session) => (
        <li key={session.id}>
          <Link to={`/session/${session.id}`} className="row" data-testid="session-row">
            <Avatar user={session.client.id === selfId ? session.provider : session.client} size={40} />
            <span className="row-main">
              <strong>{withWhom(session, selfId)}</strong>
              <span className="row-sub">
                {t.kinds[session.kind]} · {when(session.requested_at_ms)}
              </span>
            </span>
            <span className="row-end">
              <span className={`outcome outcome-${outcome(session)}`} data-testid="session-outcome">
                {outcomeWord(session)}
              </span>
              {session.amount_minor == null || session.started_at_ms == null ? null : (
                <span className="row-sub row-amount" data-testid="session-amount">
                  {money(session.amount_minor, session.rate.currency)}
                </span>
              )}
              {session.recording_id == null ? null : (
                <span className="row-sub row-icon">
                  <Icon name="film" size={16} />
                  {t.sessions.recorded}
                </span>
              )}
            </span>
          </Link>
        </li>
      ))}
    </ul>
  );
}

function withWhom({ client, provider }: SessionView, selfId: string): string {
  if (client.id === selfId) return provider.name;
  return provider.id === selfId ? client.name : `${client.name} · ${provider.name}`;
}

function outcome({ state, started_at_ms }: SessionView): "live" | "good" | "none" {
  if (isLive(state)) return "live";
  return started_at_ms == null ? "none" : "good";
}

/** How long was billed; from views without that, the word for where it stands. */
function outcomeWord({ state, started_at_ms, ended_at_ms, billed_ms }: SessionView): string {
  if (started_at_ms != null && ended_at_ms != null && billed_ms != null) return t.sessions.billed(duration(billed_ms));
  return state === "ended" ? t.sessions.notConnected : t.states[state];
}
