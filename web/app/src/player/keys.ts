/** What the keyboard does in the player. */
export type PlayerKey =
  | { do: "toggle" | "fullscreen" | "quality" | "chat" | "next" | "previous" }
  | { do: "move"; s: number }
  | { do: "speed"; by: 1 | -1 }
  | { do: "tenth"; n: number };

const FRAME_S = 1 / 25;

const KEYS: Readonly<Record<string, PlayerKey>> = {
  " ": { do: "toggle" },
  k: { do: "toggle" },
  ArrowLeft: { do: "move", s: -5 },
  ArrowRight: { do: "move", s: 5 },
  j: { do: "move", s: -10 },
  l: { do: "move", s: 10 },
  ",": { do: "move", s: -FRAME_S },
  ".": { do: "move", s: FRAME_S },
  "<": { do: "speed", by: -1 },
  ">": { do: "speed", by: 1 },
  f: { do: "fullscreen" },
  q: { do: "quality" },
  c: { do: "chat" },
  n: { do: "next" },
  p: { do: "previous" },
};

export function playerKey(key: string): PlayerKey | null {
  if (/^[0-9]$/.test(key)) return { do: "tenth", n: Number(key) };
  return KEYS[key.length === 1 ? key.toLowerCase() : key] ?? null;
}
