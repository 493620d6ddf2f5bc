import { useEffect, useRef, type KeyboardEvent } from "react";

import { playerKey } from "./keys";
import { SPEEDS, type Playback } from "./playback";
import type { Line } from "./story";

/** Where keys are for writing, or belong to a dialog. */
const WRITING = "input:not([type='range']), textarea, select, [contenteditable], dialog";

interface Actions {
  play: Playback;
  lines: readonly Line[];
  /** The newest line at this moment. */
  current: number;
  onQuality: () => void;
  onLines: () => void;
  onFullscreen: () => void;
}

/** Does what a key is for in the player; false when it is for nothing. */
function press(key: string, { play, lines, current, onQuality, onLines, onFullscreen }: Actions): boolean {
  const wish = playerKey(key);
  if (wish === null) return false;
  const line = (index: number) => {
    const found = lines[index];
    if (found !== undefined) play.seek(found.at_ms / 1000);
  };
  switch (wish.do) {
    case "toggle":
      play.toggle();
      break;
    case "move":
      play.seek(play.position + wish.s);
      break;
    case "tenth":
      play.seek((wish.n * play.total) / 10);
      break;
    case "speed":
      play.setSpeed(SPEEDS[SPEEDS.findIndex((speed) => speed === play.speed) + wish.by] ?? play.speed);
      break;
    case "quality":
      onQuality();
      break;
    case "chat":
      onLines();
      break;
    case "fullscreen":
      onFullscreen();
      break;
    case "next":
      line(current + 1);
      break;
    case "previous":
      line(Math.max(0, current - 1));
  }
  return true;
}

/** Keys work wherever the focus is, but where somebody writes. Returns what the position's slider does with its own. */
export function usePlayerKeys(actions: Actions): (event: KeyboardEvent) => void {
  const newest = useRef(actions);
  newest.current = actions;
  useEffect(() => {
    const onKey = (event: globalThis.KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const target = event.target as HTMLElement;
      if (target.closest(WRITING) !== null || document.querySelector("dialog[open]") !== null) return;
      if (event.key === " " && target.closest("button, a, summary") !== null) return; // theirs
      if (press(event.key, newest.current)) event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  // A slider takes the arrows for itself, a step at a time: here they move as everywhere in the player.
  return (event) => {
    if (event.key.startsWith("Arrow") && press(event.key, newest.current)) event.preventDefault();
  };
}
