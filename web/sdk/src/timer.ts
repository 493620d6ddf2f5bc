/**
 * Calls `tick` every `everyMs`, also while the tab is in the background. Browsers slow a hidden page's own timers down
 * to one a minute, which would make a waiting provider look offline; a worker's timers keep their pace. Where the page's
 * policy forbids such a worker, the page's own timer has to do. Returns what stops it.
 */
export function steadyInterval(everyMs: number, tick: () => void): () => void {
  const code = `setInterval(() => postMessage(0), ${everyMs})`;
  let worker: Worker | null = null;
  let timer: ReturnType<typeof setInterval> | null = null;
  const fallBack = () => {
    worker?.terminate();
    worker = null;
    timer ??= setInterval(tick, everyMs);
  };
  try {
    const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    worker = new Worker(url);
    URL.revokeObjectURL(url);
    worker.onmessage = tick;
    worker.onerror = fallBack;
  } catch {
    fallBack();
  }
  return () => {
    worker?.terminate();
    if (timer !== null) clearInterval(timer);
  };
}
