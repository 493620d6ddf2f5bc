import type { ButtonHTMLAttributes, ReactNode } from "react";

import { go } from "../router";
import { Icon, type IconName } from "./icons";

type Look = "primary" | "secondary" | "quiet" | "danger";

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: Look;
  icon?: IconName;
  busy?: boolean;
  children?: ReactNode;
}

export function Button({ look = "secondary", icon, busy = false, children, className = "", disabled, ...rest }: Props) {
  return (
    <button
      type="button"
      className={`button button-${look} ${className}`}
      aria-busy={busy || undefined}
      disabled={disabled === true || busy}
      {...rest}
    >
      {busy ? (
        <span className="spinner" aria-hidden="true" />
      ) : icon === undefined ? null : (
        <Icon name={icon} size={18} />
      )}
      {children}
    </button>
  );
}

/** A button that shows only its icon; `label` is its name. */
export function IconButton({ label, icon, className = "", ...rest }: Props & { label: string; icon: IconName }) {
  return (
    <button type="button" className={`icon-button ${className}`} aria-label={label} title={label} {...rest}>
      <Icon name={icon} />
    </button>
  );
}

/** A link within the app. */
export function Link({
  to,
  children,
  className,
  current,
  ...rest
}: {
  to: string;
  children: ReactNode;
  className?: string;
  current?: boolean;
  "data-testid"?: string;
}) {
  return (
    <a
      href={to}
      className={className}
      aria-current={current === true ? "page" : undefined}
      onClick={(event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
        event.preventDefault();
        go(to);
      }}
      {...rest}
    >
      {children}
    </a>
  );
}
