import { useTurnpike } from "@turnpike/react";
import type { HoldView, RecordingView } from "@turnpike/sdk";
import { useState } from "react";

import { day } from "../format";
import { t } from "../locale";
import { Button } from "../ui/button";
import { Failure, Skeleton } from "../ui/feedback";
import { useLoad } from "../ui/load";
import { ReasonDialog } from "./reason-dialog";

type Asking = { what: "place" } | { what: "lift"; hold: HoldView };

/** Legal holds: those that stand, placing and lifting them, and those that were lifted. */
export function Holds({ recording, onChange }: { recording: RecordingView; onChange: () => void }) {
  const client = useTurnpike();
  const { data, error, reload } = useLoad(() => client.recordings.holds(recording.id), [client, recording.id]);
  const [asking, setAsking] = useState<Asking | null>(null);
  const may = recording.may.includes("hold_manager");
  const gone = recording.state === "expired" || recording.state === "erased";
  const { holds } = t.recordings;
  const submit = async (reason: string) => {
    if (asking?.what === "lift") await client.recordings.releaseHold(asking.hold.id, reason);
    else await client.recordings.placeHold(recording.id, reason);
    setAsking(null);
    reload();
    onChange();
  };
  const standing = data?.filter((hold) => hold.released_at_ms === null) ?? [];
  const lifted = data?.filter((hold) => hold.released_at_ms !== null) ?? [];
  if (gone && standing.length + lifted.length === 0) return null;
  return (
    <section className="card" aria-labelledby="holds" data-testid="holds">
      <header className="card-head">
        <h2 id="holds">{holds.title}</h2>
        {may && !gone ? (
          <Button icon="shield" onClick={() => setAsking({ what: "place" })} data-testid="hold-place">
            {holds.place}
          </Button>
        ) : null}
      </header>
      {error === null ? null : <Failure error={error} retry={reload} />}
      {data === null ? (
        error === null ? (
          <Skeleton rows={1} height={40} />
        ) : null
      ) : standing.length === 0 ? (
        <p className="hint">{holds.none}</p>
      ) : (
        <ul className="holds">
          {standing.map((hold) => (
            <li key={hold.id} data-testid="hold">
              <p>{hold.reason}</p>
              <div className="hold-foot">
                <span className="hint">{holds.since(day(hold.placed_at_ms), hold.placed_by)}</span>
                {may ? (
                  <Button look="quiet" onClick={() => setAsking({ what: "lift", hold })} data-testid="hold-lift">
                    {holds.lift}
                  </Button>
                ) : null}
              </div>
            </li>
          ))}
        </ul>
      )}
      {lifted.length === 0 ? null : (
        <details className="more">
          <summary>{holds.earlier(lifted.length)}</summary>
          <ul className="holds">
            {lifted.map((hold) => (
              <li key={hold.id}>
                <p>{hold.reason}</p>
                <span className="hint">{holds.since(day(hold.placed_at_ms), hold.placed_by)}</span>
                <p>{hold.release_reason}</p>
                <span className="hint">{holds.lifted(day(hold.released_at_ms ?? 0), hold.released_by ?? "")}</span>
              </li>
            ))}
          </ul>
        </details>
      )}
      {asking === null ? null : (
        <ReasonDialog
          title={asking.what === "place" ? holds.placeTitle : holds.liftTitle}
          hint={asking.what === "place" ? holds.placeHint : holds.liftHint}
          submit={asking.what === "place" ? holds.placeSubmit : holds.liftSubmit}
          example={holds.placeExample}
          icon="shield"
          danger={asking.what === "lift"}
          onSubmit={submit}
          onClose={() => setAsking(null)}
        />
      )}
    </section>
  );
}
