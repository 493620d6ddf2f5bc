import { requestKey } from "./keys";
import type { Rest } from "./rest";
import type {
  AlertView,
  BooksView,
  HeldView,
  LedgerReport,
  LedgerSubject,
  NewTariff,
  PackageOffer,
  PackageShelf,
  ReversalView,
  RevenueLine,
  TariffPreset,
  TariffRow,
} from "./wire-billing";

/** What may be given back: part of a session or of a one-off charge, or what is left of a package. */
export type Refundable =
  { session_id: string; amount_minor: number } | { charge_id: string; amount_minor: number } | { package_id: string };

export interface NewPackageOffer {
  name: string;
  minutes: number;
  price_minor: number;
  currency: string;
  provider_bps?: number;
  valid_days?: number;
  then_money?: boolean;
}

/** What finance staff do: look into accounts, set tariffs, give back, and see that the books are right. */
export class Finance {
  constructor(readonly rest: Rest) {}

  async accounts(query = ""): Promise<HeldView[]> {
    const params = { query: query === "" ? null : query };
    return (await this.rest.get<{ accounts: HeldView[] }>("/finance/accounts", params)).accounts;
  }

  async packagesOf(userId: string): Promise<PackageShelf["packages"]> {
    return (await this.rest.get<PackageShelf>(`/finance/users/${encodeURIComponent(userId)}/packages`)).packages;
  }

  async tariffs(providerId: string): Promise<TariffRow[]> {
    const path = `/finance/providers/${encodeURIComponent(providerId)}/tariffs`;
    return (await this.rest.get<{ tariffs: TariffRow[] }>(path)).tariffs;
  }

  async presets(): Promise<TariffPreset[]> {
    return (await this.rest.get<{ presets: TariffPreset[] }>("/finance/presets")).presets;
  }

  async setTariff(tariff: NewTariff): Promise<void> {
    await this.rest.put("/finance/tariffs", tariff);
  }

  /** Pass the same key again when an attempt's outcome is unknown. */
  refund(what: Refundable, reason: string, key: string = requestKey()): Promise<ReversalView> {
    return this.rest.post<ReversalView>("/finance/reversals", { ...what, reason, request_key: key });
  }

  offerPackage(offer: NewPackageOffer): Promise<PackageOffer> {
    return this.rest.post<PackageOffer>("/finance/packages", offer);
  }

  books(): Promise<BooksView> {
    return this.rest.get<BooksView>("/finance/books");
  }

  async alerts(): Promise<AlertView[]> {
    return (await this.rest.get<{ alerts: AlertView[] }>("/finance/alerts")).alerts;
  }

  async revenue(): Promise<RevenueLine[]> {
    return (await this.rest.get<{ lines: RevenueLine[] }>("/finance/revenue")).lines;
  }

  ledger(what: LedgerSubject, key: string): Promise<LedgerReport> {
    return this.rest.get<LedgerReport>(`/finance/ledger/${what}/${encodeURIComponent(key)}`);
  }
}
