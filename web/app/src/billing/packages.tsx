import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, requestKey, type PackageOffer, type PackageView, type TurnpikeError } from "@turnpike/sdk";
import { useRef, useState } from "react";

import { day, duration, money } from "../format";
import { t } from "../locale";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Failure, Notice, Skeleton } from "../ui/feedback";
import { useLoad } from "../ui/load";

/** Time bought ahead: what is left of it, and what is on sale. */
export function Packages() {
  const { wallet } = useTurnpike();
  const shelf = useLoad(() => wallet.packages(), [wallet, wallet.view?.held_minor === 0]);
  const [chosen, setChosen] = useState<PackageOffer | null>(null);
  const [bought, setBought] = useState<string | null>(null);
  const { data, error, reload } = shelf;
  if (data !== null && data.offers.length === 0 && data.packages.length === 0) return null;
  return (
    <section className="block" aria-labelledby="packages">
      <h2 id="packages">{t.purse.packages}</h2>
      {error === null ? null : <Failure error={error} retry={reload} />}
      {bought === null ? null : <Notice tone="good">{t.purse.bought(bought)}</Notice>}
      {data === null ? (
        error === null ? (
          <Skeleton rows={1} height={80} />
        ) : null
      ) : (
        <>
          {data.packages.length === 0 ? <p className="hint">{t.purse.noPackages}</p> : null}
          <ul className="tickets">
            {data.packages.map((one) => (
              <PackageTicket key={one.id} pack={one} />
            ))}
          </ul>
          {data.offers.length === 0 ? null : (
            <>
              <h3>{t.purse.onSale}</h3>
              <ul className="offers">
                {data.offers.map((offer) => (
                  <li key={offer.id} className="offer">
                    <span className="offer-words">
                      <strong>{offer.name}</strong>
                      <span className="soft">
                        {duration(offer.time_ms)} ·{" "}
                        {t.purse.perMinute(
                          money(Math.round((offer.price_minor * 60_000) / offer.time_ms), offer.currency),
                        )}{" "}
                        · {offer.kind == null ? t.purse.anyKind : t.purse.forKind(offer.kind)}
                      </span>
                    </span>
                    <Button onClick={() => setChosen(offer)} data-testid="buy-package">
                      {t.purse.buy(money(offer.price_minor, offer.currency))}
                    </Button>
                  </li>
                ))}
              </ul>
            </>
          )}
        </>
      )}
      {chosen === null ? null : (
        <BuyDialog
          offer={chosen}
          onClose={() => setChosen(null)}
          onBought={() => {
            setBought(chosen.name);
            setChosen(null);
            reload();
          }}
        />
      )}
    </section>
  );
}

function PackageTicket({ pack }: { pack: PackageView }) {
  const left = pack.left_ms + pack.reserved_ms;
  const share = left / pack.total_ms;
  return (
    <li className="pack" data-testid="package" data-left={pack.left_ms}>
      <span className="pack-words">
        <strong>{pack.name}</strong>
        <span className="soft">
          {pack.kind == null ? t.purse.anyKind : t.purse.forKind(pack.kind)} · {t.purse.until(day(pack.expires_at_ms))}
        </span>
      </span>
      <span className="pack-left">
        <strong>{t.purse.left(duration(left))}</strong>
        {pack.reserved_ms > 0 ? <span className="soft">{t.purse.inUse}</span> : null}
      </span>
      <span className="pack-track" aria-hidden="true">
        <span style={{ width: `${share * 100}%` }} />
      </span>
    </li>
  );
}

function BuyDialog({ offer, onClose, onBought }: { offer: PackageOffer; onClose: () => void; onBought: () => void }) {
  const { wallet } = useTurnpike();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<TurnpikeError | null>(null);
  const key = useRef(requestKey());
  const price = money(offer.price_minor, offer.currency);
  const buy = async () => {
    setBusy(true);
    setError(null);
    try {
      await wallet.buyPackage(offer.id, key.current);
      onBought();
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
      setBusy(false);
    }
  };
  return (
    <Dialog title={t.purse.confirmTitle} onClose={onClose} className="dialog-small">
      <p>{t.purse.confirm(offer.name, price)}</p>
      <p className="hint">{offer.then_money ? t.purse.thenMoney : t.purse.thenEnds}</p>
      {error === null ? null : <Failure error={error} />}
      <footer className="dialog-actions">
        <Button onClick={onClose}>{t.common.cancel}</Button>
        <Button look="primary" busy={busy} onClick={() => void buy()} autoFocus data-testid="buy-confirm">
          {t.purse.buy(price)}
        </Button>
      </footer>
    </Dialog>
  );
}
