import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, type DemoAccount, type TurnpikeError } from "@turnpike/sdk";
import { useState, type FormEvent } from "react";

import { t } from "../locale";
import { go } from "../router";
import { Avatar } from "../ui/avatar";
import { Button } from "../ui/button";
import { Failure } from "../ui/feedback";
import { Icon, Mark } from "../ui/icons";
import { useLoad } from "../ui/load";

export function SignIn() {
  const client = useTurnpike();
  const demo = useLoad(() => client.demoAccounts(), [client]);
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [working, setWorking] = useState<string | null>(null);
  const [error, setError] = useState<TurnpikeError | null>(null);

  const signIn = async (name: string, secret: string) => {
    setWorking(name);
    setError(null);
    try {
      await client.signIn(name, secret);
      if (location.pathname === "/sign-in") go("/");
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
    } finally {
      setWorking(null);
    }
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void signIn(email, password);
  };
  const accounts = demo.data ?? [];

  return (
    <div className="sign-in">
      <header className="pitch">
        <div className="brand brand-large">
          <Mark size={36} />
          <span>{t.product}</span>
        </div>
        <div className="pitch-words">
          <h1>{t.tagline}</h1>
          <p>{t.pitch}</p>
        </div>
        <Lanes />
      </header>
      <main className="sign-in-side" id="main">
        {error === null ? null : <Failure error={error} />}
        {accounts.length === 0 ? null : (
          <section aria-labelledby="demo-title">
            <h2 id="demo-title">{t.signIn.demoTitle}</h2>
            <p className="hint">{t.signIn.demoHint}</p>
            <ul className="demo-cards">
              {accounts.map((account, index) => (
                <li key={account.email}>
                  <DemoCard
                    account={account}
                    hue={(index * 67 + 160) % 360}
                    busy={working === account.email}
                    onPick={() => void signIn(account.email, account.password)}
                  />
                </li>
              ))}
            </ul>
            <p className="divider">{t.signIn.or}</p>
          </section>
        )}
        <form className="form" onSubmit={submit} aria-label={t.signIn.title}>
          {accounts.length === 0 ? <h2>{t.signIn.title}</h2> : null}
          <label className="field">
            <span className="label">{t.signIn.email}</span>
            <input
              type="email"
              name="email"
              autoComplete="username"
              required
              value={email}
              onChange={(e) => setEmail(e.target.value)}
            />
          </label>
          <label className="field">
            <span className="label">{t.signIn.password}</span>
            <input
              type="password"
              name="password"
              autoComplete="current-password"
              required
              value={password}
              onChange={(e) => setPassword(e.target.value)}
            />
          </label>
          <Button
            type="submit"
            look={accounts.length === 0 ? "primary" : "secondary"}
            busy={working !== null && working === email}
          >
            {t.signIn.submit}
          </Button>
        </form>
      </main>
    </div>
  );
}

function DemoCard({
  account,
  hue,
  busy,
  onPick,
}: {
  account: DemoAccount;
  hue: number;
  busy: boolean;
  onPick: () => void;
}) {
  return (
    <button
      type="button"
      className="demo-card"
      data-testid={`demo-card-${account.email}`}
      onClick={onPick}
      aria-busy={busy || undefined}
    >
      <Avatar user={{ name: account.name, avatar_hue: hue }} size={40} />
      <span className="demo-card-text">
        <strong>{account.name}</strong>
        <span>{account.note}</span>
      </span>
      <span className="tag">{t.roles[account.role] ?? account.role}</span>
      {busy ? <span className="spinner" aria-hidden="true" /> : <Icon name="play" size={16} />}
    </button>
  );
}

/** The road: lanes that meet at a barrier. Drawn, not loaded. */
function Lanes() {
  return (
    <svg className="lanes" viewBox="0 0 640 320" preserveAspectRatio="xMidYMax slice" aria-hidden="true">
      <path className="lane-edge" d="M-40 330 250 60M680 330 390 60" />
      <path className="lane-mid" d="M320 330V60" />
      <path className="lane-post" d="M120 320V168" />
      <path className="lane-arm" d="M120 176 560 92" />
      <path className="lane-arm-stripes" d="M120 176 560 92" />
      <circle className="lane-pivot" cx="120" cy="176" r="11" />
    </svg>
  );
}
