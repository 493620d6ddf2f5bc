import { useTurnpike } from "@turnpike/react";
import {
  asTurnpikeError,
  type AccessGrant,
  type AccessView,
  type RecordingView,
  type TurnpikeError,
} from "@turnpike/sdk";
import { useEffect, useState, type FormEvent } from "react";

import { Player } from "../player/player";
import { bytes, clock, duration, exactly } from "../format";
import { t } from "../locale";
import { Button, Link } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Empty, Failure, Notice, Skeleton } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { useLoad } from "../ui/load";
import { Stage } from "./recordings";

const REASON_MIN = 10;
const REASON_MAX = 500;
const UNFINISHED_POLL_MS = 2_000;

export function RecordingPage({ id }: { id: string }) {
  const client = useTurnpike();
  const { data, error, reload } = useLoad(() => client.recordings.get(id), [client, id]);
  const log = useLoad(() => client.recordings.accesses(id), [client, id]);
  const [grant, setGrant] = useState<AccessGrant | null>(null);
  const [asking, setAsking] = useState(false);
  const unfinished = data !== null && (data.state === "recording" || data.state === "finishing");
  const auditor = client.me?.user.role === "compliance";
  useEffect(() => {
    if (!unfinished) return;
    const timer = setInterval(reload, UNFINISHED_POLL_MS);
    return () => clearInterval(timer);
  }, [unfinished, reload]);
  const granted = (fresh: AccessGrant) => {
    setGrant(fresh);
    setAsking(false);
    log.reload();
  };
  return (
    <div className="page page-wide">
      <Link to="/recordings" className="back">
        <Icon name="back" size={18} />
        {t.recordings.title}
      </Link>
      {error === null ? null : <Failure error={error} retry={reload} />}
      {data === null ? (
        error === null ? (
          <Skeleton rows={2} height={220} />
        ) : null
      ) : (
        <>
          <Head recording={data} />
          {grant !== null ? (
            <Player recording={data} grant={grant} onExpired={() => setAsking(true)} />
          ) : unfinished ? (
            <Notice tone="info">{t.recordings.notReady}</Notice>
          ) : data.state === "failed" ? (
            <Notice>{t.recordings.failedHint}</Notice>
          ) : auditor ? (
            <Locked onOpen={() => setAsking(true)} />
          ) : (
            <Notice tone="info">{t.recordings.auditorOnly}</Notice>
          )}
          <Details recording={data} grant={grant} />
          <AccessLog entries={log.data} error={log.error} retry={log.reload} />
        </>
      )}
      {asking ? <ReasonDialog id={id} onGranted={granted} onClose={() => setAsking(false)} /> : null}
    </div>
  );
}

function Head({ recording }: { recording: RecordingView }) {
  return (
    <header className="page-head">
      <h1>{recording.participants.map((p) => p.name).join(" · ")}</h1>
      <p className="head-facts">
        <Stage recording={recording} />
        <span>{t.kinds[recording.kind]}</span>
        <span>{exactly(recording.started_at_ms)}</span>
        <span>{duration(recording.duration_ms)}</span>
        <span>{bytes(recording.bytes)}</span>
        <span>
          {recording.hashes_ok == null
            ? t.recordings.unchecked
            : recording.hashes_ok
              ? t.recordings.intact
              : t.recordings.broken}
        </span>
      </p>
    </header>
  );
}

function Locked({ onOpen }: { onOpen: () => void }) {
  return (
    <div className="locked">
      <Empty
        icon="lock"
        title={t.recordings.locked}
        action={
          <Button look="primary" onClick={onOpen} data-testid="recording-open">
            {t.recordings.open}
          </Button>
        }
      >
        {t.recordings.lockedHint}
      </Empty>
    </div>
  );
}

function ReasonDialog({
  id,
  onGranted,
  onClose,
}: {
  id: string;
  onGranted: (grant: AccessGrant) => void;
  onClose: () => void;
}) {
  const client = useTurnpike();
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      onGranted(await client.recordings.access(id, reason.trim()));
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
      setBusy(false);
    }
  };
  return (
    <Dialog title={t.recordings.reasonTitle} onClose={onClose}>
      <form className="form" onSubmit={(event) => void submit(event)}>
        <p className="hint">{t.recordings.reasonHint}</p>
        <label className="field">
          <span className="label">{t.recordings.reasonLabel}</span>
          <textarea
            rows={3}
            required
            minLength={REASON_MIN}
            maxLength={REASON_MAX}
            value={reason}
            placeholder={t.recordings.reasonExample}
            onChange={(e) => setReason(e.target.value)}
            data-testid="reason-input"
            autoFocus
          />
        </label>
        {error === null ? null : <Failure error={error} />}
        <footer className="dialog-actions">
          <Button onClick={onClose}>{t.common.cancel}</Button>
          <Button
            type="submit"
            look="primary"
            icon="lock"
            busy={busy}
            disabled={reason.trim().length < REASON_MIN}
            data-testid="reason-submit"
          >
            {t.recordings.reasonSubmit}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}

function Details({ recording, grant }: { recording: RecordingView; grant: AccessGrant | null }) {
  const names = new Map(recording.participants.map((p) => [p.id, p.name]));
  return (
    <section className="block" aria-labelledby="streams">
      <h2 id="streams">{t.recordings.streams}</h2>
      <table className="table">
        <thead>
          <tr>
            <th scope="col">{t.recordings.stream}</th>
            <th scope="col">{t.recordings.codec}</th>
            <th scope="col" className="number">
              {t.recordings.offset}
            </th>
            <th scope="col" className="number">
              {t.recordings.length}
            </th>
            <th scope="col" className="number wide-only">
              {t.recordings.size}
            </th>
            <th scope="col" className="wide-only">
              {t.recordings.hash}
            </th>
          </tr>
        </thead>
        <tbody>
          {recording.streams.map((stream) => (
            <tr key={stream.n}>
              <td>{names.get(stream.participant_id) ?? stream.participant_id}</td>
              <td className="soft">
                {stream.video_codec ?? t.player.audioOnly}
                {stream.width == null || stream.width === 0 ? "" : ` ${stream.width}×${stream.height}`}
              </td>
              <td className="number soft">{(stream.offset_ms / 1000).toFixed(1)} s</td>
              <td className="number">{clock(stream.duration_ms)}</td>
              <td className="number soft wide-only">{bytes(stream.bytes)}</td>
              <td className="soft wide-only">
                <code title={stream.sha256 ?? undefined}>{stream.sha256?.slice(0, 16) ?? ""}</code>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <p className="hint">
        {t.recordings.session}: <code>{recording.session_id}</code>
        {grant === null ? null : (
          <>
            {" · "}
            <a className="link" href={grant.manifest_url} target="_blank" rel="noreferrer">
              {t.recordings.manifest}
            </a>
          </>
        )}
      </p>
    </section>
  );
}

function AccessLog({
  entries,
  error,
  retry,
}: {
  entries: AccessView[] | null;
  error: TurnpikeError | null;
  retry: () => void;
}) {
  return (
    <section className="block" aria-labelledby="log">
      <h2 id="log">{t.recordings.log}</h2>
      {error === null ? null : <Failure error={error} retry={retry} />}
      {entries === null ? (
        error === null ? (
          <Skeleton rows={2} height={40} />
        ) : null
      ) : entries.length === 0 ? (
        <p className="hint">{t.recordings.logEmpty}</p>
      ) : (
        <ol className="log" data-testid="access-log">
          {entries.map((entry, index) => (
            <li key={index}>
              <time>{exactly(entry.at_ms)}</time>
              <strong>{entry.user.name}</strong>
              <span className="tag">{entry.action.replaceAll("_", " ").replace("recording.", "")}</span>
              <span className="log-reason">{entry.reason}</span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}
