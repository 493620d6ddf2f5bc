import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, type AccessGrant, type RecordingView, type TurnpikeError } from "@turnpike/sdk";
import { useCallback, useEffect, useState } from "react";

import "../styles/recordings.css";

import { bytes, duration, exactly, timeOfDay } from "../format";
import { t } from "../locale";
import { Player } from "../player/player";
import { searchPath } from "../recordings/archive-nav";
import { Details } from "../recordings/details";
import { Files } from "../recordings/files";
import { Holds } from "../recordings/holds";
import { useJobs } from "../recordings/jobs";
import { Keeping } from "../recordings/keeping";
import { AccessLog } from "../recordings/log";
import { ReasonDialog } from "../recordings/reason-dialog";
import { Held, Stage } from "../recordings/stage";
import { Tags } from "../recordings/tags";
import { Button, Link } from "../ui/button";
import { Empty, Failure, Notice, Skeleton } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { useLoad } from "../ui/load";

const UNFINISHED_POLL_MS = 2_000;

/** One recording: to play it, to take it out, to hold it, and who did so. */
export function RecordingPage({ id }: { id: string }) {
  const client = useTurnpike();
  const { data, error, reload, set } = useLoad(() => client.recordings.get(id), [client, id]);
  const [grant, setGrant] = useState<AccessGrant | null>(null);
  const [reason, setReason] = useState("");
  const [asking, setAsking] = useState(false);
  const [version, setVersion] = useState(0);
  const [refusal, setRefusal] = useState<TurnpikeError | null>(null);
  const unfinished = data !== null && (data.state === "recording" || data.state === "finishing");
  useEffect(() => {
    if (!unfinished) return;
    const timer = setInterval(reload, UNFINISHED_POLL_MS);
    return () => clearInterval(timer);
  }, [unfinished, reload]);
  /** Something was done that the log tells: all is read again, and the grant with what was finished meanwhile. */
  const changed = useCallback(() => {
    reload();
    setVersion((n) => n + 1);
  }, [reload]);
  const jobs = useJobs(id, () => {
    changed();
    if (grant === null) return;
    void client.recordings.refreshed(grant).then(
      (fresh) => setGrant({ ...fresh, streams: grant.streams }),
      () => undefined,
    );
  });
  const open = async (why: string) => {
    const fresh = await client.recordings.access(id, why);
    setGrant(fresh);
    setReason(why);
    setAsking(false);
    setVersion((n) => n + 1);
  };
  const makeWaveform = async () => {
    setRefusal(null);
    try {
      jobs.take(await client.recordings.makePreview(id, reason));
    } catch (thrown) {
      setRefusal(asTurnpikeError(thrown));
    }
  };
  return (
    <div className="page page-wide archive">
      <Link to={searchPath()} className="back">
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
          <Head recording={data} grant={grant} onTags={(view) => (set(() => view), changed())} />
          <Missing recording={data} />
          {grant !== null ? (
            <Player
              key={grant.streams[0]?.url}
              recording={data}
              grant={grant}
              onExpired={() => setAsking(true)}
              onMakeWaveform={jobs.jobs?.some((j) => j.kind === "preview") ? undefined : () => void makeWaveform()}
            />
          ) : (
            <Closed recording={data} onOpen={() => setAsking(true)} />
          )}
          {refusal === null ? null : <Failure error={refusal} retry={() => void makeWaveform()} />}
          <div className="archive-columns">
            <div className="archive-main">
              <AccessLog id={id} version={version} />
              <Details recording={data} grant={grant} />
            </div>
            <div className="archive-side">
              {data.signed && (data.state === "ready" || data.state === "failed") ? (
                <Files recording={data} grant={grant} jobs={jobs} reason={reason} onOpen={() => setAsking(true)} />
              ) : null}
              <Holds recording={data} onChange={changed} />
              <Keeping recording={data} onChange={changed} />
            </div>
          </div>
        </>
      )}
      {asking ? (
        <ReasonDialog
          title={t.recordings.reasonTitle}
          hint={grant === null ? t.recordings.reasonHint : t.recordings.accessOver}
          submit={t.recordings.reasonSubmit}
          before={reason}
          onSubmit={open}
          onClose={() => setAsking(false)}
        />
      ) : null}
    </div>
  );
}

function Head({
  recording,
  grant,
  onTags,
}: {
  recording: RecordingView;
  grant: AccessGrant | null;
  onTags: (view: RecordingView) => void;
}) {
  return (
    <header className="page-head">
      <h1>{recording.participants.map((p) => p.name).join(" · ")}</h1>
      <p className="head-facts">
        <Stage recording={recording} />
        {recording.held ? <Held /> : null}
        <span>{t.kinds[recording.kind]}</span>
        <span>{exactly(recording.started_at_ms)}</span>
        {recording.duration_ms === null ? null : <span>{duration(recording.duration_ms)}</span>}
        <span>{bytes(recording.bytes)}</span>
        <span>
          {recording.hashes_ok == null
            ? t.recordings.unchecked
            : recording.hashes_ok
              ? t.recordings.intact
              : t.recordings.broken}
          {" · "}
          {recording.signed ? t.recordings.signed : t.recordings.unsigned}
        </span>
        {recording.quality == null ? null : (
          <span>{`${t.recordings.connection}: ${t.quality.word(recording.quality.median_mos)}, ${t.quality.worst.toLowerCase()} ${t.quality.word(recording.quality.worst_mos)}`}</span>
        )}
        {grant === null ? null : <span>{t.recordings.accessEnds(timeOfDay(grant.expires_at_ms))}</span>}
      </p>
      <Tags recording={recording} onChange={onTags} />
    </header>
  );
}

/** Whether it is played: it is complete, or what there is of it is signed. */
const retrievable = ({ state, signed, streams }: RecordingView): boolean =>
  state === "ready" || (state === "failed" && signed && streams.length > 0);

/** That something is not in what can be played, and when. */
function Missing({ recording }: { recording: RecordingView }) {
  if (!retrievable(recording) || recording.missing === undefined || recording.missing.length === 0) return null;
  const time = (ms: number | null) => (ms === null ? null : duration(ms));
  const spans = recording.missing.map((part) => t.recordings.missingSpan(time(part.from_ms), time(part.to_ms)));
  return (
    <div data-testid="recording-missing">
      <Notice>{t.recordings.missing(spans)}</Notice>
    </div>
  );
}

/** Where the player will be, or why it will not. */
function Closed({ recording, onOpen }: { recording: RecordingView; onOpen: () => void }) {
  const { state } = recording;
  if (state === "recording" || state === "finishing") return <Notice tone="info">{t.recordings.notReady}</Notice>;
  if (state === "failed" && !retrievable(recording))
    return <Notice>{recording.signed ? t.recordings.failedChatHint : t.recordings.failedHint}</Notice>;
  if (state === "expired" || state === "erased") {
    const proof = (
      <Link to="/recordings/deletions" className="link">
        {t.recordings.proof}
      </Link>
    );
    return (
      <Notice tone="info" action={proof}>
        {t.recordings.gone[state]}
      </Notice>
    );
  }
  if (!recording.may.includes("viewer")) return <Notice tone="info">{t.recordings.auditorOnly}</Notice>;
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
