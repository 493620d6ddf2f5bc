/** Figures of a quality plot as SVG paths. Pure: sizes in, strings out. */
export interface Scale {
  /** From the left and from the bottom edge, in user units. */
  x(index: number): number;
  y(value: number): number;
}

export function scale(points: number, low: number, high: number, width: number, height: number): Scale {
  const span = high > low ? high - low : 1;
  return {
    x: (index) => (points < 2 ? width / 2 : (index * width) / (points - 1)),
    y: (value) => height - ((Math.min(high, Math.max(low, value)) - low) * height) / span,
  };
}

/** A line through the points that are there; a gap where one is missing. A point alone gets a short stroke. */
export function linePath(values: readonly (number | null)[], { x, y }: Scale): string {
  const parts: string[] = [];
  values.forEach((value, index) => {
    if (value === null) return;
    const here = `${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    const first = index === 0 || values[index - 1] == null;
    parts.push(`${first ? "M" : "L"}${here}`);
    if (first && values[index + 1] == null) parts.push("h0.1");
  });
  return parts.join("");
}

/** Round figures for an axis: at most `most` of them, from 0 or `low` up to what covers `high`. */
export function ticks(low: number, high: number, most = 5): number[] {
  const span = Math.max(high - low, Number.EPSILON);
  const raw = span / Math.max(1, most - 1);
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= raw * 0.999) ?? 10 * unit;
  const found: number[] = [];
  for (let value = Math.ceil(low / step) * step; found.length <= most && value < high + step * 0.999; value += step) {
    found.push(Number(value.toPrecision(12)));
  }
  return found;
}
