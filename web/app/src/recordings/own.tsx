import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, type AccessGrant, type TurnpikeError } from "@turnpike/sdk";
import { useState } from "react";

import "../styles/recordings.css";

import { exactly } from "../format";
import { t } from "../locale";
import { Player } from "../player/player";
import { Button } from "../ui/button";
import { Failure } from "../ui/feedback";
import { useLoad } from "../ui/load";
import { download } from "../ui/save";

/** A participant's own recording of a session, where the policy lets them have it; nothing where it does not. */
export function OwnRecording({ sessionId }: { sessionId: string }) {
  const client = useTurnpike();
  const { data } = useLoad(() => client.recordings.ownOf(sessionId), [client, sessionId]);
  const [grant, setGrant] = useState<AccessGrant | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<TurnpikeError | null>(null);
  if (data === null) return null;
  const open = async () => {
    setBusy(true);
    setError(null);
    try {
      setGrant(await client.recordings.ownAccess(data.id));
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
    } finally {
      setBusy(false);
    }
  };
  const why =
    data.why === null
      ? null
      : data.why === "not_yet"
        ? t.own.from(exactly(data.available_from_ms))
        : t.own.why[data.why];
  return (
    <section className="block" aria-labelledby="own-recording" data-testid="own-recording">
      <h2 id="own-recording">{t.own.title}</h2>
      {grant !== null ? (
        <>
          <Player key={grant.streams[0]?.url} recording={data} grant={grant} onExpired={() => setGrant(null)} />
          {grant.compositions.length === 0 || !grant.may_download ? null : (
            <div className="own-files">
              {grant.compositions.map((file) => (
                <Button key={file.id} icon="download" onClick={() => download(`${file.url}&download=1`)}>
                  {t.recordings.copies.layouts[file.layout]}
                </Button>
              ))}
            </div>
          )}
        </>
      ) : data.available ? (
        <div className="own-closed">
          <p className="hint">{t.own.hint(exactly(data.available_until_ms))}</p>
          <Button icon="play" look="primary" busy={busy} onClick={() => void open()} data-testid="own-open">
            {t.own.open}
          </Button>
        </div>
      ) : (
        <p className="hint">{why}</p>
      )}
      {error === null ? null : <Failure error={error} retry={() => void open()} />}
    </section>
  );
}
