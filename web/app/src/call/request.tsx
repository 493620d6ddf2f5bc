import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, type ProviderView, type RateView, type TurnpikeError } from "@turnpike/sdk";
import { useState } from "react";

import { money, roughly } from "../format";
import { t } from "../locale";
import { go } from "../router";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Failure } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { useLoad } from "../ui/load";
import { TopUp } from "../ui/top-up";

/** What the call costs, how long the money lasts, and the agreement to the recording; then it rings. */
export function RequestDialog({
  provider,
  rate,
  onClose,
}: {
  provider: ProviderView;
  rate: RateView;
  onClose: () => void;
}) {
  const client = useTurnpike();
  const consent = useLoad(() => client.consent(), [client]);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const available = client.wallet.view?.available_minor ?? 0;
  const chat = rate.kind === "chat";

  const call = async () => {
    if (consent.data === null) return;
    setBusy(true);
    setError(null);
    try {
      const session = await client.request(provider.user.id, rate.kind, {
        version: consent.data.version,
        accepted: true,
      });
      onClose();
      go(`/session/${session.id}`);
    } catch (thrown) {
      const refusal = asTurnpikeError(thrown);
      if (refusal.code === "consent_outdated") consent.reload();
      setError(refusal);
      setBusy(false);
    }
  };

  return (
    <Dialog title={(chat ? t.request.chatTitle : t.request.title)(provider.user.name)} onClose={onClose}>
      <dl className="facts facts-row">
        <Fact label={t.request.rate}>
          {money(rate.minor_per_minute, rate.currency)}
          <span className="unit">{t.common.perMinute}</span>
        </Fact>
        <Fact label={t.request.balance}>{money(available, rate.currency)}</Fact>
        <Fact label={t.request.lasts}>{roughly((available / rate.minor_per_minute) * 60_000)}</Fact>
      </dl>
      {error?.code === "insufficient_funds" || available < rate.minor_per_minute ? <TopUp /> : null}
      {error === null ? null : <Failure error={error} />}
      {consent.error === null ? null : <Failure error={consent.error} retry={consent.reload} />}
      <section className="consent">
        <h3>
          <Icon name="lock" size={18} />
          {chat ? t.request.chatConsent : t.request.consentTitle}
        </h3>
        <p>{consent.data?.text ?? "…"}</p>
      </section>
      <footer className="dialog-actions">
        <Button onClick={onClose}>{t.common.cancel}</Button>
        <Button
          look="primary"
          icon={chat ? "chat" : rate.kind === "audio" ? "phone" : "camera"}
          disabled={consent.data === null}
          busy={busy}
          onClick={() => void call()}
          data-testid="call-start"
          autoFocus
        >
          {chat ? t.request.chatAgree : t.request.agree}
        </Button>
      </footer>
    </Dialog>
  );
}

function Fact({ label, children }: { label: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>{children}</dd>
    </div>
  );
}
