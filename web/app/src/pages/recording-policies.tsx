import { useTurnpike } from "@turnpike/react";
import type { OwnRule, RecordingPolicy } from "@turnpike/sdk";
import { useState } from "react";

import "../styles/recordings.css";

import { day } from "../format";
import { t } from "../locale";
import { ArchiveNav } from "../recordings/archive-nav";
import { PolicyDialog } from "../recordings/policy-dialog";
import { ReasonDialog } from "../recordings/reason-dialog";
import { Button } from "../ui/button";
import { Failure, Skeleton } from "../ui/feedback";
import { useLoad } from "../ui/load";

type Asking = { what: "change" | "reset"; policy: RecordingPolicy };

/** For how long recordings are kept, what is made of them, and who of the participants may play their own. */
export function PoliciesPage() {
  const client = useTurnpike();
  const { data, error, reload, set } = useLoad(() => client.recordings.policies(), [client]);
  const texts = useLoad(() => client.recordings.consentTexts(), [client]);
  const [asking, setAsking] = useState<Asking | null>(null);
  const admin = client.me?.user.role === "admin";
  const changed = (policies: RecordingPolicy[]) => {
    set(() => policies);
    setAsking(null);
  };
  const words = t.policies;
  return (
    <div className="page page-wide archive">
      <header className="page-head">
        <h1>{words.title}</h1>
        <p className="hint">{words.hint}</p>
      </header>
      <ArchiveNav />
      {error === null ? null : <Failure error={error} retry={reload} />}
      {data === null ? (
        error === null ? (
          <Skeleton rows={2} height={180} />
        ) : null
      ) : (
        <div className="policies">
          {data.map((policy) => (
            <Policy key={policy.kind} policy={policy} admin={admin} onAsk={(what) => setAsking({ what, policy })} />
          ))}
        </div>
      )}
      {admin ? null : <p className="hint">{words.readOnly}</p>}
      <section className="block" aria-labelledby="texts">
        <h2 id="texts">{words.texts}</h2>
        <p className="hint">{words.textsHint}</p>
        {texts.error === null ? null : <Failure error={texts.error} retry={texts.reload} />}
        {texts.data?.length === 0 ? <p className="hint">{words.noTexts}</p> : null}
        <ol className="proofs">
          {texts.data?.map((text) => (
            <li key={`${text.of} ${text.version}`} className="proof" data-testid="consent-text">
              <header>
                <span className="tag">{words.textOf[text.of] ?? text.of}</span>
                <code>{text.version}</code>
                <span className="soft">{words.since(day(text.since_ms))}</span>
              </header>
              <p className="consent-words">{text.text}</p>
            </li>
          ))}
        </ol>
      </section>
      {asking === null ? null : asking.what === "change" ? (
        <PolicyDialog policy={asking.policy} onChanged={changed} onClose={() => setAsking(null)} />
      ) : (
        <ReasonDialog
          title={words.resetTitle(words.kinds[asking.policy.kind])}
          hint={words.resetHint}
          submit={words.resetSubmit}
          example={words.reasonExample}
          onSubmit={async (reason) => changed(await client.recordings.resetPolicy(asking.policy.kind, reason))}
          onClose={() => setAsking(null)}
        />
      )}
    </div>
  );
}

function Policy(props: { policy: RecordingPolicy; admin: boolean; onAsk: (what: Asking["what"]) => void }) {
  const { policy, admin, onAsk } = props;
  const words = t.policies;
  const rule = (own: OwnRule | null) =>
    own === null ? words.notAllowed : words.rule(words.after(own.after_h), words.days(own.for_days), own.download);
  const facts: [string, string][] = [
    [words.announce, !policy.announce ? words.silent : policy.announce_url === null ? words.tone : words.clip],
    [words.preview, policy.preview ? words.yes : words.no],
    [words.compose, policy.compose.map((l) => t.recordings.copies.layouts[l]).join(", ") || words.none],
    [words.own.client, rule(policy.own.client)],
    [words.own.provider, rule(policy.own.provider)],
  ];
  return (
    <section className="card" aria-labelledby={`policy-${policy.kind}`} data-testid={`policy-${policy.kind}`}>
      <header className="card-head">
        <h2 id={`policy-${policy.kind}`}>{words.kinds[policy.kind]}</h2>
        {policy.is_default ? <span className="tag">{words.builtIn}</span> : null}
      </header>
      <p className="policy-keep">
        <span className="label">{words.keep}</span>
        <strong>{words.days(policy.keep_days)}</strong>
      </p>
      <dl className="policy-facts">
        {facts.map(([label, value]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {admin ? (
        <footer className="card-foot">
          <Button onClick={() => onAsk("change")} data-testid={`policy-change-${policy.kind}`}>
            {words.change}
          </Button>
          {policy.is_default ? null : (
            <Button look="quiet" onClick={() => onAsk("reset")}>
              {words.reset}
            </Button>
          )}
        </footer>
      ) : null}
    </section>
  );
}
