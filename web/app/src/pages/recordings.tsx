import { useTurnpike } from "@turnpike/react";
import type { RecordingSearch, RecordingView } from "@turnpike/sdk";
import { useState, type FormEvent } from "react";

import { bytes, clock, when } from "../format";
import { t } from "../locale";
import { Button, Link } from "../ui/button";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { usePages } from "../ui/pages";

const DAY_MS = 86_400_000;

export function RecordingsPage() {
  const client = useTurnpike();
  const [search, setSearch] = useState<RecordingSearch>({});
  const pages = usePages(
    async (cursor) => {
      const page = await client.recordings.search(search, cursor);
      return { items: page.recordings, next: page.next_cursor ?? null };
    },
    [client, search],
  );
  const searching = Object.values(search).some((value) => value !== undefined && value !== "" && value !== null);
  return (
    <div className="page page-wide">
      <header className="page-head">
        <h1>{t.recordings.title}</h1>
        <p className="hint">{t.recordings.hint}</p>
      </header>
      <SearchForm onSearch={setSearch} searching={searching} />
      {pages.error === null ? null : <Failure error={pages.error} retry={pages.reload} />}
      {pages.items === null ? (
        pages.error === null ? (
          <Skeleton rows={5} height={56} />
        ) : null
      ) : pages.items.length === 0 ? (
        <Empty icon="film" title={searching ? t.recordings.emptySearch : t.recordings.empty}>
          {searching ? t.recordings.emptySearchHint : t.recordings.emptyHint}
        </Empty>
      ) : (
        <>
          <RecordingTable recordings={pages.items} />
          {pages.more === null ? null : (
            <Button busy={pages.loading} onClick={pages.more}>
              {t.common.more}
            </Button>
          )}
        </>
      )}
    </div>
  );
}

function SearchForm({ onSearch, searching }: { onSearch: (search: RecordingSearch) => void; searching: boolean }) {
  const [participant, setParticipant] = useState("");
  const [from, setFrom] = useState("");
  const [to, setTo] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    onSearch({
      participant: participant.trim(),
      from_ms: from === "" ? null : new Date(`${from}T00:00`).getTime(),
      to_ms: to === "" ? null : new Date(`${to}T00:00`).getTime() + DAY_MS,
    });
  };
  const clear = () => {
    setParticipant("");
    setFrom("");
    setTo("");
    onSearch({});
  };
  return (
    <form className="search" role="search" onSubmit={submit}>
      <label className="field search-who">
        <span className="label">{t.recordings.participant}</span>
        <input
          type="search"
          value={participant}
          placeholder={t.recordings.participantHint}
          onChange={(e) => setParticipant(e.target.value)}
          data-testid="recording-search"
        />
      </label>
      <label className="field">
        <span className="label">{t.recordings.from}</span>
        <input type="date" value={from} max={to || undefined} onChange={(e) => setFrom(e.target.value)} />
      </label>
      <label className="field">
        <span className="label">{t.recordings.to}</span>
        <input type="date" value={to} min={from || undefined} onChange={(e) => setTo(e.target.value)} />
      </label>
      <Button type="submit" look="primary">
        {t.recordings.search}
      </Button>
      {searching ? (
        <Button look="quiet" onClick={clear}>
          {t.recordings.clear}
        </Button>
      ) : null}
    </form>
  );
}

function RecordingTable({ recordings }: { recordings: readonly RecordingView[] }) {
  return (
    <table className="table table-links">
      <thead>
        <tr>
          <th scope="col">{t.recordings.who}</th>
          <th scope="col">{t.recordings.when}</th>
          <th scope="col" className="number">
            {t.recordings.length}
          </th>
          <th scope="col" className="number wide-only">
            {t.recordings.size}
          </th>
          <th scope="col">{t.admin.state}</th>
        </tr>
      </thead>
      <tbody>
        {recordings.map((recording) => (
          <tr key={recording.id} data-testid="recording-row">
            <td>
              <Link to={`/recordings/${recording.id}`} className="link link-row">
                {recording.participants.map((p) => p.name).join(" · ")}
              </Link>
              <span className="cell-sub">{t.kinds[recording.kind]}</span>
            </td>
            <td className="soft">{when(recording.started_at_ms)}</td>
            <td className="number">{clock(recording.duration_ms)}</td>
            <td className="number soft wide-only">{bytes(recording.bytes)}</td>
            <td>
              <Stage recording={recording} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The state of a recording and of its hashes, in one word. */
export function Stage({ recording }: { recording: RecordingView }) {
  const broken = recording.hashes_ok === false;
  return (
    <span className={`stage-word stage-word-${broken ? "failed" : recording.state}`}>
      <Icon
        name={broken || recording.state === "failed" ? "alert" : recording.state === "ready" ? "check" : "film"}
        size={16}
      />
      {broken ? t.recordings.broken : t.recordings.stages[recording.state]}
    </span>
  );
}
