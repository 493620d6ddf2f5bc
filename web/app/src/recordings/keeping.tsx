import { useTurnpike } from "@turnpike/react";
import type { RecordingView } from "@turnpike/sdk";
import { useState } from "react";

import { day } from "../format";
import { t } from "../locale";
import { Button } from "../ui/button";
import { ReasonDialog } from "./reason-dialog";

const DAY_MS = 86_400_000;

/** For how long it is kept, and the end before that. */
export function Keeping({ recording, onChange }: { recording: RecordingView; onChange: () => void }) {
  const client = useTurnpike();
  const [asking, setAsking] = useState(false);
  const { keeping } = t.recordings;
  const left = Math.ceil((recording.retain_until_ms - Date.now()) / DAY_MS);
  const erasable = recording.state === "ready" || recording.state === "failed";
  if (recording.state === "expired" || recording.state === "erased") return null;
  return (
    <section className="card" aria-labelledby="keeping" data-testid="keeping">
      <h2 id="keeping">{keeping.title}</h2>
      <p>
        <strong>{day(recording.retain_until_ms)}</strong>
        {recording.held ? ` ${keeping.held}` : null}
        <span className="cell-sub">{left > 0 ? keeping.left(left) : recording.held ? null : keeping.due}</span>
      </p>
      {recording.may.includes("key_admin") && erasable ? (
        <div>
          <Button
            look="danger"
            disabled={recording.held}
            title={recording.held ? keeping.eraseHeld : undefined}
            onClick={() => setAsking(true)}
            data-testid="erase"
          >
            {keeping.erase}
          </Button>
          {recording.held ? <p className="hint">{keeping.eraseHeld}</p> : null}
        </div>
      ) : null}
      {asking ? (
        <ReasonDialog
          title={keeping.eraseTitle}
          hint={keeping.eraseHint}
          example={keeping.eraseExample}
          submit={keeping.eraseSubmit}
          danger
          onSubmit={async (reason) => {
            await client.recordings.erase(recording.id, reason);
            setAsking(false);
            onChange();
          }}
          onClose={() => setAsking(false)}
        />
      ) : null}
    </section>
  );
}
