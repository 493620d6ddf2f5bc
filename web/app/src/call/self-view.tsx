import { useChanges } from "@turnpike/react";
import type { LocalTrack } from "@turnpike/sdk";
import { useRef, useState, type KeyboardEvent, type PointerEvent } from "react";

import { t } from "../locale";
import { Icon } from "../ui/icons";
import { Picture } from "../ui/media";

type Corner = "top-left" | "top-right" | "bottom-left" | "bottom-right";

const KEYS: Record<string, (corner: Corner) => Corner> = {
  ArrowLeft: (c) => c.replace("right", "left") as Corner,
  ArrowRight: (c) => c.replace("left", "right") as Corner,
  ArrowUp: (c) => c.replace("bottom", "top") as Corner,
  ArrowDown: (c) => c.replace("top", "bottom") as Corner,
};

/** The own picture in a corner: dragged, it snaps to the nearest one. */
export function SelfView({ track, muted }: { track: LocalTrack; muted: boolean }) {
  useChanges(track);
  const [corner, setCorner] = useState<Corner>("top-right");
  const [drag, setDrag] = useState<{ x: number; y: number } | null>(null);
  const start = useRef({ x: 0, y: 0 });

  const down = (event: PointerEvent<HTMLDivElement>) => {
    event.currentTarget.setPointerCapture(event.pointerId);
    start.current = { x: event.clientX, y: event.clientY };
    setDrag({ x: 0, y: 0 });
  };
  const move = (event: PointerEvent) => {
    if (drag !== null) setDrag({ x: event.clientX - start.current.x, y: event.clientY - start.current.y });
  };
  const up = (event: PointerEvent<HTMLDivElement>) => {
    setDrag(null);
    const area = event.currentTarget.parentElement?.getBoundingClientRect();
    const own = event.currentTarget.getBoundingClientRect();
    if (area === undefined || drag === null || Math.hypot(drag.x, drag.y) < 12) return;
    const right = own.x + own.width / 2 > area.x + area.width / 2;
    const bottom = own.y + own.height / 2 > area.y + area.height / 2;
    setCorner(`${bottom ? "bottom" : "top"}-${right ? "right" : "left"}`);
  };
  const key = (event: KeyboardEvent) => {
    const to = KEYS[event.key];
    if (to === undefined) return;
    event.preventDefault();
    setCorner(to(corner));
  };

  return (
    <div
      className={`self self-${corner} ${drag === null ? "" : "self-dragged"}`}
      style={drag === null ? undefined : { transform: `translate(${drag.x}px, ${drag.y}px)` }}
      role="group"
      aria-label={t.call.move}
      tabIndex={0}
      onPointerDown={down}
      onPointerMove={move}
      onPointerUp={up}
      onPointerCancel={() => setDrag(null)}
      onKeyDown={key}
      data-testid="self-view"
    >
      {track.live ? (
        <Picture stream={track.stream} mirrored label={t.common.you} />
      ) : (
        <span className="self-off">
          <Icon name="cameraOff" />
        </span>
      )}
      <span className="self-name">
        {t.common.you}
        {muted ? <Icon name="microphoneOff" size={14} /> : null}
      </span>
    </div>
  );
}
