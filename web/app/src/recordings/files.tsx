import { useTurnpike } from "@turnpike/react";
import {
  asTurnpikeError,
  type AccessGrant,
  type JobView,
  type Layout,
  type RecordingView,
  type TurnpikeError,
} from "@turnpike/sdk";
import { useState } from "react";

import { bytes, duration } from "../format";
import { t } from "../locale";
import { jobName } from "../locale/en-recordings";
import { Button } from "../ui/button";
import { Failure, Notice } from "../ui/feedback";
import { download } from "../ui/save";
import { isOpen, shown, type useJobs } from "./jobs";
import { ReasonDialog } from "./reason-dialog";

const LAYOUTS: readonly Layout[] = ["side_by_side", "speaker", "audio"];
type Wish = { kind: "export" } | { kind: "composition"; layout: Layout };

interface Props {
  recording: RecordingView;
  grant: AccessGrant | null;
  jobs: ReturnType<typeof useJobs>;
  /** Given before in this visit. */
  reason: string;
  onOpen: () => void;
}

/** Files made of a recording: those that are there, those on their way, and what can be asked for. */
export function Files({ recording, grant, jobs, reason, onOpen }: Props) {
  const client = useTurnpike();
  const [wish, setWish] = useState<Wish | null>(null);
  const may = recording.may;
  const visible = shown(jobs.jobs ?? [], client.me?.user.id ?? "");
  const job = (kind: JobView["kind"], layout: Layout | null) =>
    visible.find((each) => each.kind === kind && each.layout === layout) ?? null;
  const ask = async (why: string) => {
    if (wish === null) return;
    const asked =
      wish.kind === "export"
        ? await client.recordings.export(recording.id, why)
        : await client.recordings.compose(recording.id, wish.layout, why);
    jobs.take(asked);
    setWish(null);
  };
  const files = recording.compositions;
  const exporting = job("export", null);
  return (
    <section className="card" aria-labelledby="files">
      <h2 id="files">{t.recordings.copies.title}</h2>
      {jobs.error === null ? null : <Failure error={jobs.error} retry={() => void jobs.reload()} />}
      <ul className="files">
        {(recording.streams.length > 0 ? LAYOUTS : []).map((layout) => {
          const file = files.find((each) => each.layout === layout);
          const made = job("composition", layout);
          const url = grant?.compositions.find((each) => each.layout === layout)?.url;
          const name = t.recordings.copies.layouts[layout];
          return (
            <li key={layout} className="file" data-testid={`file-${layout}`}>
              <span className="file-name">
                <strong>{name}</strong>
                {file === undefined ? null : (
                  <span className="hint">{`${bytes(file.bytes)} · ${duration(file.duration_ms)}`}</span>
                )}
              </span>
              {file !== undefined ? (
                (grant?.may_download ?? may.includes("exporter")) ? (
                  <Button
                    icon="download"
                    onClick={() => (url === undefined ? onOpen() : download(`${url}&download=1`))}
                    title={url === undefined ? t.recordings.copies.opensFirst : undefined}
                    data-testid={`download-${layout}`}
                  >
                    {t.recordings.copies.download}
                  </Button>
                ) : null
              ) : made !== null && made.state !== "done" ? (
                <Job job={made} jobs={jobs} may={may.includes("viewer")} reason={reason} />
              ) : may.includes("viewer") ? (
                <Button onClick={() => setWish({ kind: "composition", layout })} data-testid={`make-${layout}`}>
                  {t.recordings.copies.make}
                </Button>
              ) : null}
            </li>
          );
        })}
        {may.includes("exporter") ? (
          <li className="file" data-testid="file-export">
            <span className="file-name">
              <strong>{t.recordings.copies.export}</strong>
              <span className="hint">{t.recordings.copies.exportHint}</span>
            </span>
            {exporting !== null && exporting.state !== "cancelled" ? (
              <Job job={exporting} jobs={jobs} may reason={reason} />
            ) : (
              <Button onClick={() => setWish({ kind: "export" })} data-testid="make-export">
                {t.recordings.copies.make}
              </Button>
            )}
          </li>
        ) : null}
      </ul>
      <p className="hint">{t.recordings.copies.hint}</p>
      {wish === null ? null : (
        <ReasonDialog
          title={
            wish.kind === "export"
              ? t.recordings.copies.exportTitle
              : t.recordings.copies.makeTitle(t.recordings.copies.layouts[wish.layout])
          }
          hint={wish.kind === "export" ? t.recordings.copies.exportHintLong : t.recordings.copies.makeHint}
          submit={t.recordings.copies.makeSubmit}
          before={reason}
          onSubmit={ask}
          onClose={() => setWish(null)}
        />
      )}
    </section>
  );
}

/** How far a job is, and what can be done about it. */
function Job({ job, jobs, may, reason }: { job: JobView; may: boolean } & Pick<Props, "jobs" | "reason">) {
  const client = useTurnpike();
  const [change, setChange] = useState<"cancel" | "retry" | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const attempt = async (work: () => Promise<JobView | null>) => {
    setBusy(true);
    setError(null);
    try {
      const view = await work();
      if (view !== null) jobs.take(view);
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
    } finally {
      setBusy(false);
    }
  };
  const send = (wanted: "cancel" | "retry", why: string) =>
    wanted === "cancel" ? client.recordings.cancelJob(job.id, why) : client.recordings.retryJob(job.id, why);
  const own = job.by?.id === client.me?.user.id;
  /** What somebody else asked for needs one's own reason; what one asked for oneself has it. */
  const begin = (wanted: "cancel" | "retry") => {
    if (own || reason !== "") void attempt(() => send(wanted, own ? "" : reason));
    else setChange(wanted);
  };
  const fetch = async () => {
    download((await client.recordings.downloadJob(job.id)).url);
    return null;
  };
  const { cancel, retry, states, percent, progress } = t.recordings.copies;
  return (
    <span className="job" data-testid={`job-${job.kind}`} data-state={job.state}>
      {isOpen(job) ? (
        <>
          <span className="job-progress">
            <progress max={100} value={job.progress} aria-label={progress(jobName(job))} />
            <span>{job.state === "queued" ? states.queued : percent(job.progress)}</span>
          </span>
          {may ? (
            <Button look="quiet" busy={busy} onClick={() => begin("cancel")}>
              {cancel}
            </Button>
          ) : null}
        </>
      ) : job.state === "done" ? (
        <Button icon="download" busy={busy} onClick={() => void attempt(fetch)} data-testid={`download-${job.kind}`}>
          {t.recordings.copies.download}
        </Button>
      ) : (
        <>
          <span className="job-state">{states[job.state]}</span>
          {may ? (
            <Button busy={busy} onClick={() => begin("retry")}>
              {retry}
            </Button>
          ) : null}
        </>
      )}
      {job.state === "failed" && job.failure !== null ? <span className="hint job-failure">{job.failure}</span> : null}
      {error === null ? null : <Notice>{error.message}</Notice>}
      {change === null ? null : (
        <ReasonDialog
          title={t.recordings.copies.changeTitle[change](jobName(job))}
          hint={t.recordings.copies.changeHint}
          submit={t.recordings.copies[change]}
          onSubmit={async (why) => {
            jobs.take(await send(change, why));
            setChange(null);
          }}
          onClose={() => setChange(null)}
        />
      )}
    </span>
  );
}
