import { Emitter } from "./emitter";
import { requestKey } from "./keys";
import type { Rest } from "./rest";
import type { TransferPage, WalletEvent, WalletView } from "./wire";

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

  take(event: WalletEvent): void {
    this.#set({ ...this.#view, ...event });
  }

  #set(view: WalletView): WalletView {
    this.#view = view;
    this.emit("changed", null);
    return view;
  }
}
