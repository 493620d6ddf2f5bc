import { useTurnpike } from "@turnpike/react";
import type { ProviderView, RateView } from "@turnpike/sdk";
import { useEffect, useState } from "react";

import { money } from "../format";
import { t } from "../locale";
import { Avatar } from "../ui/avatar";
import { Button } from "../ui/button";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { NetworkTestButton } from "../quality/network-test";
import { useLoad } from "../ui/load";
import { RequestDialog } from "../call/request";

const ORDER = { online: 0, busy: 1, away: 2, offline: 3 } as const;
type Kind = "video" | "audio" | "chat";

export function Providers() {
  const client = useTurnpike();
  const { data, error, reload, set } = useLoad(() => client.providers(), [client]);
  const [asking, setAsking] = useState<{ provider: ProviderView; rate: RateView } | null>(null);

  useEffect(() => client.on("resync", reload), [client, reload]);
  useEffect(
    () =>
      client.on("presence", ({ user_id, presence }) =>
        set((list) => list.map((p) => (p.user.id === user_id ? { ...p, presence } : p))),
      ),
    [client, set],
  );

  return (
    <div className="page">
      <header className="page-head">
        <h1>{t.providers.title}</h1>
        <p className="hint">{t.providers.hint}</p>
        <NetworkTestButton />
      </header>
      {error === null ? null : <Failure error={error} retry={reload} />}
      {data === null ? (
        error === null ? (
          <Skeleton rows={3} height={104} />
        ) : null
      ) : data.length === 0 ? (
        <Empty icon="people" title={t.providers.empty}>
          {t.providers.emptyHint}
        </Empty>
      ) : (
        <ul className="people">
          {[...data]
            .sort((a, b) => ORDER[a.presence] - ORDER[b.presence] || a.user.name.localeCompare(b.user.name))
            .map((provider) => (
              <ProviderRow
                key={provider.user.id}
                provider={provider}
                onCall={(rate) => setAsking({ provider, rate })}
              />
            ))}
        </ul>
      )}
      {asking === null ? null : <RequestDialog {...asking} onClose={() => setAsking(null)} />}
    </div>
  );
}

function ProviderRow({ provider, onCall }: { provider: ProviderView; onCall: (rate: RateView) => void }) {
  const { user, presence } = provider;
  return (
    <li className={`person person-${presence}`} data-testid={`provider-${user.id}`}>
      <Avatar user={user} size={56} presence={presence} />
      <div className="person-text">
        <h2>{user.name}</h2>
        {user.headline == null ? null : <p>{user.headline}</p>}
        <span className={`presence presence-word-${presence}`}>{t.presence[presence]}</span>
      </div>
      <div className="person-calls">
        {(["video", "audio", "chat"] as const).map((kind) => (
          <CallButton key={kind} kind={kind} provider={provider} onCall={onCall} />
        ))}
      </div>
    </li>
  );
}

function CallButton({
  kind,
  provider,
  onCall,
}: {
  kind: Kind;
  provider: ProviderView;
  onCall: (rate: RateView) => void;
}) {
  const client = useTurnpike();
  const rate = provider.rates.find((r) => r.kind === kind);
  if (rate === undefined) return null;
  const reason = whyNot(provider, rate, client.wallet.view?.available_minor ?? null, client.current !== null);
  const describedBy = `why-${provider.user.id}-${kind}`;
  return (
    <div className="call-offer">
      <span className="rate">
        <span className="figure">{money(rate.minor_per_minute, rate.currency)}</span>
        <span className="unit">{t.common.perMinute}</span>
      </span>
      <Button
        icon={kind === "video" ? "camera" : kind === "audio" ? "phone" : "chat"}
        look={kind === "video" ? "primary" : "secondary"}
        disabled={reason !== null}
        title={reason ?? undefined}
        aria-describedby={reason === null ? undefined : describedBy}
        data-testid={`provider-${provider.user.id}-${kind}`}
        onClick={() => onCall(rate)}
      >
        {t.providers[kind]}
      </Button>
      {reason === null ? null : (
        <span id={describedBy} className="visually-hidden">
          {reason}
        </span>
      )}
    </div>
  );
}

function whyNot(provider: ProviderView, rate: RateView, available: number | null, inCall: boolean): string | null {
  if (inCall) return t.providers.inCall;
  if (provider.presence === "busy") return t.providers.busy;
  if (provider.presence !== "online") return t.providers.offline;
  // The server decides; this only spares a click that it would refuse: not even a minute's rate is there.
  return available !== null && available < Math.min(rate.minor_per_minute, 1) ? t.providers.poor : null;
}
