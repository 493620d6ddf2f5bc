import type { ParticipantQuality, SessionQuality } from "@turnpike/sdk";
import { useState } from "react";

import { clock } from "../format";
import { t } from "../locale";
import { linePath, scale, ticks } from "./plot";

const HEIGHT = 180;
const LEFT = 44;
const BOTTOM = 24;

type Values = readonly (number | null)[];

interface Figure {
  label: string;
  values(side: ParticipantQuality): Values;
  /** The least that the axis covers. */
  low: number;
  high: number;
  text(value: number): string;
}

const scaled = (values: Values, by: number): Values => values.map((v) => (v === null ? null : v * by));
const worse = (a: Values, b: Values): Values =>
  a.map((v, n) => (v === null && b[n] == null ? null : Math.max(v ?? 0, b[n] ?? 0)));

const FIGURES: readonly Figure[] = [
  { label: t.quality.mos, values: (s) => s.mos, low: 1, high: 4.5, text: (v) => v.toFixed(1) },
  {
    label: t.quality.loss,
    values: (s) => scaled(worse(s.loss_up, s.loss_down), 100),
    low: 0,
    high: 5,
    text: (v) => `${v.toFixed(v < 10 ? 1 : 0)} %`,
  },
  { label: t.quality.rtt, values: (s) => s.rtt_ms, low: 0, high: 100, text: (v) => `${Math.round(v)} ms` },
  {
    label: t.quality.bitrate,
    values: (s) => scaled(s.bitrate_down_bps, 1e-6),
    low: 0,
    high: 1,
    text: (v) => `${v.toFixed(1)} Mb/s`,
  },
];

/** Both sides of a session on one time axis; which figure is drawn is the reader's choice. */
export function QualityPlot({ quality }: { quality: SessionQuality }) {
  const [chosen, setChosen] = useState(0);
  const [at, setAt] = useState<number | null>(null);
  const width = globalThis.innerWidth < 600 ? 320 : 720;
  const figure = FIGURES[chosen] ?? (FIGURES[0] as Figure);
  const points = quality.participants[0]?.mos.length ?? 0;
  const lines = quality.participants.map((side) => figure.values(side));
  const most = Math.max(figure.high, ...lines.flat().map((v) => v ?? 0));
  const marks = ticks(figure.low, most);
  const top = Math.max(most, marks.at(-1) ?? most);
  const place = scale(points, figure.low, figure.high === 4.5 ? 4.5 : top, width, HEIGHT);
  const times = ticks(0, (points * quality.step_ms) / 1000, 6).filter((s) => s * 1000 <= points * quality.step_ms);
  const shown = at === null ? null : Math.min(points - 1, at);
  return (
    <figure className="quality-plot" data-testid="quality-plot" data-points={points}>
      <div className="plot-choices" role="radiogroup" aria-label={t.quality.figure}>
        {FIGURES.map(({ label }, n) => (
          <button
            key={label}
            type="button"
            role="radio"
            aria-checked={n === chosen}
            className="plot-choice"
            onClick={() => setChosen(n)}
          >
            {label}
          </button>
        ))}
      </div>
      <svg
        viewBox={`${-LEFT} -8 ${width + LEFT + 8} ${HEIGHT + BOTTOM + 8}`}
        role="img"
        aria-label={t.quality.plotOf(figure.label)}
        onPointerLeave={() => setAt(null)}
        onPointerMove={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          const share = ((event.clientX - box.left) / box.width) * (width + LEFT + 8) - LEFT;
          setAt(Math.max(0, Math.round((share / width) * (points - 1))));
        }}
      >
        {marks
          .filter((value) => value <= (figure.high === 4.5 ? 4.5 : top))
          .map((value) => (
            <g key={value} className="plot-grid">
              <line x1={0} x2={width} y1={place.y(value)} y2={place.y(value)} />
              <text x={-8} y={place.y(value) + 4} textAnchor="end">
                {figure.text(value).replace(/\.0(?=\D|$)/, "")}
              </text>
            </g>
          ))}
        {times.map((seconds) => (
          <text
            key={seconds}
            className="plot-time"
            x={place.x((seconds * 1000) / quality.step_ms)}
            y={HEIGHT + 18}
            textAnchor="middle"
          >
            {clock(seconds * 1000)}
          </text>
        ))}
        {lines.map((values, n) => (
          <path key={n} className={`plot-line plot-line-${n}`} d={linePath(values, place)} />
        ))}
        {shown === null ? null : (
          <line className="plot-cursor" x1={place.x(shown)} x2={place.x(shown)} y1={0} y2={HEIGHT} />
        )}
      </svg>
      <figcaption className="plot-legend">
        {quality.participants.map((side, n) => {
          const value = shown === null ? null : (lines[n]?.[shown] ?? null);
          return (
            <span key={side.user_id} className={`plot-key plot-key-${n}`}>
              {side.name}
              {value === null ? null : <b>{figure.text(value)}</b>}
            </span>
          );
        })}
        {shown === null ? null : <span className="plot-at">{clock(shown * quality.step_ms)}</span>}
      </figcaption>
    </figure>
  );
}
