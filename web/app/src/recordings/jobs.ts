import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, type JobView, type TurnpikeError } from "@turnpike/sdk";
import { useCallback, useEffect, useRef, useState } from "react";

const POLL_MS = 1_500;

export const isOpen = (job: Pick<JobView, "state">): boolean => job.state === "queued" || job.state === "running";

/** What is to be shown of all jobs: the newest of each kind and layout, and of exports those of this person. */
export function shown(jobs: readonly JobView[], userId: string): JobView[] {
  const seen = new Set<string>();
  return jobs.filter((job) => {
    if (job.kind === "export" && job.by?.id !== userId) return false;
    const name = `${job.kind} ${job.layout ?? ""}`;
    if (seen.has(name)) return false;
    seen.add(name);
    return true;
  });
}

/** The jobs of a recording, read again while one of them goes on; `onDone` when one has come to its end. */
export function useJobs(recordingId: string, onDone: () => void) {
  const client = useTurnpike();
  const [jobs, setJobs] = useState<JobView[] | null>(null);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const done = useRef(onDone);
  done.current = onDone;
  const open = useRef<ReadonlySet<string>>(new Set());

  const reload = useCallback(async () => {
    try {
      const found = await client.recordings.jobs(recordingId);
      if (found.some((job) => open.current.has(job.id) && !isOpen(job))) done.current();
      open.current = new Set(found.filter(isOpen).map((job) => job.id));
      setJobs(found);
      setError(null);
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
    }
  }, [client, recordingId]);

  useEffect(() => void reload(), [reload]);
  const going = jobs?.some(isOpen) ?? false;
  useEffect(() => {
    if (!going) return;
    const timer = setInterval(() => void reload(), POLL_MS);
    return () => clearInterval(timer);
  }, [going, reload]);

  /** A job's newest view came in over something else than a poll. */
  const take = useCallback((job: JobView) => {
    if (isOpen(job)) open.current = new Set([...open.current, job.id]);
    setJobs((before) => [job, ...(before ?? []).filter((other) => other.id !== job.id)]);
    if (job.state === "done") done.current();
  }, []);
  return { jobs, error, reload, take };
}
