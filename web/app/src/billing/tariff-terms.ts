import type { NewTariff, SessionKind, TariffPreset } from "@turnpike/sdk";

import { parseAmount } from "./amount";

/** What the form holds, as people typed it. */
export interface TariffForm {
  kind: SessionKind;
  code: string;
  preset: string;
  rate: string;
  flat: string;
  free_s: string;
  minimum: string;
  share: string;
  /** "" : at once; else a local date and time, as `<input type="datetime-local">` has it. */
  from: string;
}

/** What is wrong with it, by field; empty: nothing. */
export type TariffFaults = Partial<Record<keyof TariffForm, true>>;

/** The form as what is sent, or what is wrong with it. A preset says which prices it has, its steps, and what is included. */
export function tariffOf(
  form: TariffForm,
  preset: TariffPreset,
  providerId: string,
  currency: string,
): { tariff: NewTariff } | { faults: TariffFaults } {
  const faults: TariffFaults = {};
  const price = (field: "rate" | "flat", wanted: boolean): number => {
    if (!wanted) return 0;
    const minor = parseAmount(form[field], currency);
    if (minor === null) faults[field] = true;
    return minor ?? 0;
  };
  const rate = price("rate", preset.minor_per_minute > 0);
  const flat = price("flat", preset.flat_minor > 0);
  const minimum = form.minimum.trim() === "" ? 0 : parseAmount(form.minimum, currency);
  if (minimum === null) faults.minimum = true;
  const free = form.free_s.trim() === "" ? 0 : Number(form.free_s);
  if (!Number.isInteger(free) || free < 0 || free > 3_600) faults.free_s = true;
  const share = Number(form.share.replace(",", "."));
  const bps = Math.round(share * 100);
  if (form.share.trim() === "" || !Number.isFinite(share) || bps < 0 || bps > 10_000) faults.share = true;
  if (!/^[a-z0-9_]{1,32}$/.test(form.code)) faults.code = true;
  const from = form.from === "" ? null : new Date(form.from).getTime();
  if (from !== null && !Number.isFinite(from)) faults.from = true;
  if (Object.keys(faults).length > 0) return { faults };
  return {
    tariff: {
      provider_id: providerId,
      kind: form.kind,
      code: form.code,
      currency,
      provider_bps: bps,
      minor_per_minute: rate,
      step_ms: preset.step_ms,
      flat_minor: flat,
      included_ms: preset.included_ms,
      free_ms: free * 1000,
      minimum_minor: minimum ?? 0,
      ...(from === null ? {} : { valid_from_ms: from }),
    },
  };
}

/** The preset that a tariff looks like: the same steps, and prices of the same sorts; else the first. */
export function presetLike(
  presets: readonly TariffPreset[],
  row: { step_ms: number; flat_minor: number; included_ms: number; minor_per_minute: number } | null,
): string {
  const found =
    row === null
      ? undefined
      : presets.find(
          (one) =>
            one.included_ms === row.included_ms &&
            one.minor_per_minute > 0 === row.minor_per_minute > 0 &&
            (row.minor_per_minute === 0 || one.step_ms === row.step_ms),
        );
  return (found ?? presets[0])?.name ?? "";
}
