import { useTurnpike } from "@turnpike/react";
import type { AccessView } from "@turnpike/sdk";
import { useEffect } from "react";

import { exactly } from "../format";
import { t } from "../locale";
import { Button } from "../ui/button";
import { Failure, Skeleton } from "../ui/feedback";
import { usePages } from "../ui/pages";

const RUN_MS = 60_000;

/** An entry of the audit log in a word. */
export function actionWord(action: string): string {
  return t.recordings.actions[action] ?? action.replace("recording.", "").replaceAll("_", " ");
}

/** What one person did several times on end, such as opening all streams, as one entry with its number. */
export function runs(entries: readonly AccessView[]): { entry: AccessView; times: number }[] {
  const found: { entry: AccessView; times: number }[] = [];
  for (const entry of entries) {
    const last = found.at(-1);
    const same =
      last !== undefined &&
      last.entry.user.id === entry.user.id &&
      last.entry.action === entry.action &&
      (last.entry.reason ?? "") === (entry.reason ?? "") &&
      last.entry.at_ms - entry.at_ms < RUN_MS;
    if (same) last.times += 1;
    else found.push({ entry, times: 1 });
  }
  return found;
}

/** Who did what with one recording, and why. `version` rises when there is more to read. */
export function AccessLog({ id, version }: { id: string; version: number }) {
  const client = useTurnpike();
  const { items, error, loading, reload, more } = usePages(
    async (cursor) => {
      const page = await client.recordings.accesses(id, cursor, 20);
      return { items: page.accesses, next: page.next_cursor ?? null };
    },
    [client, id],
  );
  useEffect(() => {
    if (version > 0) reload();
  }, [version, reload]);
  return (
    <section className="block" aria-labelledby="log">
      <h2 id="log">{t.recordings.log}</h2>
      {error === null ? null : <Failure error={error} retry={reload} />}
      {items === null ? (
        error === null ? (
          <Skeleton rows={2} height={40} />
        ) : null
      ) : items.length === 0 ? (
        <p className="hint">{t.recordings.logEmpty}</p>
      ) : (
        <>
          <ol className="log" data-testid="access-log">
            {runs(items).map(({ entry, times }, index) => (
              <li key={entry.n ?? index}>
                <time>{exactly(entry.at_ms)}</time>
                <strong>{entry.user.name}</strong>
                <span className="tag">{actionWord(entry.action)}</span>
                {times > 1 ? <span className="hint">{t.recordings.times(times)}</span> : null}
                <span className="log-reason">{entry.reason}</span>
              </li>
            ))}
          </ol>
          {more === null ? null : (
            <Button busy={loading} onClick={more}>
              {t.recordings.logMore}
            </Button>
          )}
        </>
      )}
    </section>
  );
}
