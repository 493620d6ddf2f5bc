import { LANGUAGE } from "../locale";

/** Digits after the point of a currency's amounts. */
export function digitsOf(currency: string): number {
  return (
    new Intl.NumberFormat(LANGUAGE, { style: "currency", currency: currency || "USD" }).resolvedOptions()
      .maximumFractionDigits ?? 2
  );
}

/** What a person typed as an amount, in minor units; null: that is none. Takes a point or a comma, and no rounding. */
export function parseAmount(text: string, currency: string): number | null {
  const digits = digitsOf(currency);
  const match = /^\s*(\d{1,9})(?:[.,](\d*))?\s*$/.exec(text);
  if (match === null) return null;
  const fraction = match[2] ?? "";
  if (fraction.length > digits) return null;
  const minor = Number(match[1]) * 10 ** digits + Number(fraction.padEnd(digits, "0") || "0");
  return minor > 0 ? minor : null;
}

/** An amount for an input, without the currency: 1234 → "12.34". */
export function plainAmount(minor: number, currency: string): string {
  const digits = digitsOf(currency);
  return (minor / 10 ** digits).toFixed(digits);
}
