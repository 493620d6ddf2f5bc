import { useTurnpike } from "@turnpike/react";
import type { RecordingStage } from "@turnpike/sdk";
import { useEffect, useState, type FormEvent } from "react";

import { t } from "../locale";
import { Button } from "../ui/button";
import { Icon } from "../ui/icons";
import { chips, hiddenCount, NO_FILTERS, type Filters } from "./search";

const STATES: readonly RecordingStage[] = ["ready", "recording", "finishing", "failed", "expired", "erased"];

/** Who and when at once, the rest behind a button; what is set stands below as chips that can be taken away. */
export function SearchForm({ filters, onSearch }: { filters: Filters; onSearch: (filters: Filters) => void }) {
  const client = useTurnpike();
  const [form, setForm] = useState(filters);
  const [more, setMore] = useState(hiddenCount(filters) > 0);
  const [tags, setTags] = useState<readonly string[]>([]);
  useEffect(() => setForm(filters), [filters]);
  useEffect(() => {
    if (!more) return;
    client.recordings.tags().then(
      (found) => setTags(found.map(({ tag }) => tag)),
      () => setTags([]), // only suggestions
    );
  }, [client, more]);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    onSearch(form);
  };
  const set = (change: Partial<Filters>) => setForm({ ...form, ...change });
  const field = (key: keyof Filters, label: string, input: object) => (
    <label className="field">
      <span className="label">{label}</span>
      <input value={form[key]} onChange={(e) => set({ [key]: e.target.value })} {...input} />
    </label>
  );
  const choice = (key: keyof Filters, label: string, options: readonly (readonly [string, string])[]) => (
    <label className="field">
      <span className="label">{label}</span>
      <select value={form[key]} onChange={(e) => set({ [key]: e.target.value })} data-testid={`filter-${key}`}>
        <option value="">{t.recordings.any}</option>
        {options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
  const active = chips(filters);
  const { qualities } = t.recordings;
  return (
    <form className="search-form" role="search" onSubmit={submit}>
      <div className="search-row">
        <div className="search-who">
          {field("participant", t.recordings.participant, {
            type: "search",
            placeholder: t.recordings.participantHint,
            maxLength: 100,
            "data-testid": "recording-search",
          })}
        </div>
        {field("from", t.recordings.from, { type: "date", max: form.to || undefined })}
        {field("to", t.recordings.to, { type: "date", min: form.from || undefined })}
        <Button type="submit" look="primary" data-testid="search-submit">
          {t.recordings.search}
        </Button>
        <Button
          icon="filter"
          aria-expanded={more}
          aria-controls="more-filters"
          onClick={() => setMore(!more)}
          data-testid="more-filters"
        >
          {more ? t.recordings.fewer : t.recordings.more}
        </Button>
      </div>
      <div className="search-more" id="more-filters" hidden={!more}>
        {choice("kind", t.recordings.kind, [
          ["video", t.kinds.video],
          ["audio", t.kinds.audio],
        ])}
        {choice("quality", t.recordings.quality, [
          ["bad", qualities.bad],
          ["good", qualities.good],
        ])}
        {choice(
          "state",
          t.recordings.state,
          STATES.map((state) => [state, t.recordings.stages[state]] as const),
        )}
        {field("atLeast", t.recordings.lengthFrom, {
          type: "number",
          min: 0,
          max: 1440,
          step: "any",
          inputMode: "decimal",
        })}
        {field("atMost", t.recordings.lengthTo, {
          type: "number",
          min: 0,
          max: 1440,
          step: "any",
          inputMode: "decimal",
        })}
        {field("tag", t.recordings.tag, { list: "known-tags", maxLength: 40, "data-testid": "filter-tag" })}
        {field("session", t.recordings.sessionNumber, { maxLength: 64, placeholder: "ses_…", spellCheck: false })}
        <datalist id="known-tags">
          {tags.map((tag) => (
            <option key={tag} value={tag} />
          ))}
        </datalist>
        <label className="check">
          <input
            type="checkbox"
            checked={form.held !== ""}
            onChange={(e) => set({ held: e.target.checked ? "1" : "" })}
            data-testid="filter-held"
          />
          {t.recordings.held}
        </label>
      </div>
      {active.length === 0 ? null : (
        <ul className="chips" aria-label={t.recordings.more}>
          {active.map(({ key, text }) => (
            <li key={key}>
              <button
                type="button"
                className="chip"
                aria-label={t.recordings.remove(text)}
                title={t.recordings.remove(text)}
                onClick={() => onSearch({ ...filters, [key]: "" })}
              >
                {text}
                <Icon name="close" size={14} />
              </button>
            </li>
          ))}
          <li>
            <button type="button" className="link-like" onClick={() => onSearch(NO_FILTERS)} data-testid="search-clear">
              {t.recordings.clear}
            </button>
          </li>
        </ul>
      )}
    </form>
  );
}
