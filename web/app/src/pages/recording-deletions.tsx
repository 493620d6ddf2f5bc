import { useTurnpike } from "@turnpike/react";
import type { LifecycleEntry, LifecycleReport, ReportSearch } from "@turnpike/sdk";
import { useState } from "react";

import "../styles/recordings.css";

import { day, exactly } from "../format";
import { t } from "../locale";
import { ArchiveNav } from "../recordings/archive-nav";
import { ReportForm } from "../recordings/report-form";
import { Held } from "../recordings/stage";
import { Button, Link } from "../ui/button";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { usePages } from "../ui/pages";

/** What was deleted, with what proves it; and what is next. */
export function DeletionsPage() {
  const client = useTurnpike();
  const [search, setSearch] = useState<ReportSearch>({});
  const [upcoming, setUpcoming] = useState<LifecycleReport["upcoming"] | null>(null);
  const pages = usePages(
    async (cursor) => {
      const page = await client.recordings.lifecycleReport(search, cursor, 25);
      setUpcoming(page.upcoming);
      return { items: page.entries, next: page.next_cursor ?? null };
    },
    [client, search],
  );
  const { reports } = t;
  return (
    <div className="page page-wide archive">
      <header className="page-head">
        <h1>{reports.deletedTitle}</h1>
        <p className="hint">{reports.deletedHint}</p>
      </header>
      <ArchiveNav />
      <ReportForm
        name="deletions"
        onSearch={setSearch}
        csv={(wish) => client.recordings.reportCsv("lifecycle", wish)}
      />
      {pages.error === null ? null : <Failure error={pages.error} retry={pages.reload} />}
      {pages.items === null ? (
        pages.error === null ? (
          <Skeleton rows={4} height={72} />
        ) : null
      ) : pages.items.length === 0 ? (
        <Empty icon="check" title={reports.emptyDeleted}>
          {reports.emptyDeletedHint}
        </Empty>
      ) : (
        <section className="block" aria-busy={pages.loading}>
          <ol className="proofs" data-testid="deletions">
            {pages.items.map((entry) => (
              <Deletion key={entry.n} entry={entry} />
            ))}
          </ol>
          {pages.more === null ? null : (
            <Button busy={pages.loading} onClick={pages.more}>
              {t.common.more}
            </Button>
          )}
        </section>
      )}
      {upcoming === null ? null : (
        <section className="block" aria-labelledby="upcoming" data-testid="upcoming">
          <h2 id="upcoming">{reports.upcoming}</h2>
          {upcoming.length === 0 ? (
            <p className="hint">{reports.noUpcoming}</p>
          ) : (
            <>
              <p className="hint">{reports.upcomingHint}</p>
              <ul className="upcoming">
                {upcoming.map((next) => (
                  <li key={next.recording_id}>
                    <time>{day(next.retain_until_ms)}</time>
                    <Link to={`/recordings/${next.recording_id}`} className="link">
                      <code>{next.recording_id}</code>
                    </Link>
                    {next.held ? <Held /> : null}
                  </li>
                ))}
              </ul>
            </>
          )}
        </section>
      )}
    </div>
  );
}

function Deletion({ entry }: { entry: LifecycleEntry }) {
  const { reports } = t;
  const proof: [string, string | null][] = [
    [reports.entryHash, entry.entry_sha256],
    [reports.root, entry.root_sha256],
    [reports.anchor, entry.anchor_key ?? reports.notAnchored],
  ];
  return (
    <li className="proof" data-testid="deletion">
      <header>
        <span className={`tag tag-${entry.what}`}>{reports.kinds[entry.what] ?? entry.what}</span>
        <Link to={`/recordings/${entry.recording_id}`} className="link">
          <code>{entry.recording_id}</code>
        </Link>
        <time>{exactly(entry.at_ms)}</time>
        <strong>{entry.by.name || reports.system}</strong>
      </header>
      {entry.reason === null ? null : <p>{entry.reason}</p>}
      <p className={entry.swept ? "proof-done" : "proof-open"}>
        <Icon name={entry.swept ? "check" : "alert"} size={16} />
        {`${reports.objects(entry.objects)} · ${entry.swept ? reports.swept : reports.sweeping}`}
      </p>
      <details className="more">
        <summary>{`${reports.proof}: ${reports.entry} ${entry.n}`}</summary>
        <dl className="hashes">
          {proof.map(([label, value]) =>
            value === null ? null : (
              <div key={label}>
                <dt>{label}</dt>
                <dd>
                  <code>{value}</code>
                </dd>
              </div>
            ),
          )}
        </dl>
      </details>
    </li>
  );
}
