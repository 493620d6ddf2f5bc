import { asTurnpikeError, type TurnpikeError } from "@turnpike/sdk";
import { useCallback, useEffect, useRef, useState } from "react";

interface Page<T> {
  items: T[];
  next: string | null;
}

/** A list read page by page with a cursor. `more` is null at its end. */
export function usePages<T>(load: (cursor: string | null) => Promise<Page<T>>, keys: readonly unknown[]) {
  const [items, setItems] = useState<T[] | null>(null);
  const [next, setNext] = useState<string | null>(null);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const [loading, setLoading] = useState(false);
  const asked = useRef(0);

  const read = useCallback(async (cursor: string | null) => {
    const question = ++asked.current;
    setLoading(true);
    setError(null);
    try {
      const page = await load(cursor);
      if (question !== asked.current) return;
      setItems((before) => (cursor === null || before === null ? page.items : [...before, ...page.items]));
      setNext(page.next);
    } catch (thrown) {
      if (question === asked.current) setError(asTurnpikeError(thrown));
    } finally {
      if (question === asked.current) setLoading(false);
    }
  }, keys);
  const reload = useCallback(() => void read(null), [read]);
  useEffect(() => {
    reload();
    return () => {
      asked.current += 1;
    };
  }, [reload]);
  return { items, error, loading, reload, more: next === null ? null : () => void read(next) };
}
