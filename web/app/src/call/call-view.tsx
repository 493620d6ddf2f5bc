import type { Call } from "@turnpike/react";
import type { Session } from "@turnpike/sdk";
import { useCallback, useEffect, useState } from "react";

import { KindAsked, KindDialog } from "../billing/kind-control";
import { Charged, TipDialog } from "../billing/tip";
import { t } from "../locale";
import { messageSound } from "../ring";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { explain } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { ChatPanel } from "./chat-panel";
import { Controls } from "./controls";
import { DeviceDialog } from "./device-dialog";
import { Meter, MoneyBar } from "./meter";
import { Quality, QualityNotice } from "./quality";
import { RecordingAnnouncement, RecordingState } from "./recording-state";
import { useShortcuts } from "./shortcuts";
import { Stage } from "./stage";

type Side = "none" | "chat";
type Asking = "none" | "devices" | "hangup" | "recording" | "kind" | "tip";

/** The call: the other side large, oneself small, the meter, the controls, and the chat beside it. */
export function CallView({ session, call }: { session: Session; call: Call }) {
  const { actions, messages, unread } = call;
  const [side, setSide] = useState<Side>(session.view.kind === "chat" ? "chat" : "none");
  const [asking, setAsking] = useState<Asking>("none");
  const { chat } = session;
  const toggleChat = useCallback(() => setSide((s) => (s === "chat" ? "none" : "chat")), []);

  useEffect(() => {
    if (side === "chat") chat.markRead();
    return chat.on("message", () => (side === "chat" ? chat.markRead() : messageSound()));
  }, [chat, side]);
  useShortcuts({
    m: () => void actions.toggleMicrophone(),
    v: () => void actions.toggleCamera(),
    s: () => void actions.toggleScreen(),
    c: toggleChat,
    r: () => setAsking("recording"),
    e: () => setAsking("hangup"),
  });

  return (
    <div
      className={`call call-${session.view.kind} ${side === "chat" ? "call-with-chat" : ""}`}
      aria-label={t.call.region}
      role="region"
    >
      <div className="stage">
        <Stage session={session} />
        <header className="call-head">
          <div className="call-who">
            <h1>{session.other.name}</h1>
            <Quality session={session} />
          </div>
          <RecordingState
            session={session}
            open={asking === "recording"}
            onOpen={(open) => setAsking(open ? "recording" : "none")}
          />
          <Meter session={session} />
        </header>
        <RecordingAnnouncement session={session} />
        <Alerts session={session} error={call.error === null ? null : explain(call.error)} />
        <div className="call-foot">
          <QualityNotice session={session} />
          <Charged session={session} />
          <KindAsked session={session} />
          <MoneyBar session={session} />
          <Controls
            session={session}
            actions={actions}
            unread={unread}
            chatOpen={side === "chat"}
            onChat={toggleChat}
            onDevices={() => setAsking("devices")}
            onKind={() => setAsking("kind")}
            onTip={() => setAsking("tip")}
            onHangUp={() => void actions.hangUp()}
          />
        </div>
      </div>
      {side === "chat" ? (
        <ChatPanel session={session} messages={messages} onSend={actions.send} onClose={toggleChat} />
      ) : null}
      {asking === "devices" ? <DeviceDialog session={session} onClose={() => setAsking("none")} /> : null}
      {asking === "kind" ? <KindDialog session={session} onClose={() => setAsking("none")} /> : null}
      {asking === "tip" ? <TipDialog session={session} onClose={() => setAsking("none")} /> : null}
      {asking === "hangup" ? (
        <HangUpDialog onStay={() => setAsking("none")} onHangUp={() => void actions.hangUp()} />
      ) : null}
    </div>
  );
}

/** What hinders the user's own devices, and failed actions: one line each, above the controls. */
function Alerts({ session, error }: { session: Session; error: string | null }) {
  const { microphone, camera } = session.room.local;
  const lines = [
    ...[microphone, camera].map((track) => (track.error === null ? null : explain(track.error))),
    session.room.error === null ? null : explain(session.room.error),
    error,
  ].filter((line): line is string => line !== null);
  if (lines.length === 0) return null;
  return (
    <div className="call-alerts" role="alert">
      {[...new Set(lines)].map((line) => (
        <p key={line}>
          <Icon name="alert" size={18} />
          {line}
        </p>
      ))}
    </div>
  );
}

function HangUpDialog({ onStay, onHangUp }: { onStay: () => void; onHangUp: () => void }) {
  return (
    <Dialog title={t.call.hangUpTitle} onClose={onStay} className="dialog-small">
      <p>{t.call.hangUpBody}</p>
      <footer className="dialog-actions">
        <Button onClick={onStay}>{t.call.stay}</Button>
        <Button look="danger" icon="hangUp" onClick={onHangUp} autoFocus>
          {t.call.hangUp}
        </Button>
      </footer>
    </Dialog>
  );
}
