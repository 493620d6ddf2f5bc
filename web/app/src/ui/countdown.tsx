import type { ReactNode } from "react";

import { useNow } from "./load";

/** Seconds left until `untilMs`, and the share of `totalMs` that they are. */
export function useCountdown(untilMs: number | null | undefined, totalMs: number): { seconds: number; share: number } {
  const now = useNow(200, untilMs != null);
  const left = untilMs == null ? 0 : Math.min(totalMs, Math.max(0, untilMs - now));
  return { seconds: Math.ceil(left / 1000), share: left / totalMs };
}

/** A ring that empties around its content. */
export function CountdownRing({ share, size, children }: { share: number; size: number; children: ReactNode }) {
  const radius = size / 2 - 3;
  const length = 2 * Math.PI * radius;
  return (
    <span className="ring" style={{ width: size, height: size }}>
      <svg width={size} height={size} aria-hidden="true">
        <circle cx={size / 2} cy={size / 2} r={radius} className="ring-track" />
        <circle
          cx={size / 2}
          cy={size / 2}
          r={radius}
          className="ring-left"
          strokeDasharray={length}
          strokeDashoffset={length * (1 - share)}
        />
      </svg>
      {children}
    </span>
  );
}
