import { useTurnpike } from "@turnpike/react";
import type { WorkerView } from "@turnpike/sdk";
import { useEffect } from "react";

import { roughly } from "../format";
import { t } from "../locale";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { useLoad } from "../ui/load";
import { SessionRows } from "./sessions";

const REFRESH_MS = 5_000;

/** What runs: the media workers and what they carry, and the latest sessions. */
export function AdminPage() {
  const client = useTurnpike();
  const workers = useLoad(() => client.workers(), [client]);
  const sessions = useLoad(() => client.sessions(null, 10), [client]);
  const { reload: reloadWorkers } = workers;
  const { reload: reloadSessions } = sessions;
  useEffect(() => {
    const timer = setInterval(() => {
      if (document.hidden) return;
      reloadWorkers();
      reloadSessions();
    }, REFRESH_MS);
    return () => clearInterval(timer);
  }, [reloadWorkers, reloadSessions]);
  return (
    <div className="page page-wide">
      <header className="page-head">
        <h1>{t.admin.title}</h1>
      </header>
      <section className="block" aria-labelledby="workers">
        <h2 id="workers">{t.admin.workers}</h2>
        {workers.error === null ? null : <Failure error={workers.error} retry={reloadWorkers} />}
        {workers.data === null ? (
          workers.error === null ? (
            <Skeleton rows={1} height={56} />
          ) : null
        ) : workers.data.length === 0 ? (
          <Empty icon="server" title={t.admin.noWorkers}>
            {t.admin.noWorkersHint}
          </Empty>
        ) : (
          <WorkerTable workers={workers.data} />
        )}
      </section>
      <section className="block" aria-labelledby="latest">
        <h2 id="latest">{t.admin.sessions}</h2>
        {sessions.error === null ? null : <Failure error={sessions.error} retry={reloadSessions} />}
        {sessions.data === null ? (
          sessions.error === null ? (
            <Skeleton rows={4} />
          ) : null
        ) : sessions.data.sessions.length === 0 ? (
          <Empty icon="list" title={t.sessions.empty} />
        ) : (
          <SessionRows sessions={sessions.data.sessions} selfId="" />
        )}
      </section>
    </div>
  );
}

function WorkerTable({ workers }: { workers: readonly WorkerView[] }) {
  return (
    <table className="table">
      <thead>
        <tr>
          <th scope="col">{t.admin.worker}</th>
          <th scope="col">{t.admin.host}</th>
          <th scope="col" className="number">
            {t.admin.rooms}
          </th>
          <th scope="col" className="number">
            {t.admin.load}
          </th>
          <th scope="col">{t.admin.state}</th>
          <th scope="col" className="number wide-only">
            {t.admin.uptime}
          </th>
        </tr>
      </thead>
      <tbody>
        {workers.map((worker) => (
          <tr key={worker.worker_id}>
            <td>
              <code>{worker.worker_id}</code>
              <span className="cell-sub">{worker.plane}</span>
            </td>
            <td className="soft">{worker.host}</td>
            <td className="number">{worker.rooms}</td>
            <td className="number">{Math.round(worker.load * 100)} %</td>
            <td>
              <span className={`stage-word stage-word-${worker.draining ? "finishing" : "ready"}`}>
                {worker.draining ? t.admin.draining : t.admin.running}
              </span>
            </td>
            <td className="number soft wide-only">{roughly(worker.uptime_s * 1000)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
