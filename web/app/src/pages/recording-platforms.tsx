import { useTurnpike } from "@turnpike/react";
import type { PlatformKey } from "@turnpike/sdk";
import { useState } from "react";

import "../styles/recordings.css";

import { day } from "../format";
import { t } from "../locale";
import { ArchiveNav } from "../recordings/archive-nav";
import { ReasonDialog } from "../recordings/reason-dialog";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { useLoad } from "../ui/load";

type Asking = { what: "add" } | { what: "revoke"; key: PlatformKey } | { what: "secret"; name: string; secret: string };

/** The keys of host platforms that attest consent: made, shown once, revoked. */
export function PlatformsPage() {
  const client = useTurnpike();
  const { data, error, reload } = useLoad(() => client.recordings.platformKeys(), [client]);
  const [asking, setAsking] = useState<Asking | null>(null);
  const [name, setName] = useState("");
  const words = t.platforms;
  const add = async (reason: string) => {
    const made = await client.recordings.makePlatformKey(name.trim(), reason);
    setAsking({ what: "secret", name: made.name, secret: `${made.id}\n${made.secret}` });
    setName("");
    reload();
  };
  return (
    <div className="page page-wide archive">
      <header className="page-head page-head-row">
        <div>
          <h1>{words.title}</h1>
          <p className="hint">{words.hint}</p>
        </div>
        <Button icon="plus" look="primary" onClick={() => setAsking({ what: "add" })} data-testid="platform-add">
          {words.add}
        </Button>
      </header>
      <ArchiveNav />
      {error === null ? null : <Failure error={error} retry={reload} />}
      {data === null ? (
        error === null ? (
          <Skeleton rows={3} height={48} />
        ) : null
      ) : data.length === 0 ? (
        <Empty icon="lock" title={words.none}>
          {words.noneHint}
        </Empty>
      ) : (
        <Keys keys={data} onRevoke={(key) => setAsking({ what: "revoke", key })} />
      )}
      {asking === null ? null : asking.what === "add" ? (
        <ReasonDialog
          title={words.addTitle}
          hint={words.addHint}
          submit={words.addSubmit}
          example={words.example}
          onSubmit={add}
          onClose={() => setAsking(null)}
        >
          <label className="field">
            <span className="label">{words.nameLabel}</span>
            <input
              required
              maxLength={100}
              value={name}
              onChange={(e) => setName(e.target.value)}
              data-testid="platform-name"
              autoFocus
            />
          </label>
        </ReasonDialog>
      ) : asking.what === "revoke" ? (
        <ReasonDialog
          title={words.revokeTitle(asking.key.name)}
          hint={words.revokeHint}
          submit={words.revokeSubmit}
          example={words.example}
          danger
          onSubmit={async (reason) => {
            await client.recordings.revokePlatformKey(asking.key.id, reason);
            setAsking(null);
            reload();
          }}
          onClose={() => setAsking(null)}
        />
      ) : (
        <Secret name={asking.name} secret={asking.secret} onClose={() => setAsking(null)} />
      )}
    </div>
  );
}

function Keys({ keys, onRevoke }: { keys: readonly PlatformKey[]; onRevoke: (key: PlatformKey) => void }) {
  const words = t.platforms;
  return (
    <table className="table">
      <thead>
        <tr>
          <th scope="col">{words.name}</th>
          <th scope="col" className="wide-only">
            {words.key}
          </th>
          <th scope="col">{words.made}</th>
          <th scope="col">{words.state}</th>
          <th />
        </tr>
      </thead>
      <tbody>
        {keys.map((key) => (
          <tr key={key.id} data-testid="platform-row">
            <td>
              <strong>{key.name}</strong>
            </td>
            <td className="soft wide-only">
              <code>{key.id}</code>
            </td>
            <td className="soft">{day(key.created_at_ms)}</td>
            <td className={key.revoked_at_ms === null ? "" : "soft"}>
              {key.revoked_at_ms === null ? words.holds : words.revoked(day(key.revoked_at_ms))}
            </td>
            <td className="number">
              {key.revoked_at_ms === null ? (
                <Button look="quiet" onClick={() => onRevoke(key)} data-testid="platform-revoke">
                  {words.revoke}
                </Button>
              ) : null}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** What the platform signs with; nobody can show it again. */
function Secret({ name, secret, onClose }: { name: string; secret: string; onClose: () => void }) {
  const words = t.platforms;
  return (
    <Dialog title={words.secretTitle(name)} onClose={onClose}>
      <p className="hint">{words.secretHint}</p>
      <label className="field">
        <span className="label">{words.secret}</span>
        <textarea
          readOnly
          rows={3}
          value={secret}
          onFocus={(e) => e.target.select()}
          data-testid="platform-secret"
          spellCheck={false}
        />
      </label>
      <footer className="dialog-actions">
        <Button look="primary" onClick={onClose} autoFocus>
          {words.stored}
        </Button>
      </footer>
    </Dialog>
  );
}
