import type { TurnpikeError } from "@turnpike/sdk";
import { useEffect, useRef, useState } from "react";

import { clock } from "../format";
import { t } from "../locale";
import { Button } from "../ui/button";
import { Icon } from "../ui/icons";
import type { Line } from "./story";

interface Props {
  /** null: still being read. */
  lines: readonly Line[] | null;
  error: TurnpikeError | null;
  current: number;
  onJump: (line: Line) => void;
}

/** What was written and what happened, beside the picture; a click goes there. Follows the playback until one scrolls. */
export function Lines({ lines, error, current, onJump }: Props) {
  const list = useRef<HTMLOListElement>(null);
  const [follow, setFollow] = useState(true);
  useEffect(() => {
    const line = list.current?.children[Math.max(0, current)] as HTMLElement | undefined;
    if (!follow || line === undefined || list.current === null) return;
    list.current.scrollTo({ top: line.offsetTop - list.current.clientHeight / 2 + line.clientHeight / 2 });
  }, [current, follow, lines]);
  return (
    <aside className="lines" aria-label={t.player.chat} data-testid="player-chat">
      <header className="lines-head">
        <h2>{t.player.chat}</h2>
        {follow || lines === null || lines.length === 0 ? null : (
          <Button look="quiet" onClick={() => setFollow(true)}>
            {t.player.follow}
          </Button>
        )}
      </header>
      {error !== null ? (
        <p className="lines-note">{t.player.chatUnread}</p>
      ) : lines === null ? (
        <p className="lines-note">{t.common.loading}</p>
      ) : lines.length === 0 ? (
        <p className="lines-note">{t.player.chatEmpty}</p>
      ) : (
        <ol ref={list} onWheel={() => setFollow(false)} onTouchMove={() => setFollow(false)}>
          {lines.map((line, index) => (
            <li key={index} className={`line line-${line.kind}`} data-past={index <= current}>
              <button
                type="button"
                onClick={() => {
                  setFollow(true);
                  onJump(line);
                }}
                aria-current={index === current ? "true" : undefined}
                title={t.player.jump(clock(line.at_ms))}
                data-testid={`player-line-${line.kind}`}
              >
                <time>{clock(line.at_ms)}</time>
                {line.kind === "event" ? (
                  <span className="line-text">
                    <Icon name="dot" size={14} />
                    {line.text}
                    {line.who === null ? null : <span className="soft"> · {line.who.name}</span>}
                  </span>
                ) : (
                  <span className="line-text">
                    {line.who === null ? null : <strong>{line.who.name}</strong>}
                    {line.text}
                  </span>
                )}
              </button>
            </li>
          ))}
        </ol>
      )}
    </aside>
  );
}
