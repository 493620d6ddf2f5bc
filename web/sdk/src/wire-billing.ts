/** What Turnpike says of money beyond the call itself: charges, packages, tariffs, the time line, and finance's views. */
import type { Role, SessionKind } from "./wire";

export interface KindTerms {
  kind: SessionKind;
  minor_per_minute: number;
  /** It is charged by started steps of this length, in advance; 1: by the time. */
  step_ms: number;
  /** What the provider earns of it; only for them. */
  earns_minor_per_minute?: number | null;
  currency: string;
  /** Whether who asks has it at once; else the other side is asked. */
  at_once: boolean;
}

/** GET /sessions/{id}/terms */
export interface SessionTerms {
  now: KindTerms;
  kinds: KindTerms[];
}

export type ChargeKind = "gift" | "premium_message" | "tip" | "product";

export interface ChargeView {
  id: string;
  kind: ChargeKind;
  amount_minor: number;
  promo_minor: number;
  currency: string;
  session_id?: string | null;
  memo: string;
  at_ms: number;
  balance_minor: number;
}

/** `session.charged`: for the provider, the amount is what they earn of it. */
export interface ChargedEvent {
  session_id: string;
  id: string;
  kind: ChargeKind;
  amount_minor: number;
  currency: string;
  memo: string;
  at_ms: number;
}

export interface PackageOffer {
  id: string;
  name: string;
  time_ms: number;
  price_minor: number;
  currency: string;
  kind?: SessionKind | null;
  valid_days: number;
  then_money: boolean;
}

export interface PackageView {
  id: string;
  name: string;
  total_ms: number;
  used_ms: number;
  reserved_ms: number;
  left_ms: number;
  kind?: SessionKind | null;
  provider_id?: string | null;
  then_money: boolean;
  expires_at_ms: number;
  price_minor: number;
  /** What would be given back of it at most: the price of the time that was not used. */
  unearned_minor: number;
  currency: string;
}

export interface PackageShelf {
  offers: PackageOffer[];
  packages: PackageView[];
}

export interface EarnedDay {
  day: string;
  amount_minor: number;
  sessions: number;
}

export interface EarningsView {
  currency: string;
  balance_minor: number;
  /** To be recovered of refunds that were not covered. */
  owed_minor: number;
  today_minor: number;
  month_minor: number;
  days: EarnedDay[];
}

export interface TariffView {
  kind: SessionKind;
  code: string;
  minor_per_minute: number;
  step_ms: number;
  free_ms: number;
  free_daily_ms: number;
  flat_minor: number;
  included_ms: number;
  minimum_minor: number;
  currency: string;
}

export interface TariffRow extends TariffView {
  id: number;
  provider_bps: number;
  valid_from_ms: number;
  valid_until_ms?: number | null;
  state: "current" | "announced" | "past";
}

export interface TariffPreset {
  name: string;
  minor_per_minute: number;
  provider_bps: number;
  step_ms: number;
  flat_minor: number;
  included_ms: number;
}

/** What a tariff is set to; what is left out is 0 (`step_ms`: 1, `code`: standard), and valid at once and for good. */
export type NewTariff = Partial<TariffView> & {
  provider_id: string;
  kind: SessionKind;
  currency: string;
  provider_bps: number;
  valid_from_ms?: number;
  valid_until_ms?: number;
};

export interface HeldView {
  user_id: string;
  name: string;
  email: string;
  role: Role;
  avatar_hue: number;
  currency: string;
  balance_minor: number;
  held_minor: number;
  promo_minor: number;
  owed_minor: number;
}

export interface ReversalView {
  id: string;
  amount_minor: number;
  provider_minor: number;
  receivable_minor: number;
  promo_minor: number;
  currency: string;
  reason: string;
  at_ms: number;
}

export interface AlertView {
  rule: string;
  means: string;
  user_id?: string | null;
  day: string;
  figure: number;
}

export interface Finding {
  name: string;
  proves: string;
  examined: number;
  disagreeing: number;
  rows: Record<string, unknown>[];
}

export interface BooksView {
  proved_at_ms?: number | null;
  disagreements?: number | null;
  waiting_for_evidence?: number | null;
  findings: Finding[];
}

export interface RevenueLine {
  day: string;
  currency: string;
  source: string;
  gross_minor: number;
  platform_minor: number;
}

export type LedgerSubject = "account" | "session" | "transfer";

export interface LedgerReport {
  what: LedgerSubject;
  key: string;
  report: Record<string, unknown>;
}

export interface StateSpan {
  state: string;
  what: string;
  by?: string | null;
  why: string;
  from_ms: number;
  to_ms?: number | null;
}

export interface KindSpan {
  kind: SessionKind;
  minor_per_minute: number;
  from_ms: number;
  live_ms: number;
}

export interface ConnectionMark {
  at_ms: number;
  user_id: string;
  state: "connecting" | "connected" | "reconnecting" | "moved" | "closed";
  reason: string;
  connect_ms?: number | null;
}

export interface EvidenceMinute {
  at_ms: number;
  epoch: number;
  live_ms: number;
  new_ms: number;
  /** Not for providers. */
  granted_ms?: number | null;
  /** For staff. */
  worker_id?: string | null;
  final: boolean;
}

export interface MoneyMark {
  at_ms: number;
  what: string;
  id: string;
  amount_minor: number;
  provider_minor?: number | null;
  through_ms?: number | null;
  memo: string;
}

export interface TimelineMark {
  at_ms: number;
  what: string;
  by?: string | null;
  why: string;
  figure?: number | null;
}

/** GET /sessions/{id}/timeline */
export interface Timeline {
  session_id: string;
  from_ms: number;
  to_ms: number;
  states: StateSpan[];
  kinds: KindSpan[];
  connections: ConnectionMark[];
  evidence: EvidenceMinute[];
  money: MoneyMark[];
  marks: TimelineMark[];
  meter?: {
    currency: string;
    billed_ms: number;
    /** Not for providers. */
    granted_ms?: number | null;
    held_minor?: number | null;
    amount_minor: number;
    provider_minor?: number | null;
    /** What can still be given back of the session itself; for staff, once it is settled. */
    refundable_minor?: number | null;
  } | null;
}

/** Something else that was paid in a session, or given back of it (negative). */
export interface ReceiptExtra {
  id: string;
  kind: string;
  label: string;
  amount_minor: number;
  at_ms: number;
}
