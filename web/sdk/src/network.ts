/** Calls `changed` when the machine is on another network, or on one again; returns how to stop. */
export function watchNetwork(changed: () => void): () => void {
  const { connection } = globalThis.navigator as { connection?: EventTarget };
  const back = () => changed();
  globalThis.addEventListener?.("online", back);
  const type = () => (connection as { type?: string } | undefined)?.type;
  let before = type();
  // Chromium tells of every new estimate of bandwidth as well: only another kind of network is another network.
  const maybe = () => {
    const now = type();
    if (now !== before && now !== "none") changed();
    before = now;
  };
  connection?.addEventListener("change", maybe);
  return () => {
    globalThis.removeEventListener?.("online", back);
    connection?.removeEventListener("change", maybe);
  };
}
