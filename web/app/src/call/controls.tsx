import type { Call } from "@turnpike/react";
import type { Session } from "@turnpike/sdk";

import { t } from "../locale";
import { Icon, type IconName } from "../ui/icons";

interface Props {
  session: Session;
  actions: Call["actions"];
  unread: number;
  chatOpen: boolean;
  onChat: () => void;
  onDevices: () => void;
  onKind: () => void;
  onTip: () => void;
  onHangUp: () => void;
}

export function Controls({ session, actions, unread, chatOpen, onChat, onDevices, onKind, onTip, onHangUp }: Props) {
  const { microphone, camera, screen } = session.room.local;
  const video = session.view.kind === "video";
  const canShare = video && navigator.mediaDevices?.getDisplayMedia !== undefined;
  return (
    <div className="controls" role="toolbar" aria-label={t.call.shortcuts}>
      {session.view.kind === "chat" ? null : (
        <Control
          icon={microphone.enabled ? "microphone" : "microphoneOff"}
          label={microphone.enabled ? t.call.mute : t.call.unmute}
          short={microphone.enabled ? t.call.short.mute : t.call.short.unmute}
          shortcut="M"
          off={!microphone.enabled}
          onClick={() => void actions.toggleMicrophone()}
          testId="mute"
        />
      )}
      {video ? (
        <Control
          icon={camera.enabled ? "camera" : "cameraOff"}
          label={camera.enabled ? t.call.cameraOff : t.call.cameraOn}
          short={t.call.short.camera}
          shortcut="V"
          off={!camera.enabled}
          onClick={() => void actions.toggleCamera()}
          testId="camera"
        />
      ) : null}
      {canShare ? (
        <Control
          icon="screen"
          label={screen.enabled ? t.call.unshare : t.call.share}
          short={t.call.short.share}
          shortcut="S"
          lit={screen.enabled}
          onClick={() => void actions.toggleScreen()}
          testId="screen"
        />
      ) : null}
      <Control
        icon="chat"
        label={t.call.chat}
        short={t.call.short.chat}
        shortcut="C"
        lit={chatOpen}
        onClick={onChat}
        testId="chat"
        badge={unread}
      />
      <Control
        icon="swap"
        label={t.kindChange.control}
        short={t.kindChange.control}
        title={t.kindChange.open}
        onClick={onKind}
        testId="kind"
      />
      {session.role === "client" ? (
        <Control
          icon="gift"
          label={t.tip.control}
          short={t.tip.control}
          title={t.tip.open}
          onClick={onTip}
          testId="tip"
        />
      ) : null}
      <Control
        icon="settings"
        label={t.call.devices}
        short={t.call.short.devices}
        onClick={onDevices}
        testId="devices"
      />
      <Control
        icon="hangUp"
        label={t.call.hangUp}
        short={t.call.short.hangUp}
        shortcut="E"
        danger
        onClick={onHangUp}
        testId="hangup"
      />
    </div>
  );
}

interface ControlProps {
  icon: IconName;
  label: string;
  short: string;
  testId: string;
  onClick: () => void;
  shortcut?: string;
  /** What it does, where the label is only its name. */
  title?: string;
  off?: boolean;
  lit?: boolean;
  danger?: boolean;
  badge?: number;
}

function Control({
  icon,
  label,
  short,
  testId,
  onClick,
  shortcut,
  title,
  off = false,
  lit = false,
  danger = false,
  badge = 0,
}: ControlProps) {
  const look = danger ? "control-danger" : off ? "control-off" : lit ? "control-lit" : "";
  return (
    <button
      type="button"
      className={`control ${look}`}
      onClick={onClick}
      data-testid={testId}
      aria-label={badge > 0 ? `${label}, ${t.chat.unread(badge)}` : (title ?? label)}
      aria-keyshortcuts={shortcut}
      title={shortcut === undefined ? (title ?? label) : `${label} (${shortcut})`}
    >
      <span className="control-icon">
        <Icon name={icon} size={22} />
        {badge > 0 ? <span className="badge">{badge > 99 ? "99+" : badge}</span> : null}
      </span>
      <span className="control-label control-long">{label}</span>
      <span className="control-label control-short">{short}</span>
    </button>
  );
}
