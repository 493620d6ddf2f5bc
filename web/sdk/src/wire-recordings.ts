/** Recordings on the wire, as docs/protocol.md has them: the catalogue, leave to play, jobs, holds, policies, reports. */
import type { Role, SessionKind, Source } from "./wire";

export type RecordingStage = "recording" | "finishing" | "ready" | "failed" | "expired" | "erased";
export type RecordingDuty = "viewer" | "exporter" | "hold_manager" | "key_admin";
export type RecordedKind = Exclude<SessionKind, "chat">;
export type Layout = "side_by_side" | "speaker" | "audio";

export interface RecordingParticipant {
  id: string;
  name: string;
  role: Role;
}

export interface RecordingStreamView {
  n: number;
  participant_id: string;
  /** `audio`, or `video` with sound where there is any. */
  kind: string;
  source?: Source;
  offset_ms: number;
  duration_ms: number;
  width?: number | null;
  height?: number | null;
  video_codec?: string | null;
  bytes: number;
  sha256?: string | null;
}

/** A time in which nothing of a participant was recorded, from the recording's start. */
export interface RecordingGap {
  participant_id: string;
  from_ms: number;
  to_ms: number;
}

/** A part of the call that could not be stored, from the recording's start; null: nothing is there before, or after. */
export interface MissingPart {
  epoch: number;
  failure: string | null;
  from_ms: number | null;
  to_ms: number | null;
}

export interface RecordingQuality {
  worst_mos: number;
  median_mos: number;
  good_ratio: number;
}

/** One file made of a whole recording. */
export interface CompositionView {
  id: string;
  layout: Layout;
  content_type: string;
  bytes: number;
  duration_ms: number;
  width: number | null;
  height: number | null;
}

export interface RecordingView {
  id: string;
  session_id: string;
  state: RecordingStage;
  failure?: string | null;
  kind: RecordedKind;
  participants: RecordingParticipant[];
  started_at_ms: number;
  duration_ms: number | null;
  bytes: number;
  streams: RecordingStreamView[];
  gaps: RecordingGap[];
  /** Of one that failed; what else there is of it is played and exported once it is signed. */
  missing?: MissingPart[];
  hashes_ok?: boolean | null;
  signed: boolean;
  /** Not deleted before; later while it is held. */
  retain_until_ms: number;
  held: boolean;
  tags: string[];
  quality: RecordingQuality | null;
  compositions: CompositionView[];
  /** There are a thumbnail and a waveform. */
  preview: boolean;
  /** What whoever asks is entrusted with. */
  may: RecordingDuty[];
}

export interface RecordingPage {
  recordings: RecordingView[];
  next_cursor?: string | null;
}

export interface AccessStream {
  n: number;
  participant_id: string;
  url: string;
  content_type: string;
  offset_ms: number;
  duration_ms: number;
}

/** Leave to play: every address works without a header until it expires. */
export interface AccessGrant {
  expires_at_ms: number;
  /** Whether compositions may be saved, not only played. */
  may_download: boolean;
  streams: AccessStream[];
  manifest_url: string;
  story_url: string;
  /** null: not made (yet), as the waveform. */
  thumbnail_url: string | null;
  waveform_url: string | null;
  compositions: (CompositionView & { url: string })[];
  /** Answers this grant anew, with what was finished meanwhile. */
  media_url: string;
}

export interface AccessView {
  n?: number;
  at_ms: number;
  user: { id: string; name: string };
  action: string;
  reason?: string | null;
  details?: Record<string, unknown>;
}

export interface AccessPage {
  accesses: AccessView[];
  next_cursor?: string | null;
}

/** What happened in the session, and what was written: Unix milliseconds. */
export interface RecordingStory {
  events: { at_ms: number; what: string; by?: string; why?: string; state?: string }[];
  chat: { at_ms: number; by?: string; from?: string; text?: string; body?: string }[];
}

/** How loud each was: a number per step from the recording's start, 0 (silence) to 255, linear. */
export interface Waveform {
  step_ms: number;
  duration_ms: number;
  participants: { participant_id: string; name: string; peaks: number[] }[];
}

export type JobState = "queued" | "running" | "done" | "failed" | "cancelled";

/** Work on a recording that takes a while. */
export interface JobView {
  id: string;
  recording_id: string;
  kind: "export" | "composition" | "preview";
  layout: Layout | null;
  state: JobState;
  /** 0–100 */
  progress: number;
  failure: string | null;
  attempts: number;
  /** null: made by policy. */
  by: { id: string; name: string } | null;
  created_at_ms: number;
  finished_at_ms: number | null;
}

export interface DownloadGrant {
  url: string;
  bytes: number;
  expires_at_ms: number;
}

export interface HoldView {
  id: string;
  recording_id: string;
  reason: string;
  placed_by: string;
  placed_at_ms: number;
  released_by: string | null;
  released_at_ms: number | null;
  release_reason: string | null;
}

/** When participants may play their own recordings: from so many hours after the call, for so many days. */
export interface OwnRule {
  after_h: number;
  for_days: number;
  /** Whether they may save files made of it as well. */
  download: boolean;
}

export interface RecordingPolicy {
  kind: RecordedKind;
  keep_days: number;
  is_default: boolean;
  /** Thumbnail and waveform are made of every recording. */
  preview: boolean;
  compose: Layout[];
  own: { client: OwnRule | null; provider: OwnRule | null };
  /** Those in the call hear that it is recorded. */
  announce: boolean;
  /** The tenant's own spoken notice; null: a sound, and the text. */
  announce_url: string | null;
}

export type PolicyChange = { kind: RecordedKind; reason: string } & Partial<
  Pick<RecordingPolicy, "keep_days" | "preview" | "compose" | "own" | "announce">
> & { announce_url?: string }; // empty: none any more

/** What a host platform signs with that attests consent. */
export interface PlatformKey {
  id: string;
  name: string;
  created_at_ms: number;
  revoked_at_ms: number | null;
}

/** A participant's own recording. `why` tells what stands in the way of playing it. */
export interface OwnRecordingView {
  id: string;
  session_id: string;
  kind: RecordedKind;
  state: RecordingStage;
  started_at_ms: number;
  duration_ms: number | null;
  participants: RecordingParticipant[];
  available: boolean;
  why: "not_yet" | "over" | "not_ready" | "gone" | null;
  available_from_ms: number;
  available_until_ms: number;
}

export interface AccessReportEntry {
  n: number;
  at_ms: number;
  user: { id: string; name: string };
  action: string;
  /** What it is about; of policies and keys of platforms, their name. */
  recording_id: string;
  reason: string | null;
  details: Record<string, unknown>;
}

export interface AccessReport {
  entries: AccessReportEntry[];
  next_cursor?: string | null;
}

/** A recording that is gone, and what proves it. */
export interface LifecycleEntry {
  n: number;
  at_ms: number;
  recording_id: string;
  what: "expired" | "erased";
  by: { id: string; name: string };
  reason: string | null;
  /** Objects deleted. */
  objects: number;
  root_key: string | null;
  root_sha256: string | null;
  /** The hash of the entry of the audit log that tells it. */
  entry_sha256: string;
  /** The signed object that holds the audit log's head after it; null: not yet. */
  anchor_key: string | null;
  /** No object of it is left. */
  swept: boolean;
}

export interface LifecycleReport {
  entries: LifecycleEntry[];
  upcoming: { recording_id: string; retain_until_ms: number; held: boolean }[];
  next_cursor?: string | null;
}

export interface ConsentTextView {
  version: string;
  text: string;
  of: "turnpike" | "platform";
  since_ms: number;
}
