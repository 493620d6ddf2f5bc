import { useTurnpike } from "@turnpike/react";
import type { RecordingView } from "@turnpike/sdk";
import { useState } from "react";

import "../styles/recordings.css";

import { bytes, clock, when } from "../format";
import { t } from "../locale";
import { ArchiveNav, keepSearch } from "../recordings/archive-nav";
import { fromQuery, NO_FILTERS, toQuery, toSearch, type Filters } from "../recordings/search";
import { SearchForm } from "../recordings/search-form";
import { Held, Stage } from "../recordings/stage";
import { Button, Link } from "../ui/button";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { usePages } from "../ui/pages";

/** Search. What is looked for stands in the address, so that a search can be kept and sent on. */
export function RecordingsPage() {
  const client = useTurnpike();
  const [filters, setFilters] = useState<Filters>(() => fromQuery(location.search));
  const pages = usePages(
    async (cursor) => {
      const page = await client.recordings.search(toSearch(filters), cursor, 25);
      return { items: page.recordings, next: page.next_cursor ?? null };
    },
    [client, filters],
  );
  const search = (wanted: Filters) => {
    keepSearch(toQuery(wanted));
    setFilters(wanted);
  };
  const searching = toQuery(filters) !== "";
  return (
    <div className="page page-wide archive">
      <header className="page-head">
        <h1>{t.recordings.title}</h1>
        <p className="hint">{t.recordings.hint}</p>
      </header>
      <ArchiveNav />
      <SearchForm filters={filters} onSearch={search} />
      {pages.error === null ? null : <Failure error={pages.error} retry={pages.reload} />}
      {pages.items === null ? (
        pages.error === null ? (
          <Skeleton rows={6} height={56} />
        ) : null
      ) : pages.items.length === 0 ? (
        <Empty
          icon="film"
          title={searching ? t.recordings.emptySearch : t.recordings.empty}
          action={searching ? <Button onClick={() => search(NO_FILTERS)}>{t.recordings.clear}</Button> : undefined}
        >
          {searching ? t.recordings.emptySearchHint : t.recordings.emptyHint}
        </Empty>
      ) : (
        <section className="block" aria-busy={pages.loading}>
          <p className="hint" role="status" data-testid="search-count">
            {t.recordings.shown(pages.items.length, pages.more !== null)}
          </p>
          <RecordingTable recordings={pages.items} />
          {pages.more === null ? null : (
            <Button busy={pages.loading} onClick={pages.more} data-testid="search-more">
              {t.common.more}
            </Button>
          )}
        </section>
      )}
    </div>
  );
}

function RecordingTable({ recordings }: { recordings: readonly RecordingView[] }) {
  return (
    <table className="table table-links search-table">
      <thead>
        <tr>
          <th scope="col">{t.recordings.who}</th>
          <th scope="col">{t.recordings.when}</th>
          <th scope="col" className="number">
            {t.recordings.length}
          </th>
          <th scope="col" className="wide-only">
            {t.recordings.connection}
          </th>
          <th scope="col" className="number wide-only">
            {t.recordings.size}
          </th>
          <th scope="col">{t.recordings.stateColumn}</th>
        </tr>
      </thead>
      <tbody>
        {recordings.map((recording) => (
          <tr key={recording.id} data-testid="recording-row">
            <td>
              <Link to={`/recordings/${recording.id}`} className="link link-row">
                {recording.participants.map((p) => p.name).join(" · ")}
              </Link>
              <span className="cell-sub cell-tags">
                {t.kinds[recording.kind]}
                {recording.tags.map((tag) => (
                  <span key={tag} className="tag">
                    {tag}
                  </span>
                ))}
              </span>
            </td>
            <td className="soft">{when(recording.started_at_ms)}</td>
            <td className="number">{recording.duration_ms === null ? "–" : clock(recording.duration_ms)}</td>
            <td className="soft wide-only">
              {recording.quality === null ? "–" : t.quality.word(recording.quality.worst_mos)}
            </td>
            <td className="number soft wide-only">{bytes(recording.bytes)}</td>
            <td>
              <span className="cell-state">
                <Stage recording={recording} />
                {recording.held ? <Held /> : null}
              </span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
