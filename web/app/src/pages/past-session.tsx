import { useTurnpike } from "@turnpike/react";
import { isLive, type ParticipantQuality, type SessionQuality } from "@turnpike/sdk";

import { Refund } from "../billing/refund";
import { TimelineView } from "../billing/timeline-view";
import { duration } from "../format";
import { t } from "../locale";
import { go } from "../router";
import { QualityPlot } from "../quality/quality-plot";
import { OwnRecording } from "../recordings/own";
import { Button } from "../ui/button";
import { Empty, Failure, Skeleton } from "../ui/feedback";
import { useLoad } from "../ui/load";

/** One session afterwards: what happened when, and how good the connections were. */
export function PastSession({ id }: { id: string }) {
  const client = useTurnpike();
  const { data, error, reload } = useLoad(async () => {
    const session = await client.session(id);
    const [quality, line] = await Promise.all([session.qualitySeries(), session.timeline()]);
    return { session, quality, line };
  }, [client, id]);
  if (data === null) {
    return (
      <div className="page">
        {error === null ? <Skeleton rows={3} height={120} /> : <Failure error={error} retry={reload} />}
      </div>
    );
  }
  const { session, quality, line } = data;
  const { view } = session;
  return (
    <div className="page" data-testid="past-session">
      <header className="page-head page-head-row">
        <div>
          <h1>
            {session.role === "observer"
              ? `${view.client.name} · ${view.provider.name}`
              : t.receipt.with(session.other.name)}
          </h1>
          <p className="hint">
            {t.kinds[view.kind]} · {view.end_reason == null ? t.states[view.state] : t.endReasons[view.end_reason]}
          </p>
        </div>
        <div className="head-actions">
          <Refund session={session} line={line} onDone={reload} />
          {view.started_at_ms == null || isLive(view.state) ? null : (
            <Button icon="list" onClick={() => go(`/session/${view.id}`)} data-testid="open-receipt">
              {t.quality.receipt}
            </Button>
          )}
        </div>
      </header>
      {session.role === "observer" || view.recording_id == null ? null : <OwnRecording sessionId={view.id} />}
      <section className="block" aria-labelledby="happened">
        <h2 id="happened">{t.timeline.title}</h2>
        <TimelineView session={session} line={line} />
      </section>
      <section className="block" aria-labelledby="connections">
        <h2 id="connections">{t.quality.title}</h2>
        {quality.participants.length === 0 ? (
          <Empty icon="phone" title={t.quality.none}>
            {t.quality.noneHint}
          </Empty>
        ) : (
          <>
            <Summaries quality={quality} />
            <QualityPlot quality={quality} />
          </>
        )}
      </section>
    </div>
  );
}

/** The plot in words and figures, for whoever does not see it, and for whoever is in a hurry. */
function Summaries({ quality }: { quality: SessionQuality }) {
  return (
    <div className="table-scroll">
      <table className="table quality-table" data-testid="quality-summary">
        <thead>
          <tr>
            <th scope="col">{t.quality.who}</th>
            <th scope="col">{t.quality.median}</th>
            <th scope="col">{t.quality.worst}</th>
            <th scope="col">{t.quality.good}</th>
            <th scope="col">{t.quality.frozen}</th>
          </tr>
        </thead>
        <tbody>
          {quality.participants.map((side) => (
            <SummaryRow key={side.user_id} side={side} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function SummaryRow({ side: { name, summary } }: { side: ParticipantQuality }) {
  if (summary === null) return null;
  return (
    <tr>
      <th scope="row">{name}</th>
      <td>{`${summary.median_mos.toFixed(1)} · ${t.quality.word(summary.median_mos)}`}</td>
      <td>{`${summary.worst_mos.toFixed(1)} · ${t.quality.word(summary.worst_mos)}`}</td>
      <td>{`${Math.round(summary.good_ratio * 100)} %`}</td>
      <td>{summary.frozen_ms < 100 ? "–" : duration(summary.frozen_ms)}</td>
    </tr>
  );
}
