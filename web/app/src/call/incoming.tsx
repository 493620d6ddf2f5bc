import { useChanges, useTurnpike } from "@turnpike/react";
import { asTurnpikeError, type Session, type TurnpikeError } from "@turnpike/sdk";
import { useEffect, useRef, useState } from "react";

import { money } from "../format";
import { t } from "../locale";
import { startRinging } from "../ring";
import { go } from "../router";
import { Avatar } from "../ui/avatar";
import { Button } from "../ui/button";
import { CountdownRing, useCountdown } from "../ui/countdown";
import { Failure } from "../ui/feedback";
import { useLoad } from "../ui/load";

const RING_MS = 30_000;

/** A call for this provider: who, what it pays, the agreement, and half a minute to decide. */
export function Incoming({ session }: { session: Session }) {
  const client = useTurnpike();
  useChanges(session);
  const { view } = session;
  const consent = useLoad(() => client.consent(), [client]);
  const terms = useLoad(() => session.terms(), [session]);
  const { seconds, share } = useCountdown(view.ring_until_ms, RING_MS);
  const [busy, setBusy] = useState<"accept" | "decline" | null>(null);
  const [error, setError] = useState<TurnpikeError | null>(null);

  const panel = useRef<HTMLElement>(null);

  useEffect(() => startRinging(), []);
  useEffect(() => {
    // The panel, not a button: who was typing must not accept by accident.
    panel.current?.focus();
  }, []);
  useEffect(() => {
    const title = document.title;
    document.title = `☎ ${view.client.name}`;
    return () => {
      document.title = title;
    };
  }, [view.client.name]);

  const accept = async () => {
    if (consent.data === null) return;
    setBusy("accept");
    setError(null);
    try {
      await session.accept({ version: consent.data.version, accepted: true });
      go(`/session/${session.id}`);
    } catch (thrown) {
      const refusal = asTurnpikeError(thrown);
      if (refusal.code === "consent_outdated") consent.reload();
      setError(refusal);
      setBusy(null);
    }
  };
  const decline = async () => {
    setBusy("decline");
    try {
      await session.decline();
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
      setBusy(null);
    }
  };

  return (
    <section
      ref={panel}
      tabIndex={-1}
      className="incoming"
      role="alertdialog"
      aria-labelledby="incoming-title"
      aria-describedby="incoming-rate"
      data-testid="incoming"
    >
      <p className="incoming-kind">{t.incoming.title(view.kind)}</p>
      <CountdownRing share={share} size={112}>
        <Avatar user={view.client} size={92} />
      </CountdownRing>
      <h2 id="incoming-title">{view.client.name}</h2>
      <p id="incoming-rate" className="incoming-rate">
        {terms.data?.now.earns_minor_per_minute == null
          ? "\u00a0"
          : t.incoming.rate(money(terms.data.now.earns_minor_per_minute, view.rate.currency))}
      </p>
      <p className="hint" aria-live="off">
        {t.incoming.seconds(seconds)}
      </p>
      {error === null ? null : <Failure error={error} />}
      <div className="incoming-actions">
        <Button
          look="danger"
          icon="hangUp"
          busy={busy === "decline"}
          disabled={busy !== null}
          onClick={() => void decline()}
          data-testid="decline"
        >
          {t.incoming.decline}
        </Button>
        <Button
          look="primary"
          icon={view.kind === "chat" ? "chat" : view.kind === "audio" ? "phone" : "camera"}
          busy={busy === "accept"}
          disabled={busy !== null || consent.data === null}
          onClick={() => void accept()}
          data-testid="accept"
        >
          {t.incoming.accept}
        </Button>
      </div>
      <details className="incoming-consent">
        <summary>
          {t.incoming.consentTitle} <span className="link-like">{t.incoming.details}</span>
        </summary>
        <p>{consent.data?.text}</p>
      </details>
    </section>
  );
}
