import type { AccessStream } from "@turnpike/sdk";
import { useCallback, useEffect, useRef, useState } from "react";

import { correction, localTime, totalSeconds } from "./transport";

export const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2, 3] as const;
const SYNC_MS = 100;

export interface Playback {
  /** Seconds. */
  position: number;
  total: number;
  playing: boolean;
  /** It waits for a stream that should play and has not loaded yet. */
  waiting: boolean;
  speed: number;
  attach: (n: number, element: HTMLVideoElement | null) => void;
  seek: (to: number) => void;
  toggle: () => void;
  pause: () => void;
  setSpeed: (speed: number) => void;
}

/**
 * Plays streams on one time line. It is a clock of its own; each stream is kept in step with it, and it waits while a
 * stream that should play is still loading.
 */
export function usePlayback(streams: readonly AccessStream[]): Playback {
  const total = totalSeconds(streams);
  const media = useRef(new Map<number, HTMLVideoElement>());
  const now = useRef(0);
  const [position, setPosition] = useState(0);
  const [playing, setPlaying] = useState(false);
  const [waiting, setWaiting] = useState(false);
  const [speed, setSpeed] = useState(1);

  const align = useCallback(
    (run: boolean) => {
      for (const stream of streams) {
        const element = media.current.get(stream.n);
        if (element !== undefined) keepInStep(element, stream, now.current, run, speed);
      }
    },
    [streams, speed],
  );
  const seek = useCallback(
    (to: number) => {
      now.current = Math.min(total, Math.max(0, to));
      setPosition(now.current);
      align(false);
    },
    [align, total],
  );

  useEffect(() => {
    align(playing);
    if (!playing) {
      setWaiting(false);
      return;
    }
    let before = performance.now();
    const timer = setInterval(() => {
      const tick = performance.now();
      const elapsed = (tick - before) / 1000;
      before = tick;
      const held = streams.some((s) => waits(media.current.get(s.n), s, now.current));
      setWaiting(held);
      if (!held) now.current += elapsed * speed;
      if (now.current >= total) {
        now.current = total;
        setPlaying(false);
      }
      setPosition(now.current);
      align(now.current < total);
    }, SYNC_MS);
    return () => clearInterval(timer);
  }, [align, playing, speed, streams, total]);

  const attach = useCallback((n: number, element: HTMLVideoElement | null) => {
    if (element === null) media.current.delete(n);
    else media.current.set(n, element);
  }, []);
  const toggle = useCallback(() => {
    if (!playing && now.current >= total) seek(0);
    setPlaying(!playing);
  }, [playing, seek, total]);
  const pause = useCallback(() => setPlaying(false), []);
  return { position, total, playing, waiting, speed, attach, seek, toggle, pause, setSpeed };
}

function keepInStep(
  element: HTMLVideoElement,
  stream: AccessStream,
  positionS: number,
  run: boolean,
  speed: number,
): void {
  const wanted = localTime(stream, positionS);
  if (wanted === null) {
    if (!element.paused) element.pause();
    return;
  }
  const { seekTo, rate } = correction(element.currentTime, wanted, speed);
  if (!run) {
    if (!element.paused) element.pause();
    if (Math.abs(element.currentTime - wanted) > 0.03) element.currentTime = wanted;
    return;
  }
  if (seekTo !== null && !element.seeking) element.currentTime = seekTo;
  if (element.playbackRate !== rate) element.playbackRate = rate;
  if (element.paused && !element.ended) void element.play().catch(() => undefined); // interrupted by a pause: tried again
}

/** Whether the time line has to wait for this stream. */
function waits(element: HTMLVideoElement | undefined, stream: AccessStream, positionS: number): boolean {
  if (element === undefined || localTime(stream, positionS) === null || element.error !== null || element.ended)
    return false;
  return element.readyState < HTMLMediaElement.HAVE_FUTURE_DATA && element.currentTime < element.duration - 0.5;
}
