import type { RecordingState as State } from "@turnpike/sdk";

import { t } from "../locale";

/** Whether the call is being recorded; always in view during a call. */
export function RecordingState({ state }: { state: State }) {
  return (
    <span
      className={`recording recording-${state}`}
      data-testid="recording-state"
      data-state={state}
      role="status"
      title={state === "recording" ? t.call.recordedSince : undefined}
    >
      <span className="recording-dot" aria-hidden="true" />
      <span className="recording-word">{t.recording[state]}</span>
    </span>
  );
}
