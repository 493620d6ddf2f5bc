import { useCall, useTurnpike, type Call } from "@turnpike/react";
import { isLive, type Session } from "@turnpike/sdk";

import { CallView } from "../call/call-view";
import { Ringing } from "../call/ringing";
import { t } from "../locale";
import { go } from "../router";
import { Button } from "../ui/button";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { Receipt } from "./receipt";

/** One session, in whatever state it is. */
export function SessionPage({ id }: { id: string }) {
  const call = useCall(id);
  const { session, error } = call;
  if (session === null) {
    return (
      <div className="page">{error === null ? <Skeleton rows={3} height={120} /> : <Failure error={error} />}</div>
    );
  }
  if (isLive(session.view.state) && session.role !== "observer") return <Live session={session} call={call} />;
  return session.view.started_at_ms == null ? <NotTaken session={session} /> : <Receipt session={session} />;
}

function Live({ session, call }: { session: Session; call: Call }) {
  const { state } = session.view;
  if (state === "requested" || state === "ringing") {
    // A provider decides in the panel that the shell shows on every page.
    return session.role === "client" ? <Ringing session={session} /> : <div className="page" />;
  }
  return <CallView session={session} call={call} />;
}

function NotTaken({ session }: { session: Session }) {
  const client = useTurnpike();
  const { state, end_reason } = session.view;
  const provider = session.role === "provider";
  const home = () => go("/");
  const title =
    provider && state === "missed"
      ? t.over.missedProvider(session.other.name)
      : provider && state === "declined"
        ? t.over.declinedProvider(session.other.name)
        : (t.over.notTaken[state]?.(session.other.name) ??
          (end_reason == null ? t.states[state] : t.endReasons[end_reason]));
  return (
    <div className="page" data-testid="not-taken">
      <Empty
        icon="phone"
        title={title}
        action={
          <Button look="primary" onClick={home}>
            {provider ? t.over.desk : client.me?.user.role === "client" ? t.over.again : t.common.home}
          </Button>
        }
      >
        {t.over.nothing}
      </Empty>
    </div>
  );
}
