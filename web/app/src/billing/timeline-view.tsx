import type { Session, SessionState, Timeline, UserView } from "@turnpike/sdk";
import { useState, useSyncExternalStore } from "react";

import { clock, duration, exactTime, money } from "../format";
import { t } from "../locale";
import { Empty } from "../ui/feedback";
import { connectionBars, drawnSpan, endOf, rowsOf, timeTicks, type Row, type Words } from "./timeline";

const LABELS = 108;
const LANE = 30;
const BAR = 14;
const AXIS = 22;

/** One session on one line of time, drawn and as a list. */
export function TimelineView({ session, line }: { session: Session; line: Timeline }) {
  const [lane, setLane] = useState<Row["lane"] | "all">("all");
  if (line.states.length === 0) {
    return (
      <Empty icon="list" title={t.timeline.none}>
        {t.timeline.noneHint}
      </Empty>
    );
  }
  const rows = rowsOf(line, wordsFor(session, line));
  const shown = lane === "all" ? rows : rows.filter((row) => row.lane === lane);
  const lanes = (["states", "people", "evidence", "money", "marks"] as const).filter((one) =>
    rows.some((row) => row.lane === one),
  );
  const currency = line.meter?.currency ?? session.view.rate.currency;
  return (
    <>
      <MeterFacts session={session} line={line} />
      <Picture session={session} line={line} />
      <div className="plot-choices" role="radiogroup" aria-label={t.timeline.what}>
        {(["all", ...lanes] as const).map((one) => (
          <button
            key={one}
            type="button"
            role="radio"
            aria-checked={one === lane}
            className="plot-choice"
            onClick={() => setLane(one)}
            data-testid={`lane-${one}`}
          >
            {one === "all" ? t.timeline.all : t.timeline.lanes[one]}
          </button>
        ))}
      </div>
      <table className="table timeline-table" data-testid="timeline-table">
        <thead>
          <tr>
            <th scope="col">{t.timeline.at}</th>
            <th scope="col">{t.timeline.what}</th>
            <th scope="col" className="wide-only">
              {t.timeline.detail}
            </th>
            <th scope="col" className="number">
              {t.timeline.amount}
            </th>
          </tr>
        </thead>
        <tbody>
          {shown.map((row, n) => (
            <tr key={n} className={`lane-row lane-row-${row.lane}`} data-lane={row.lane}>
              <td className="soft">
                <time dateTime={new Date(row.at_ms).toISOString()}>{exactTime(row.at_ms)}</time>
              </td>
              <td>
                {row.what}
                {row.detail === "" ? null : <span className="cell-sub narrow-only">{row.detail}</span>}
              </td>
              <td className="soft wide-only">{row.detail}</td>
              <td className="number">
                {row.amount_minor === null || row.amount_minor === 0 ? "" : money(row.amount_minor, currency)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

function MeterFacts({ session, line }: { session: Session; line: Timeline }) {
  const { meter } = line;
  if (meter == null) return null;
  const amount = (minor: number) => money(minor, meter.currency);
  return (
    <dl className="facts facts-row timeline-facts">
      <div>
        <dt>{t.timeline.billed}</dt>
        <dd data-testid="timeline-billed" data-ms={meter.billed_ms}>
          {duration(meter.billed_ms)}
        </dd>
      </div>
      <div>
        <dt>{session.role === "provider" ? t.timeline.earned : t.timeline.charged}</dt>
        <dd data-testid="timeline-amount" data-minor={meter.amount_minor}>
          {amount(meter.amount_minor)}
        </dd>
      </div>
      {meter.provider_minor == null ? null : (
        <div>
          <dt>{t.timeline.provider}</dt>
          <dd>{amount(meter.provider_minor)}</dd>
        </div>
      )}
      {meter.held_minor == null || meter.held_minor === 0 ? null : (
        <div>
          <dt>{t.timeline.held}</dt>
          <dd>{amount(meter.held_minor)}</dd>
        </div>
      )}
    </dl>
  );
}

function Picture({ session, line }: { session: Session; line: Timeline }) {
  const narrow = useNarrow();
  const labels = narrow ? 0 : LABELS;
  const width = narrow ? 320 : 720;
  const span = drawnSpan(line);
  const end = endOf(line);
  const length = span.to_ms - span.from_ms;
  const x = (at: number) => ((Math.min(Math.max(at, span.from_ms), span.to_ms) - span.from_ms) / length) * width;
  const people: UserView[] = [session.view.client, session.view.provider];
  const lanes = [
    t.timeline.lanes.states,
    ...people.map(({ name }) => name),
    t.timeline.lanes.evidence,
    t.timeline.lanes.money,
  ];
  // Where there is no room beside it, a lane's name stands above it.
  const pitch = narrow ? LANE + 16 : LANE;
  const top = (n: number) => n * pitch + (narrow ? 18 : 4);
  const height = lanes.length * pitch + (narrow ? 4 : 0);
  const bar = (from: number, to: number) => ({ x: x(from), width: Math.max(1.5, x(to) - x(from)) });
  const inside = (at: number) => at >= span.from_ms && at <= span.to_ms;
  const most = Math.max(60_000, ...line.evidence.map((minute) => minute.new_ms));
  return (
    <figure className="timeline-plot" data-testid="timeline-plot">
      <svg viewBox={`${-labels} 0 ${width + labels + 2} ${height + AXIS}`} role="img" aria-label={t.timeline.plot}>
        {timeTicks(length / 1000, narrow ? 4 : 8).map((seconds) => {
          const at = span.from_ms + seconds * 1000;
          return (
            <g key={seconds} className="plot-grid">
              <line x1={x(at)} x2={x(at)} y1={0} y2={height} />
              <text x={x(at)} y={height + 16} textAnchor={seconds === 0 ? "start" : "middle"}>
                {clock(seconds * 1000)}
              </text>
            </g>
          );
        })}
        {lanes.map((label, n) => (
          <text key={n} className="lane-label" x={narrow ? 0 : -labels} y={narrow ? n * pitch + 13 : top(n) + BAR - 2}>
            {label.length > 15 && !narrow ? `${label.slice(0, 14)}…` : label}
          </text>
        ))}
        {line.states
          .filter((one) => (one.to_ms ?? end) > one.from_ms)
          .map((one) => (
            <rect
              key={`${one.state}${one.from_ms}`}
              className={`span span-${one.state}`}
              {...bar(one.from_ms, one.to_ms ?? end)}
              y={top(0)}
              height={BAR}
              rx={3}
            >
              <title>{t.states[one.state as SessionState] ?? one.state}</title>
            </rect>
          ))}
        {line.kinds.map((kind) =>
          kind.live_ms > 0 ? (
            <g key={kind.from_ms} className="kind-mark">
              <line x1={x(kind.from_ms)} x2={x(kind.from_ms)} y1={top(0) - 3} y2={top(0) + BAR + 3} />
              <title>{t.kinds[kind.kind]}</title>
            </g>
          ) : null,
        )}
        {people.map((person, n) =>
          connectionBars(line.connections, person.id, end).map((one) => (
            <rect
              key={`${n}-${one.from_ms}`}
              className={`wire wire-${one.state}`}
              {...bar(one.from_ms, one.to_ms)}
              y={top(n + 1)}
              height={BAR}
              rx={3}
            />
          )),
        )}
        {line.evidence
          .filter((minute) => minute.new_ms > 0)
          .map((minute, n) => {
            const tall = Math.max(2, (minute.new_ms / most) * (BAR + 4));
            const place = bar(Math.max(span.from_ms, minute.at_ms - minute.new_ms), minute.at_ms);
            return (
              <rect
                key={n}
                className={`evidence evidence-${minute.epoch % 2}`}
                x={place.x}
                width={Math.max(1.5, place.width - 1)}
                y={top(3) + BAR - tall}
                height={tall}
              >
                <title>{t.timeline.minute(duration(minute.new_ms), minute.worker_id ?? null)}</title>
              </rect>
            );
          })}
        {line.money
          .filter((mark) => inside(mark.at_ms))
          .map((mark, n) => (
            <circle
              key={n}
              className={mark.amount_minor < 0 ? "coin coin-in" : "coin"}
              cx={x(mark.at_ms)}
              cy={top(4) + BAR / 2}
              r={5}
            >
              <title>{t.timeline.money[mark.what] ?? mark.what}</title>
            </circle>
          ))}
        {line.marks
          .filter((mark) => inside(mark.at_ms) && mark.what !== "settled")
          .map((mark, n) => (
            <path key={n} className={`flag flag-${mark.what}`} d={`M${x(mark.at_ms)} ${height} v-7 l5 2.5 l-5 2.5`}>
              <title>{t.timeline.marks[mark.what] ?? mark.what}</title>
            </path>
          ))}
      </svg>
    </figure>
  );
}

const NARROW = "(width < 600px)";

/** Whether there is no room for labels beside the lanes; follows a window that is turned or resized. */
function useNarrow(): boolean {
  return useSyncExternalStore(
    (changed) => {
      const query = matchMedia(NARROW);
      query.addEventListener("change", changed);
      return () => query.removeEventListener("change", changed);
    },
    () => matchMedia(NARROW).matches,
  );
}

function wordsFor(session: Session, line: Timeline): Words {
  const { client, provider } = session.view;
  const name = (id: string | null) => (id === client.id ? client.name : id === provider.id ? provider.name : "");
  const kinds = new Map(line.kinds.map((kind) => [kind.from_ms, kind]));
  return {
    state: (state) => t.states[state as SessionState] ?? state,
    by: name,
    connection: (mark) => `${name(mark.user_id)} ${t.timeline.states[mark.state] ?? mark.state}`,
    connectionDetail: (mark) =>
      mark.state === "connected"
        ? mark.connect_ms == null
          ? t.timeline.heardAgain
          : t.timeline.connected(mark.connect_ms)
        : (t.timeline.reasons[mark.reason] ?? mark.reason),
    live: (ms) => t.timeline.live(duration(ms)),
    minute: (minute) => t.timeline.minute(duration(minute.new_ms), minute.worker_id ?? null),
    money: (what) => t.timeline.money[what] ?? what,
    moneyDetail: (mark) =>
      mark.memo !== "" ? mark.memo : mark.through_ms == null ? "" : t.timeline.through(duration(mark.through_ms)),
    mark: (what) => t.timeline.marks[what] ?? what.replaceAll("_", " "),
    markDetail: (mark) => {
      const kind =
        mark.what === "kind_changed"
          ? [...kinds.values()].sort((a, b) => Math.abs(a.from_ms - mark.at_ms) - Math.abs(b.from_ms - mark.at_ms))[0]
          : undefined;
      if (kind !== undefined) {
        return `${t.kinds[kind.kind]} · ${money(kind.minor_per_minute, session.view.rate.currency)}${t.common.perMinute}`;
      }
      if (mark.figure != null) return duration(mark.figure);
      if (mark.what === "kind_asked" || mark.what === "kind_kept") return name(mark.by ?? null);
      return t.timeline.reasons[mark.why] ?? name(mark.by ?? null);
    },
  };
}
