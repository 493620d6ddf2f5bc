import { asTurnpikeError, type TurnpikeError } from "@turnpike/sdk";
import { useCallback, useEffect, useRef, useState } from "react";

export interface Loaded<T> {
  data: T | null;
  error: TurnpikeError | null;
  reload: () => void;
  set: (change: (data: T) => T) => void;
}

/** Loads when `keys` change or `reload` is called; an answer that comes after a newer question is dropped. */
export function useLoad<T>(load: () => Promise<T>, keys: readonly unknown[]): Loaded<T> {
  const [data, setData] = useState<T | null>(null);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const asked = useRef(0);
  const reload = useCallback(() => {
    const question = ++asked.current;
    setError(null);
    load().then(
      (answer) => question === asked.current && setData(answer),
      (thrown: unknown) => question === asked.current && setError(asTurnpikeError(thrown)),
    );
  }, keys);
  useEffect(() => {
    reload();
    return () => {
      asked.current += 1;
    };
  }, [reload]);
  const set = useCallback((change: (data: T) => T) => setData((d) => (d === null ? d : change(d))), []);
  return { data, error, reload, set };
}

/** The time, a few times a second while `running`. */
export function useNow(everyMs: number, running = true): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!running) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs, running]);
  return now;
}
