import type { QualitySide, Session } from "@turnpike/sdk";
import { useEffect, useState } from "react";

import { t } from "../locale";

/** How long a notice stays after what it is about is over, so that it can be read. */
const NOTICE_MS = 4_000;

function score(side: QualitySide | null): number | null {
  if (side === null) return null;
  return side.connected ? Math.min(5, Math.max(1, side.score)) : 0;
}

/** The worse of the two connections as bars and a word, and whose it is. */
export function Quality({ session }: { session: Session }) {
  const own = score(session.quality.own);
  const other = score(session.quality.other);
  if (own === null && other === null) return null;
  const worst = Math.min(own ?? 5, other ?? 5);
  const whose = (other ?? 5) < (own ?? 5) ? session.other.name : t.common.you;
  const word = t.call.quality[worst] ?? "";
  const title = [
    own === null ? null : t.call.qualityOf(t.common.you, t.call.quality[own] ?? ""),
    other === null ? null : t.call.qualityOf(session.other.name, t.call.quality[other] ?? ""),
  ]
    .filter(Boolean)
    .join("\n");
  return (
    <span className={`quality quality-${worst}`} title={title} data-testid="quality" data-score={worst}>
      <span className="bars" aria-hidden="true">
        {[1, 2, 3, 4, 5].map((n) => (
          <span key={n} className={n <= worst ? "bar bar-on" : "bar"} />
        ))}
      </span>
      <span className={worst >= 4 ? "quality-word quality-fine" : "quality-word"}>
        {worst >= 4 ? null : <span className="quality-whose">{`${whose}: `}</span>}
        {word}
      </span>
    </span>
  );
}

/** What to tell about a side's connection; null: nothing. `gone` is the stage's to tell. */
function notice(side: QualitySide | null, words: (typeof t.quality)["own"]): string | null {
  if (side === null || !side.connected) return null;
  if ((side.videos_paused ?? []).length > 0) return words.video_paused ?? null;
  return side.score > 3 ? null : (words[side.cause ?? "none"] ?? null);
}

/** The reason for a bad connection in a sentence, the user's own first; told politely to screen readers. */
export function QualityNotice({ session }: { session: Session }) {
  const { own, other } = session.quality;
  const now = notice(own, t.quality.own) ?? notice(other, t.quality.of(session.other.name));
  const [kept, setKept] = useState<string | null>(null);
  useEffect(() => {
    if (now !== null) {
      setKept(now);
      return;
    }
    const timer = setTimeout(() => setKept(null), NOTICE_MS);
    return () => clearTimeout(timer);
  }, [now]);
  const text = now ?? kept;
  return (
    <p className={text === null ? "visually-hidden" : "quality-notice"} role="status" data-testid="quality-notice">
      {text}
    </p>
  );
}
