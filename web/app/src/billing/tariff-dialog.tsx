import { useTurnpike } from "@turnpike/react";
import {
  asTurnpikeError,
  type ProviderView,
  type SessionKind,
  type TariffPreset,
  type TariffRow,
  type TurnpikeError,
} from "@turnpike/sdk";
import { useState } from "react";

import { t } from "../locale";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Failure, Skeleton } from "../ui/feedback";
import { useLoad } from "../ui/load";
import { plainAmount } from "./amount";
import { presetLike, tariffOf, type TariffFaults, type TariffForm } from "./tariff-terms";

interface Props {
  provider: ProviderView;
  /** What is changed; null: a new tariff. */
  base: TariffRow | null;
  onClose: () => void;
  onSaved: () => void;
}

const KINDS: readonly SessionKind[] = ["video", "audio", "chat"];

/** Set what a provider charges, from a preset, at once or from a moment ahead. */
export function TariffDialog(props: Props) {
  const { finance } = useTurnpike();
  const { data, error, reload } = useLoad(() => finance.presets(), [finance]);
  return (
    <Dialog title={t.finance.tariffs.title(props.provider.user.name)} onClose={props.onClose}>
      {error === null ? null : <Failure error={error} retry={reload} />}
      {data === null ? error === null ? <Skeleton rows={4} height={48} /> : null : <Form {...props} presets={data} />}
    </Dialog>
  );
}

function Form({ provider, base, onClose, onSaved, presets }: Props & { presets: readonly TariffPreset[] }) {
  const { finance } = useTurnpike();
  const currency = base?.currency ?? provider.rates[0]?.currency ?? "USD";
  const amount = (minor: number | undefined) =>
    minor === undefined || minor === 0 ? "" : plainAmount(minor, currency);
  const [form, setForm] = useState<TariffForm>(() => ({
    kind: base?.kind ?? "video",
    code: base?.code ?? "standard",
    preset: presetLike(presets, base),
    rate: amount(base?.minor_per_minute),
    flat: amount(base?.flat_minor),
    free_s: base === null || base.free_ms === 0 ? "" : String(base.free_ms / 1000),
    minimum: amount(base?.minimum_minor),
    share: String((base?.provider_bps ?? 7_000) / 100),
    from: "",
  }));
  const [later, setLater] = useState(false);
  const [faults, setFaults] = useState<TariffFaults>({});
  const [error, setError] = useState<TurnpikeError | null>(null);
  const [busy, setBusy] = useState(false);
  const preset = presets.find((one) => one.name === form.preset) ?? presets[0];
  if (preset === undefined) return null;
  const set = (change: Partial<TariffForm>) => setForm((before) => ({ ...before, ...change }));

  const save = async () => {
    const made = tariffOf(later ? form : { ...form, from: "" }, preset, provider.user.id, currency);
    setFaults("faults" in made ? made.faults : {});
    if ("faults" in made) return;
    setBusy(true);
    setError(null);
    try {
      await finance.setTariff(made.tariff);
      onSaved();
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
      setBusy(false);
    }
  };

  const text = (field: "rate" | "flat" | "free_s" | "minimum" | "share" | "code", label: string, unit: string) => (
    <label className="field">
      <span className="label">{label}</span>
      <span className="with-unit">
        <input
          inputMode={field === "code" ? "text" : "decimal"}
          value={form[field]}
          aria-invalid={faults[field]}
          onChange={(event) => set({ [field]: event.target.value })}
          data-testid={`tariff-${field}`}
        />
        {unit === "" ? null : <span className="soft">{unit}</span>}
      </span>
    </label>
  );

  return (
    <form
      className="form tariff-form"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <div className="form-pair">
        <label className="field">
          <span className="label">{t.finance.tariffs.kind}</span>
          <select
            value={form.kind}
            disabled={base !== null}
            onChange={(event) => set({ kind: event.target.value as SessionKind })}
          >
            {KINDS.map((kind) => (
              <option key={kind} value={kind}>
                {t.kinds[kind]}
              </option>
            ))}
          </select>
        </label>
        <label className="field">
          <span className="label">{t.finance.tariffs.preset}</span>
          <select
            value={form.preset}
            onChange={(event) => {
              const chosen = presets.find((one) => one.name === event.target.value);
              set({ preset: event.target.value, share: String((chosen?.provider_bps ?? 7_000) / 100) });
            }}
            data-testid="tariff-preset"
          >
            {presets.map((one) => (
              <option key={one.name} value={one.name}>
                {t.finance.tariffs.presets[one.name] ?? one.name}
              </option>
            ))}
          </select>
        </label>
      </div>
      <div className="form-pair">
        {preset.flat_minor > 0 ? text("flat", t.finance.tariffs.flat, currency) : null}
        {preset.minor_per_minute > 0 ? text("rate", t.finance.tariffs.rate, currency) : null}
        {text("share", t.finance.tariffs.share, "%")}
      </div>
      <div className="form-pair">
        {text("free_s", t.finance.tariffs.free, "s")}
        {text("minimum", t.finance.tariffs.minimum, currency)}
      </div>
      {base === null ? (
        <>
          {text("code", t.finance.tariffs.code, "")}
          <p className="hint">{t.finance.tariffs.codeHint}</p>
        </>
      ) : null}
      <fieldset className="choices">
        <legend className="label">{t.finance.tariffs.when}</legend>
        <label className="choice">
          <input type="radio" name="when" checked={!later} onChange={() => setLater(false)} />
          {t.finance.tariffs.now}
        </label>
        <label className="choice">
          <input type="radio" name="when" checked={later} onChange={() => setLater(true)} data-testid="tariff-later" />
          {t.finance.tariffs.later}
        </label>
        {later ? (
          <input
            type="datetime-local"
            aria-label={t.finance.tariffs.later}
            aria-invalid={faults.from}
            required
            value={form.from}
            onChange={(event) => set({ from: event.target.value })}
            data-testid="tariff-from"
          />
        ) : null}
      </fieldset>
      <p className="hint">{t.finance.tariffs.running}</p>
      {error === null ? null : <Failure error={error} />}
      <footer className="dialog-actions">
        <Button onClick={onClose}>{t.common.cancel}</Button>
        <Button look="primary" type="submit" busy={busy} data-testid="tariff-save">
          {t.finance.tariffs.save}
        </Button>
      </footer>
    </form>
  );
}
