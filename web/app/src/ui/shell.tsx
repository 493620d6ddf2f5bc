import { useTurnpike } from "@turnpike/react";
import type { Role } from "@turnpike/sdk";
import { useEffect, useRef, useState, type ReactNode } from "react";

import { Incoming } from "../call/incoming";
import { money } from "../format";
import { t } from "../locale";
import { go } from "../router";
import { setTheme, theme, type Theme } from "../theme";
import { Avatar } from "./avatar";
import { Button, Link } from "./button";
import { Icon, Mark, type IconName } from "./icons";

interface Place {
  to: string;
  icon: IconName;
  label: string;
}

const SESSIONS: Place = { to: "/sessions", icon: "list", label: t.nav.sessions };
const ALL_SESSIONS: Place = { to: "/sessions", icon: "list", label: t.nav.allSessions };
const FINANCE: Place = { to: "/finance", icon: "wallet", label: t.finance.nav };
const RECORDINGS: Place = { to: "/recordings", icon: "film", label: t.nav.recordings };

const PLACES: Record<Role, readonly Place[]> = {
  client: [
    { to: "/providers", icon: "people", label: t.nav.providers },
    SESSIONS,
    { to: "/wallet", icon: "wallet", label: t.nav.wallet },
  ],
  provider: [
    { to: "/desk", icon: "phone", label: t.nav.desk },
    SESSIONS,
    { to: "/wallet", icon: "wallet", label: t.nav.earnings },
  ],
  compliance: [RECORDINGS, ALL_SESSIONS],
  finance: [FINANCE, ALL_SESSIONS],
  admin: [{ to: "/operations", icon: "server", label: t.nav.admin }, ALL_SESSIONS, RECORDINGS, FINANCE],
};

/** The frame around every page: navigation, balance, who is signed in, and what concerns all pages. */
export function Shell({ path, role, children }: { path: string; role: Role; children: ReactNode }) {
  const client = useTurnpike();
  const current = client.current;
  const inCall = current !== null && path === `/session/${current.id}`;
  const ringingMe = current !== null && current.role === "provider" && current.view.state === "ringing";
  const main = useRef<HTMLElement>(null);
  const shown = useRef(path);
  useEffect(() => {
    // A new page: keyboards and screen readers go on from its beginning.
    if (shown.current !== path) main.current?.focus({ preventScroll: true });
    shown.current = path;
  }, [path]);
  const immersed = inCall && !ringingMe;
  return (
    <div className={immersed ? "shell immersed" : "shell"}>
      <a className="skip" href="#main">
        {t.common.skip}
      </a>
      {immersed ? null : (
        <header className="topbar">
          <Link to="/" className="brand">
            <Mark />
            <span>{t.product}</span>
          </Link>
          <nav className="nav" aria-label={t.nav.main}>
            {PLACES[role].map((place) => (
              <Link
                key={place.to}
                to={place.to}
                className="nav-link"
                current={path === place.to || path.startsWith(`${place.to}/`)}
              >
                <Icon name={place.icon} size={18} />
                <span>{place.label}</span>
              </Link>
            ))}
          </nav>
          <Balance role={role} />
          <UserMenu />
        </header>
      )}
      {client.state === "reconnecting" ? (
        <div className="banner banner-warn" role="status">
          <span className="spinner" aria-hidden="true" />
          {t.common.reconnecting}
        </div>
      ) : null}
      {current !== null && !inCall && !ringingMe ? (
        <div className="banner banner-call" role="status">
          {t.common.callWaits(current.other.name)}
          <Button look="primary" onClick={() => go(`/session/${current.id}`)}>
            {t.common.returnToCall}
          </Button>
        </div>
      ) : null}
      <main id="main" ref={main} className={immersed ? "main-immersed" : "main"} tabIndex={-1}>
        {children}
      </main>
      {ringingMe ? <Incoming key={current.id} session={current} /> : null}
    </div>
  );
}

function Balance({ role }: { role: Role }) {
  const { wallet } = useTurnpike();
  const view = wallet.view;
  if ((role !== "client" && role !== "provider") || view === null) return <span className="topbar-gap" />;
  return (
    <Link to="/wallet" className="topbar-balance" data-testid="wallet-balance">
      <span className="visually-hidden">{role === "client" ? t.wallet.available : t.wallet.earned}</span>
      {money(role === "client" ? view.available_minor : view.balance_minor, view.currency)}
    </Link>
  );
}

const THEMES: readonly { choice: Theme; icon: IconName }[] = [
  { choice: "auto", icon: "auto" },
  { choice: "light", icon: "sun" },
  { choice: "dark", icon: "moon" },
];

function UserMenu() {
  const client = useTurnpike();
  const [open, setOpen] = useState(false);
  const [shown, setShown] = useState(theme);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const outside = (event: PointerEvent) => {
      if (!(box.current?.contains(event.target as Node) ?? false)) setOpen(false);
    };
    const escape = (event: KeyboardEvent) => event.key === "Escape" && setOpen(false);
    addEventListener("pointerdown", outside);
    addEventListener("keydown", escape);
    return () => {
      removeEventListener("pointerdown", outside);
      removeEventListener("keydown", escape);
    };
  }, [open]);
  const me = client.me;
  if (me === null) return null;
  return (
    <div className="user-menu" ref={box}>
      <button
        type="button"
        className="user-button"
        aria-expanded={open}
        aria-label={me.user.name}
        onClick={() => setOpen(!open)}
        data-testid="user-menu"
      >
        <Avatar user={me.user} size={36} />
      </button>
      {open ? (
        <div className="menu">
          <div className="menu-who">
            <strong>{me.user.name}</strong>
            <span>{t.roles[me.user.role]}</span>
            <span className="menu-mail">{me.email}</span>
          </div>
          <fieldset className="segments">
            <legend className="label">{t.common.theme}</legend>
            {THEMES.map(({ choice, icon }) => (
              <label key={choice} className="segment">
                <input
                  type="radio"
                  name="theme"
                  checked={shown === choice}
                  onChange={() => {
                    setTheme(choice);
                    setShown(choice);
                  }}
                />
                <Icon name={icon} size={18} />
                <span className="visually-hidden">{t.common.themes[choice]}</span>
              </label>
            ))}
          </fieldset>
          <Button
            icon="exit"
            look="quiet"
            data-testid="sign-out"
            onClick={() => {
              client.signOut();
              go("/sign-in");
            }}
          >
            {t.common.signOut}
          </Button>
        </div>
      ) : null}
    </div>
  );
}
