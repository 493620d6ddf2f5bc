import { Emitter } from "./emitter";
import { requestKey } from "./keys";
import type { Rest } from "./rest";
import type { TransferPage, WalletEvent, WalletView } from "./wire";
import type { ChargeKind, ChargeView, EarningsView, PackageShelf, PackageView } from "./wire-billing";

export interface NewCharge {
  kind: ChargeKind;
  amount_minor: number;
  currency: string;
  provider_id: string;
  session_id?: string;
  memo?: string;
}

/** A client's money, or a provider's earnings. Follows `wallet.changed`. */
export class Wallet extends Emitter<{ changed: null }> {
  #view: WalletView | null = null;

  constructor(readonly rest: Rest) {
    super();
  }

  get view(): WalletView | null {
    return this.#view;
  }

  async load(): Promise<WalletView> {
    return this.#set(await this.rest.get<WalletView>("/wallet"));
  }

  transfers(cursor: string | null = null, limit = 50): Promise<TransferPage> {
    return this.rest.get<TransferPage>("/wallet/transfers", { cursor, limit });
  }

  /** Adds money through the demo's test processor. Pass the same key again when an attempt's outcome is unknown. */
  async topUp(amountMinor: number, key: string = requestKey()): Promise<WalletView> {
    return this.#set(
      await this.rest.post<WalletView>("/wallet/topups", { amount_minor: amountMinor, request_key: key }),
    );
  }

  /** Provider: what was earned by day. */
  earnings(): Promise<EarningsView> {
    return this.rest.get<EarningsView>("/wallet/earnings");
  }

  /** Client: prepaid time on sale, and what is left of what was bought. */
  packages(): Promise<PackageShelf> {
    return this.rest.get<PackageShelf>("/packages");
  }

  buyPackage(offerId: string, key: string = requestKey()): Promise<PackageView> {
    return this.rest.post<PackageView>("/packages", { offer_id: offerId, request_key: key });
  }

  /** Client: a gift, a tip or the like, charged at once. */
  pay(charge: NewCharge, key: string = requestKey()): Promise<ChargeView> {
    return this.rest.post<ChargeView>("/charges", { ...charge, request_key: key });
  }

  /** A statement as a file; days are such as 2027-01-31, both included. */
  statement(from: string, to: string, format: "csv" | "json"): Promise<string> {
    return this.rest.text("/wallet/statement", { from, to, format });
  }

  take(event: WalletEvent): void {
    this.#set({ ...this.#view, ...event });
  }

  #set(view: WalletView): WalletView {
    this.#view = view;
    this.emit("changed", null);
    return view;
  }
}
