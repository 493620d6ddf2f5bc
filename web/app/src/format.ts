import { LANGUAGE } from "./locale";

const formats = new Map<string, Intl.NumberFormat>();

/** An amount in minor units as people write it: `money(199, "USD")` is "$1.99". */
export function money(minor: number, currency: string): string {
  let format = formats.get(currency);
  if (format === undefined) {
    format = new Intl.NumberFormat(LANGUAGE, { style: "currency", currency: currency || "USD" });
    formats.set(currency, format);
  }
  return format.format(minor / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2)).replace("-", "−");
}

/** "4:07", "1:02:33": for clocks. */
export function clock(ms: number): string {
  const seconds = Math.floor(Math.max(0, ms) / 1000);
  const two = (n: number) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** "4 min 7 s", for sentences and receipts. */
export function duration(ms: number): string {
  const seconds = Math.round(Math.max(0, ms) / 1000);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const parts = [h > 0 ? `${h} h` : "", m > 0 ? `${m} min` : "", s > 0 || seconds === 0 ? `${s} s` : ""];
  return parts.filter(Boolean).join(" ");
}

/** "about 25 min", where seconds would only pretend to be exact. */
export function roughly(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return `${Math.floor(ms / 1000)} s`;
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h`;
}

const dateTime = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium", timeStyle: "short" });
const time = new Intl.DateTimeFormat(LANGUAGE, { timeStyle: "short" });
const exact = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium", timeStyle: "medium" });

/** The time alone for today, else with the date. */
export function when(ms: number): string {
  const date = new Date(ms);
  return date.toDateString() === new Date().toDateString() ? `Today, ${time.format(date)}` : dateTime.format(date);
}

export const timeOfDay = (ms: number): string => time.format(new Date(ms));
const clockTime = new Intl.DateTimeFormat(LANGUAGE, { timeStyle: "medium" });
/** The time of day to the second. */
export const exactTime = (ms: number): string => clockTime.format(new Date(ms));
export const exactly = (ms: number): string => exact.format(new Date(ms));

export function bytes(n: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = n;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

const date = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium" });

/** The day alone. */
export const day = (ms: number): string => date.format(new Date(ms));
