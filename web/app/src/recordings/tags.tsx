import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, type RecordingView, type TurnpikeError } from "@turnpike/sdk";
import { useState, type FormEvent } from "react";

import { t } from "../locale";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Failure } from "../ui/feedback";
import { Icon } from "../ui/icons";

/** Tags as they are typed: without blanks around them, each once. */
export function readTags(text: string): string[] {
  return [...new Set(text.split(",").map((tag) => tag.trim()))].filter((tag) => tag !== "");
}

export function Tags({ recording, onChange }: { recording: RecordingView; onChange: (view: RecordingView) => void }) {
  const client = useTurnpike();
  const [text, setText] = useState<string | null>(null);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const [busy, setBusy] = useState(false);
  const tags = recording.tags;
  const may = recording.may;
  const save = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      onChange(await client.recordings.setTags(recording.id, readTags(text ?? "")));
      setText(null);
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
    } finally {
      setBusy(false);
    }
  };
  return (
    <div className="tag-line" aria-label={t.recordings.tags} role="group" data-testid="tags">
      {tags.length === 0 ? <span className="hint">{t.recordings.noTags}</span> : null}
      {tags.map((tag) => (
        <span key={tag} className="tag">
          {tag}
        </span>
      ))}
      {may.includes("viewer") || may.includes("hold_manager") ? (
        <button type="button" className="link-like" onClick={() => setText(tags.join(", "))} data-testid="tags-edit">
          <Icon name="tag" size={14} />
          {t.recordings.editTags}
        </button>
      ) : null}
      {text === null ? null : (
        <Dialog title={t.recordings.tagsTitle} onClose={() => setText(null)} className="dialog-small">
          <form className="form" onSubmit={(event) => void save(event)}>
            <p className="hint">{t.recordings.tagsHint}</p>
            <label className="field">
              <span className="label">{t.recordings.tagsLabel}</span>
              <input
                value={text}
                onChange={(e) => setText(e.target.value)}
                maxLength={1_000}
                autoFocus
                data-testid="tags-input"
              />
            </label>
            {error === null ? null : <Failure error={error} />}
            <footer className="dialog-actions">
              <Button onClick={() => setText(null)}>{t.common.cancel}</Button>
              <Button type="submit" look="primary" busy={busy} data-testid="tags-save">
                {t.recordings.save}
              </Button>
            </footer>
          </form>
        </Dialog>
      )}
    </div>
  );
}
