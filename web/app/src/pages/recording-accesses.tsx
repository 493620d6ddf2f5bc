import { useTurnpike } from "@turnpike/react";
import type { AccessReportEntry, ReportSearch } from "@turnpike/sdk";
import { useState } from "react";

import "../styles/recordings.css";

import { exactly } from "../format";
import { t } from "../locale";
import { ArchiveNav } from "../recordings/archive-nav";
import { actionWord } from "../recordings/log";
import { ReportForm } from "../recordings/report-form";
import { Button, Link } from "../ui/button";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { usePages } from "../ui/pages";

/** Who did what with which recording, when and why: over all of them. */
export function AccessReportPage() {
  const client = useTurnpike();
  const [search, setSearch] = useState<ReportSearch>({});
  const pages = usePages(
    async (cursor) => {
      const page = await client.recordings.accessReport(search, cursor);
      return { items: page.entries, next: page.next_cursor ?? null };
    },
    [client, search],
  );
  const { reports } = t;
  return (
    <div className="page page-wide archive">
      <header className="page-head">
        <h1>{reports.accessTitle}</h1>
        <p className="hint">{reports.accessHint}</p>
      </header>
      <ArchiveNav />
      <ReportForm name="access-report" onSearch={setSearch} csv={(wish) => client.recordings.reportCsv("access", wish)}>
        {(wish, set) => (
          <>
            <label className="field">
              <span className="label">{reports.person}</span>
              <input
                type="search"
                value={wish.user ?? ""}
                placeholder={reports.personHint}
                maxLength={100}
                onChange={(e) => set({ user: e.target.value })}
                data-testid="report-person"
              />
            </label>
            <label className="field">
              <span className="label">{reports.action}</span>
              <select value={wish.action ?? ""} onChange={(e) => set({ action: e.target.value })}>
                <option value="">{t.recordings.any}</option>
                {Object.entries(t.recordings.actions).map(([action, word]) => (
                  <option key={action} value={action}>
                    {word}
                  </option>
                ))}
              </select>
            </label>
          </>
        )}
      </ReportForm>
      {pages.error === null ? null : <Failure error={pages.error} retry={pages.reload} />}
      {pages.items === null ? (
        pages.error === null ? (
          <Skeleton rows={6} height={48} />
        ) : null
      ) : pages.items.length === 0 ? (
        <Empty icon="list" title={reports.emptyAccess}>
          {reports.emptyAccessHint}
        </Empty>
      ) : (
        <section className="block" aria-busy={pages.loading}>
          <Entries entries={pages.items} />
          {pages.more === null ? null : (
            <Button busy={pages.loading} onClick={pages.more}>
              {t.common.more}
            </Button>
          )}
        </section>
      )}
    </div>
  );
}

function Entries({ entries }: { entries: readonly AccessReportEntry[] }) {
  return (
    <table className="table report-table" data-testid="access-report">
      <thead>
        <tr>
          <th scope="col">{t.reports.when}</th>
          <th scope="col">{t.reports.who}</th>
          <th scope="col">{t.reports.what}</th>
          <th scope="col">{t.reports.reason}</th>
          <th scope="col">{t.reports.recording}</th>
        </tr>
      </thead>
      <tbody>
        {entries.map((entry) => (
          <tr key={entry.n} data-testid="report-row">
            <td className="soft report-time">{exactly(entry.at_ms)}</td>
            <td>
              <strong>{entry.user.name}</strong>
            </td>
            <td>
              <span className={entry.action.endsWith("refused") ? "tag tag-refused" : "tag"}>
                {actionWord(entry.action)}
              </span>
            </td>
            <td className="report-reason">{entry.reason ?? "–"}</td>
            <td>
              {!entry.recording_id.startsWith("rec_") ? (
                <span className="soft">{entry.recording_id}</span>
              ) : (
                <Link to={`/recordings/${entry.recording_id}`} className="link">
                  <code>{entry.recording_id.slice(0, 12)}…</code>
                </Link>
              )}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
