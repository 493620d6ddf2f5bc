import type { RecordingState as State, Session } from "@turnpike/sdk";
import { useEffect, useRef, useState } from "react";

import "../styles/recording-control.css";

import { clock } from "../format";
import { t } from "../locale";
import { useNow } from "../ui/load";
import { playNotice } from "./notice";
import { RecordingDialog } from "./recording-dialog";

const SAID_MS = 6_000;

/** What is left of a pause; null: there is none, or nobody knows when it ends. */
export function usePauseLeft(session: Session): number | null {
  const until = session.view.recording === "paused" ? (session.view.recording_paused_until_ms ?? null) : null;
  const now = useNow(250, until !== null);
  return until === null ? null : Math.max(0, until - now);
}

/** Whether the call is being recorded, always in view during a call; a click tells what that means and what can be done. */
export function RecordingState({
  session,
  open,
  onOpen,
}: {
  session: Session;
  open: boolean;
  onOpen: (open: boolean) => void;
}) {
  const state = session.view.recording;
  const left = usePauseLeft(session);
  const word = state === "paused" && left !== null ? t.inCall.short(clock(left + 999)) : t.recording[state];
  return (
    <>
      <button
        type="button"
        className={`recording recording-${state}`}
        data-testid="recording-state"
        data-state={state}
        aria-label={t.inCall.button(t.recording[state])}
        aria-haspopup="dialog"
        onClick={() => onOpen(true)}
      >
        <span className="recording-dot" aria-hidden="true" />
        <span className="recording-word">{word}</span>
      </button>
      {open ? <RecordingDialog session={session} left={left} onClose={() => onOpen(false)} /> : null}
    </>
  );
}

/** What to say when one state of the recording follows another; null: nothing. */
export function announcement(before: State | null, now: State): string | null {
  if (before === now) return null;
  if (now === "recording" && before === "paused") return t.inCall.said.resumed ?? null;
  if (before === null && now !== "recording" && now !== "paused") return null; // as it was when the page came
  return t.inCall.said[now] ?? null;
}

/** Has the user hear that the recording has begun, once each time, and tells the server what was heard. */
function useNotice(session: Session): void {
  const state = session.view.recording;
  const due = session.announcement;
  const done = useRef(false);
  useEffect(() => {
    if (state !== "recording") {
      if (state !== "paused") done.current = false; // where it begins again, it is said again
      return;
    }
    if (due === null || done.current) return;
    done.current = true;
    void playNotice(due)
      .then((how) => session.announced(how))
      .catch(() => undefined); // the call was over meanwhile
  }, [session, state, due]);
}

/** Says in the picture, and to screen readers, that the recording began, paused, goes on or has ended; and aloud. */
export function RecordingAnnouncement({ session }: { session: Session }) {
  const state = session.view.recording;
  useNotice(session);
  const before = useRef<State | null>(null);
  const [said, setSaid] = useState<string | null>(null);
  useEffect(() => {
    const text = announcement(before.current, state);
    before.current = state;
    if (text === null) return;
    setSaid(text);
    const timer = setTimeout(() => setSaid(null), SAID_MS);
    return () => clearTimeout(timer);
  }, [state]);
  return (
    <p
      className={said === null ? "visually-hidden" : `recording-said recording-said-${state}`}
      role="status"
      data-testid="recording-said"
    >
      {said === null ? null : <span className="recording-dot" aria-hidden="true" />}
      {said === t.inCall.said.recording ? (session.announcement?.text ?? said) : said}
    </p>
  );
}
