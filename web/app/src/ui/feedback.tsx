import type { TurnpikeError } from "@turnpike/sdk";
import type { ReactNode } from "react";

import { t } from "../locale";
import { Button } from "./button";
import { Icon, type IconName } from "./icons";

/** What to tell a person about an error: our own words for the codes we know, else the server's. */
export function explain(error: TurnpikeError): string {
  return t.errors[error.code] ?? t.devices[error.code] ?? error.message;
}

export function Notice({
  tone = "error",
  children,
  action,
}: {
  tone?: "error" | "warn" | "info" | "good";
  children: ReactNode;
  action?: ReactNode;
}) {
  return (
    <div className={`notice notice-${tone}`} role={tone === "error" ? "alert" : "status"}>
      <Icon name={tone === "good" ? "check" : "alert"} size={18} />
      <div className="notice-text">{children}</div>
      {action}
    </div>
  );
}

/** An error with a way on. */
export function Failure({ error, retry }: { error: TurnpikeError; retry?: () => void }) {
  const action = retry === undefined ? undefined : <Button onClick={retry}>{t.common.retry}</Button>;
  return <Notice action={action}>{explain(error)}</Notice>;
}

export function Empty({
  icon,
  title,
  children,
  action,
}: {
  icon: IconName;
  title: string;
  children?: ReactNode;
  action?: ReactNode;
}) {
  return (
    <div className="empty">
      <span className="empty-icon">
        <Icon name={icon} size={24} />
      </span>
      <h2>{title}</h2>
      {children === undefined ? null : <p>{children}</p>}
      {action}
    </div>
  );
}

/** Grey shapes where rows will be. */
export function Skeleton({ rows = 4, height = 64 }: { rows?: number; height?: number }) {
  return (
    <div className="skeletons" role="status" aria-label={t.common.loading}>
      {Array.from({ length: rows }, (_, i) => (
        <span key={i} className="skeleton" style={{ height, animationDelay: `${i * 90}ms` }} />
      ))}
    </div>
  );
}
