import type { RecordingView } from "@turnpike/sdk";

import { t } from "../locale";
import { Icon } from "../ui/icons";

/** The state of a recording and of its hashes, in one word. */
export function Stage({ recording }: { recording: Pick<RecordingView, "state" | "hashes_ok"> }) {
  const broken = recording.hashes_ok === false;
  return (
    <span className={`stage-word stage-word-${broken ? "failed" : recording.state}`}>
      <Icon
        name={broken || recording.state === "failed" ? "alert" : recording.state === "ready" ? "check" : "film"}
        size={16}
      />
      {broken ? t.recordings.broken : t.recordings.stages[recording.state]}
    </span>
  );
}

/** A legal hold, as a tag. */
export function Held() {
  return (
    <span className="tag tag-held">
      <Icon name="shield" size={14} />
      {t.recordings.hold}
    </span>
  );
}
