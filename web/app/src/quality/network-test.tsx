import { useTurnpike } from "@turnpike/react";
import {
  asTurnpikeError,
  NetworkTest,
  type NetworkTestResult,
  type NetworkTestStep,
  type TurnpikeError,
} from "@turnpike/sdk";
import { useEffect, useRef, useState } from "react";

import { t } from "../locale";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Failure } from "../ui/feedback";

/** "Test your connection": a button, and the dialog in which the test runs. */
export function NetworkTestButton() {
  const [open, setOpen] = useState(false);
  return (
    <>
      <Button look="quiet" onClick={() => setOpen(true)} data-testid="network-test">
        {t.networkTest.button}
      </Button>
      {open ? <NetworkTestDialog onClose={() => setOpen(false)} /> : null}
    </>
  );
}

function NetworkTestDialog({ onClose }: { onClose: () => void }) {
  const client = useTurnpike();
  const [step, setStep] = useState<NetworkTestStep>("connecting");
  const [result, setResult] = useState<NetworkTestResult | null>(null);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const [round, setRound] = useState(0);
  const signal = useRef({ request: <T,>(message: string, body: object) => client.link().request<T>(message, body) });

  useEffect(() => {
    let test: NetworkTest | null = null;
    let current = true;
    setResult(null);
    setError(null);
    setStep("connecting");
    const run = async () => {
      // An installation without TURN has none to test.
      const known = await client.rest.get<{ ice_servers: RTCIceServer[] }>("/ice-servers").catch(() => null);
      if (!current) return null;
      test = new NetworkTest(signal.current, known?.ice_servers ?? []);
      return test.run((now) => current && setStep(now));
    };
    run().then(
      (found) => current && setResult(found),
      (thrown: unknown) => current && setError(asTurnpikeError(thrown)),
    );
    return () => {
      current = false;
      test?.stop();
    };
  }, [client, round]);

  const again = () => setRound((n) => n + 1);
  return (
    <Dialog title={t.networkTest.title} onClose={onClose} className="dialog-small">
      <div data-testid="network-test-dialog" aria-live="polite">
        {error !== null ? (
          <Failure error={error} retry={again} />
        ) : result === null ? (
          <p className="test-step" role="status">
            <span className="spinner" aria-hidden="true" />
            {t.networkTest.steps[step]}
          </p>
        ) : (
          <Result result={result} />
        )}
      </div>
      <footer className="dialog-actions">
        <Button onClick={again} disabled={result === null && error === null}>
          {t.networkTest.again}
        </Button>
        <Button look="primary" onClick={onClose}>
          {t.common.close}
        </Button>
      </footer>
    </Dialog>
  );
}

function Result({ result }: { result: NetworkTestResult }) {
  const figures: [string, string | null][] = [
    [t.networkTest.paths, paths(result)],
    [t.networkTest.up, megabits(result.up_bps)],
    [t.networkTest.down, result.down_bps === null ? null : t.networkTest.atLeast(megabits(result.down_bps) ?? "")],
    [t.networkTest.rtt, result.rtt_ms === null ? null : `${Math.round(result.rtt_ms)} ms`],
    [t.networkTest.jitter, result.jitter_ms === null ? null : `${Math.round(result.jitter_ms)} ms`],
    [t.networkTest.lossUp, percent(result.loss_up)],
    [t.networkTest.lossDown, percent(result.loss_down)],
  ];
  const good = result.advice[0] === "good";
  return (
    <>
      <ul
        className={good ? "test-advice test-good" : "test-advice"}
        data-testid="network-test-advice"
        data-advice={result.advice.join(" ")}
      >
        {result.advice.map((code) => (
          <li key={code}>{t.networkTest.advice[code]}</li>
        ))}
      </ul>
      <dl className="test-figures">
        {figures.map(([label, value]) =>
          value === null ? null : (
            <div key={label}>
              <dt>{label}</dt>
              <dd>{value}</dd>
            </div>
          ),
        )}
      </dl>
    </>
  );
}

function paths({ paths: found }: NetworkTestResult): string | null {
  const words = Object.entries(found).map(([path, works]) =>
    works ? t.networkTest.works(path.toUpperCase()) : t.networkTest.blocked(path.toUpperCase()),
  );
  return words.length === 0 ? null : words.join(", ");
}

function megabits(bps: number | null): string | null {
  return bps === null ? null : `${(bps / 1e6).toFixed(1)} Mb/s`;
}

function percent(share: number | null): string | null {
  return share === null ? null : `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}
