import { useTurnpike } from "@turnpike/react";
import type { Layout, OwnRule, PolicyChange, RecordingPolicy } from "@turnpike/sdk";
import { useState } from "react";

import { t } from "../locale";
import { ReasonDialog } from "./reason-dialog";

const LAYOUTS: readonly Layout[] = ["side_by_side", "speaker", "audio"];
const OWN_DEFAULT: OwnRule = { after_h: 0, for_days: 30, download: false };
const SIDES = ["client", "provider"] as const;

/** What of a policy was changed; nothing that stays as it is. */
export function changeOf(before: RecordingPolicy, after: RecordingPolicy, reason: string): PolicyChange {
  const differs = (key: "keep_days" | "preview" | "compose" | "own" | "announce" | "announce_url") =>
    JSON.stringify(before[key]) !== JSON.stringify(after[key]);
  return {
    kind: before.kind,
    reason,
    ...(differs("keep_days") ? { keep_days: after.keep_days } : {}),
    ...(differs("preview") ? { preview: after.preview } : {}),
    ...(differs("compose") ? { compose: after.compose } : {}),
    ...(differs("own") ? { own: after.own } : {}),
    ...(differs("announce") ? { announce: after.announce } : {}),
    ...(differs("announce_url") ? { announce_url: after.announce_url ?? "" } : {}),
  };
}

interface Props {
  policy: RecordingPolicy;
  onChanged: (policies: RecordingPolicy[]) => void;
  onClose: () => void;
}

export function PolicyDialog({ policy, onChanged, onClose }: Props) {
  const client = useTurnpike();
  const [draft, setDraft] = useState(policy);
  const set = (change: Partial<RecordingPolicy>) => setDraft({ ...draft, ...change });
  const number = (value: string, low: number, high: number) => Math.min(high, Math.max(low, Math.round(Number(value))));
  const words = t.policies;
  return (
    <ReasonDialog
      title={words.changeTitle(words.kinds[policy.kind])}
      hint={words.hint}
      submit={words.submit}
      example={words.reasonExample}
      onSubmit={async (reason) => onChanged(await client.recordings.setPolicy(changeOf(policy, draft, reason)))}
      onClose={onClose}
    >
      <label className="field">
        <span className="label">{words.keepDays}</span>
        <input
          type="number"
          required
          min={1}
          max={36_500}
          value={draft.keep_days}
          onChange={(e) => set({ keep_days: number(e.target.value, 1, 36_500) })}
          data-testid="policy-days"
          autoFocus
        />
        <span className="hint">{words.keepHint}</span>
      </label>
      <fieldset className="checks">
        <legend className="label">{words.announce}</legend>
        <label className="check">
          <input
            type="checkbox"
            checked={draft.announce}
            onChange={(e) => set({ announce: e.target.checked })}
            data-testid="policy-announce"
          />
          {words.announceLabel}
        </label>
        {draft.announce ? (
          <label className="field">
            <span className="label">{words.announceUrl}</span>
            <input
              type="url"
              pattern="https://.+"
              maxLength={500}
              value={draft.announce_url ?? ""}
              placeholder="https://"
              onChange={(e) => set({ announce_url: e.target.value === "" ? null : e.target.value })}
              data-testid="policy-announce-url"
            />
            <span className="hint">{words.announceHint}</span>
          </label>
        ) : null}
      </fieldset>
      <label className="check">
        <input type="checkbox" checked={draft.preview} onChange={(e) => set({ preview: e.target.checked })} />
        {words.previewLabel}
      </label>
      <fieldset className="checks">
        <legend className="label">{words.compose}</legend>
        {LAYOUTS.map((layout) => (
          <label key={layout} className="check">
            <input
              type="checkbox"
              checked={draft.compose.includes(layout)}
              onChange={(e) =>
                set({ compose: LAYOUTS.filter((l) => (l === layout ? e.target.checked : draft.compose.includes(l))) })
              }
            />
            {t.recordings.copies.layouts[layout]}
          </label>
        ))}
      </fieldset>
      {SIDES.map((side) => {
        const rule = draft.own[side];
        const put = (own: OwnRule | null) => set({ own: { ...draft.own, [side]: own } });
        return (
          <fieldset key={side} className="checks own-rule">
            <legend className="label">{words.own[side]}</legend>
            <label className="check">
              <input
                type="checkbox"
                checked={rule !== null}
                onChange={(e) => put(e.target.checked ? (policy.own[side] ?? OWN_DEFAULT) : null)}
                data-testid={`own-${side}`}
              />
              {words.allow}
            </label>
            {rule === null ? null : (
              <>
                <label className="field">
                  <span className="label">{words.afterH}</span>
                  <input
                    type="number"
                    min={0}
                    max={8_760}
                    value={rule.after_h}
                    onChange={(e) => put({ ...rule, after_h: number(e.target.value, 0, 8_760) })}
                  />
                </label>
                <label className="field">
                  <span className="label">{words.forDays}</span>
                  <input
                    type="number"
                    min={1}
                    max={36_500}
                    value={rule.for_days}
                    onChange={(e) => put({ ...rule, for_days: number(e.target.value, 1, 36_500) })}
                  />
                </label>
                <label className="check own-save">
                  <input
                    type="checkbox"
                    checked={rule.download}
                    onChange={(e) => put({ ...rule, download: e.target.checked })}
                    data-testid={`own-download-${side}`}
                  />
                  {words.download}
                </label>
              </>
            )}
          </fieldset>
        );
      })}
    </ReasonDialog>
  );
}
