import { useTurnpike } from "@turnpike/react";
import type { ProviderView, TariffRow } from "@turnpike/sdk";
import { useState } from "react";

import { exactly, money } from "../format";
import { t } from "../locale";
import { Button } from "../ui/button";
import { Empty, Failure, Notice, Skeleton } from "../ui/feedback";
import { useLoad } from "../ui/load";
import { PackageDialog } from "./package-dialog";
import { TariffDialog } from "./tariff-dialog";

/** What a provider charges, has charged and will charge; and the way to change it. */
export function Tariffs() {
  const client = useTurnpike();
  const providers = useLoad(() => client.providers(), [client]);
  const [chosen, setChosen] = useState<string | null>(null);
  const provider = providers.data?.find((one) => one.user.id === chosen) ?? providers.data?.[0] ?? null;
  const [selling, setSelling] = useState(false);
  const [sold, setSold] = useState<string | null>(null);
  return (
    <section className="block" aria-label={t.finance.tabs.tariffs}>
      {providers.error === null ? null : <Failure error={providers.error} retry={providers.reload} />}
      {sold === null ? null : <Notice tone="good">{t.finance.tariffs.packageSaved(sold)}</Notice>}
      <div className="search-line">
        <label className="field">
          <span className="label">{t.finance.tariffs.provider}</span>
          <select
            value={provider?.user.id ?? ""}
            onChange={(event) => setChosen(event.target.value)}
            data-testid="tariff-provider"
          >
            {providers.data?.map((one) => (
              <option key={one.user.id} value={one.user.id}>
                {one.user.name}
              </option>
            ))}
          </select>
        </label>
        <Button icon="plus" onClick={() => setSelling(true)} data-testid="sell-package">
          {t.finance.tariffs.packageAdd}
        </Button>
      </div>
      {provider === null ? null : <History key={provider.user.id} provider={provider} />}
      {selling ? (
        <PackageDialog
          currency={provider?.rates[0]?.currency ?? "USD"}
          onClose={() => setSelling(false)}
          onSold={(name) => {
            setSold(name);
            setSelling(false);
          }}
        />
      ) : null}
    </section>
  );
}

function History({ provider }: { provider: ProviderView }) {
  const { finance } = useTurnpike();
  const { data, error, reload } = useLoad(() => finance.tariffs(provider.user.id), [finance, provider]);
  const [editing, setEditing] = useState<TariffRow | "new" | null>(null);
  const [saved, setSaved] = useState(false);
  return (
    <>
      {error === null ? null : <Failure error={error} retry={reload} />}
      {saved ? <Notice tone="good">{t.finance.tariffs.saved}</Notice> : null}
      {data === null ? (
        error === null ? (
          <Skeleton rows={3} />
        ) : null
      ) : data.length === 0 ? (
        <Empty icon="tag" title={t.finance.tariffs.none}>
          {t.finance.tariffs.noneHint}
        </Empty>
      ) : (
        <table className="table" data-testid="tariff-table">
          <thead>
            <tr>
              <th scope="col">{t.finance.tariffs.kind}</th>
              <th scope="col">{t.finance.tariffs.price}</th>
              <th scope="col" className="number wide-only">
                {t.finance.tariffs.share}
              </th>
              <th scope="col">{t.finance.tariffs.valid}</th>
              <th scope="col" />
            </tr>
          </thead>
          <tbody>
            {data.map((row) => (
              <tr key={row.id} className={row.state === "past" ? "past" : undefined} data-state={row.state}>
                <td>
                  {t.kinds[row.kind]}
                  {row.code === "standard" ? null : <span className="cell-sub">{row.code}</span>}
                </td>
                <td>
                  {priceOf(row)}
                  <span className="cell-sub">{detailOf(row)}</span>
                </td>
                <td className="number wide-only">{row.provider_bps / 100} %</td>
                <td>
                  <span className={`stage-word stage-word-${row.state === "current" ? "ready" : "finishing"}`}>
                    {t.finance.tariffs.state[row.state]}
                  </span>
                  <span className="cell-sub">
                    {row.state === "announced"
                      ? t.finance.tariffs.from(exactly(row.valid_from_ms))
                      : t.finance.tariffs.since(exactly(row.valid_from_ms))}
                    {row.valid_until_ms == null ? "" : ` ${t.finance.tariffs.until(exactly(row.valid_until_ms))}`}
                  </span>
                </td>
                <td className="number">
                  {row.state === "current" ? (
                    <Button look="quiet" onClick={() => setEditing(row)} data-testid={`tariff-change-${row.kind}`}>
                      {t.finance.tariffs.change}
                    </Button>
                  ) : null}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <div>
        <Button icon="plus" onClick={() => setEditing("new")} data-testid="tariff-new">
          {t.finance.tariffs.add}
        </Button>
      </div>
      {editing === null ? null : (
        <TariffDialog
          provider={provider}
          base={editing === "new" ? null : editing}
          onClose={() => setEditing(null)}
          onSaved={() => {
            setEditing(null);
            setSaved(true);
            reload();
          }}
        />
      )}
    </>
  );
}

function priceOf(row: TariffRow): string {
  const parts = [];
  if (row.flat_minor > 0) {
    parts.push(t.finance.tariffs.flatFor(money(row.flat_minor, row.currency), row.included_ms / 60_000));
  }
  if (row.minor_per_minute > 0) parts.push(money(row.minor_per_minute, row.currency) + t.common.perMinute);
  return parts.join(", ");
}

function detailOf(row: TariffRow): string {
  const parts = row.minor_per_minute > 0 ? [t.finance.tariffs.steps(row.step_ms)] : [];
  if (row.free_ms > 0) parts.push(t.finance.tariffs.freeFor(row.free_ms / 1000));
  if (row.minimum_minor > 0) parts.push(t.finance.tariffs.atLeast(money(row.minimum_minor, row.currency)));
  return parts.join(" · ");
}
