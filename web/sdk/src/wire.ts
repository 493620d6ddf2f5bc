/**
 * What Turnpike says and hears, as docs/protocol.md has it. Money is an integer in minor units, durations are
 * milliseconds, times are Unix milliseconds, ids are opaque. Field names are the wire's own.
 */

import type { ChargedEvent, ReceiptExtra } from "./wire-billing";

export type Role = "client" | "provider" | "compliance" | "finance" | "admin";
export type Presence = "online" | "busy" | "away" | "offline";
export type SessionKind = "chat" | "audio" | "video";
export type Source = "microphone" | "camera" | "screen";
export type RecordingState = "off" | "waiting_for_consent" | "recording" | "paused" | "stopped" | "failed";
export type SessionState =
  | "requested"
  | "ringing"
  | "accepted"
  | "connecting"
  | "active"
  | "interrupted"
  | "ended"
  | "declined"
  | "missed"
  | "cancelled"
  | "expired"
  | "failed";
export type EndReason =
  | "client_left"
  | "provider_left"
  | "balance_exhausted"
  | "dropped"
  | "never_connected"
  | "provider_declined"
  | "no_answer"
  | "client_cancelled"
  | "server_error";

export interface UserView {
  id: string;
  name: string;
  role: Role;
  headline?: string | null;
  avatar_hue?: number;
}

export interface MeView {
  user: UserView;
  email: string;
  currency: string;
  available?: boolean | null;
}

export interface SignedIn {
  access_token: string;
  expires_at_ms: number;
  me: MeView;
}

export interface DemoAccount {
  email: string;
  password: string;
  name: string;
  role: Role;
  note: string;
}

export interface RateView {
  kind: SessionKind;
  minor_per_minute: number;
  currency: string;
}

export interface ProviderView {
  user: UserView;
  presence: Presence;
  rates: RateView[];
}

export interface ConsentText {
  version: string;
  text: string;
}

export interface Consent {
  version: string;
  accepted: boolean;
}

export interface KindAsked {
  kind: SessionKind;
  rate: RateView;
  /** By which started steps it would be charged; 1: by the time. */
  step_ms: number;
  /** The user who has asked. */
  by: string;
  /** After that it counts as declined. */
  until_ms: number;
}

export interface SessionView {
  id: string;
  kind: SessionKind;
  state: SessionState;
  end_reason?: EndReason | null;
  client: UserView;
  provider: UserView;
  rate: RateView;
  recording: RecordingState;
  recording_id?: string | null;
  /** While the recording is paused: when it goes on by itself. */
  recording_paused_until_ms?: number | null;
  room_epoch: number;
  requested_at_ms: number;
  ring_until_ms?: number | null;
  accepted_at_ms?: number | null;
  started_at_ms?: number | null;
  ended_at_ms?: number | null;
  /** The books of an ended session are closed: its receipt is there. */
  settled?: boolean;
  /** Another kind that one side wants and that costs more: the other one agrees or not. */
  asked?: KindAsked | null;
  /** In lists: billable time, and what it came to; for the provider, what they earned. */
  billed_ms?: number | null;
  amount_minor?: number | null;
  revision: number;
}

export interface SessionPage {
  sessions: SessionView[];
  next_cursor?: string | null;
}

export interface ReceiptLine {
  label: string;
  amount_minor: number;
}

export interface ReceiptView {
  session_id: string;
  kind: SessionKind;
  client: UserView;
  provider: UserView;
  rate: RateView;
  billed_ms: number;
  charged_minor: number;
  currency: string;
  provider_minor?: number | null;
  platform_minor?: number | null;
  lines: ReceiptLine[];
  extras?: ReceiptExtra[];
  /** Charge and extras together; not for the provider. */
  total_minor?: number | null;
  prepaid_ms?: number;
  promo_minor?: number;
  started_at_ms: number | null;
  ended_at_ms: number | null;
  balance_after_minor?: number | null;
  recording_id?: string | null;
}

export interface ChatMessage {
  id: string;
  session_id: string;
  sender_id: string;
  client_message_id: string;
  text: string;
  sent_at_ms: number;
}

export interface ChatPage {
  messages: ChatMessage[];
  more: boolean;
}

export interface WalletView {
  balance_minor: number;
  available_minor: number;
  held_minor?: number;
  promo_minor?: number;
  currency: string;
}

export interface TransferView {
  id: string;
  kind: string;
  amount_minor: number;
  currency: string;
  balance_after_minor?: number | null;
  session_id?: string | null;
  memo?: string | null;
  at_ms: number;
}

export interface TransferPage {
  transfers: TransferView[];
  next_cursor?: string | null;
}

export interface WorkerView {
  worker_id: string;
  host: string;
  plane: string;
  rooms: number;
  /** 0–1: the share of its core in use. */
  load: number;
  draining: boolean;
  uptime_s: number;
  version: string;
}

export interface RoomTrack {
  mid: string;
  user_id: string;
  source: Source;
}

export type Muted = Partial<Record<Source, boolean>>;

/** As RTCIceServer has it. */
export interface IceServer {
  urls: string[];
  username?: string;
  credential?: string;
}

/** GET /api/v1/ice-servers */
export interface IceServersView {
  ice_servers: IceServer[];
  /** Credentials are good for so long. */
  ttl_s: number;
}

/** What the page plays and shows when the recording begins. */
export interface Announcement {
  version: string;
  text: string;
  /** The tenant's own spoken notice; null: a sound of the page's. */
  url: string | null;
}

/** The spoken notice, a sound, or the text alone because the browser let no sound out. */
export type AnnouncedHow = "clip" | "tone" | "shown";

export interface RoomAnswer {
  sdp: string;
  room_epoch: number;
  tracks: RoomTrack[];
  muted: Record<string, Muted>;
  /** For the next connection; credentials in it are limited in time. */
  ice_servers: IceServer[];
  announcement?: Announcement | null;
}

export interface CostEvent {
  session_id: string;
  live_ms: number;
  at_ms: number;
  running: boolean;
  cost_minor: number;
  currency: string;
  balance_minor?: number | null;
  earnings_minor?: number | null;
  remaining_ms?: number | null;
  /** Live time up to which nothing more is charged: free, on packages, or within a flat price. */
  free_until_ms?: number;
}

export interface WarningEvent {
  session_id: string;
  remaining_ms: number;
}

export interface MutedEvent {
  session_id: string;
  user_id: string;
  muted: Muted;
}

export interface QualitySide {
  user_id: string;
  connected: boolean;
  score: number;
  rtt_ms: number | null;
  loss_up: number;
  loss_down: number;
  jitter_ms: number;
  bitrate_up_bps: number;
  bitrate_down_bps: number;
  cause?: QualityCause;
  /** The other's videos that are not sent to this side for now, so that the sound gets through. */
  videos_paused?: Source[];
}

export type QualityCause =
  "none" | "loss_up" | "loss_down" | "delay" | "jitter" | "frozen" | "few_frames" | "video_paused" | "gone";

export interface QualitySummary {
  seconds: number;
  worst_mos: number;
  median_mos: number;
  /** 0–1: the share of the seconds with a score of 4 or 5. */
  good_ratio: number;
  frozen_ms: number;
}

/** One side's series: a point per step, null where nothing was measured. */
export interface ParticipantQuality {
  user_id: string;
  name: string;
  summary: QualitySummary | null;
  connected: (boolean | null)[];
  score: (number | null)[];
  mos: (number | null)[];
  cause: (QualityCause | null)[];
  rtt_ms: (number | null)[];
  loss_up: (number | null)[];
  loss_down: (number | null)[];
  bitrate_up_bps: (number | null)[];
  bitrate_down_bps: (number | null)[];
  frozen_ms: (number | null)[];
}

export interface SessionQuality {
  session_id: string;
  from_ms: number | null;
  step_ms: number;
  participants: ParticipantQuality[];
}

export interface QualityEvent {
  session_id: string;
  sides: QualitySide[];
}

export interface PresenceEvent {
  user_id: string;
  presence: Presence;
}

export interface WalletEvent {
  balance_minor: number;
  available_minor: number;
  held_minor?: number;
  promo_minor?: number;
  currency: string;
}

export interface LayersEvent {
  session_id: string;
  source: Source;
  rids: string[];
}

/** Every event that the server sends, by name. */
export interface ServerEvents {
  "session.ringing": SessionView;
  "session.updated": SessionView;
  "session.cost": CostEvent;
  "session.warning": WarningEvent;
  "session.charged": ChargedEvent;
  "room.muted": MutedEvent;
  "room.quality": QualityEvent;
  "room.layers": LayersEvent;
  "room.renegotiate": { session_id: string };
  "chat.message": ChatMessage;
  "presence.changed": PresenceEvent;
  "wallet.changed": WalletEvent;
}

/** States in which a session is still going on, or about to. */
export const LIVE_STATES: ReadonlySet<SessionState> = new Set([
  "requested",
  "ringing",
  "accepted",
  "connecting",
  "active",
  "interrupted",
]);

export function isLive(state: SessionState): boolean {
  return LIVE_STATES.has(state);
}
