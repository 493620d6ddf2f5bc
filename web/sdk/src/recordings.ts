import type { Rest } from "./rest";
import type {
  AccessGrant,
  AccessPage,
  AccessReport,
  ConsentTextView,
  DownloadGrant,
  HoldView,
  JobView,
  Layout,
  LifecycleReport,
  OwnRecordingView,
  PlatformKey,
  PolicyChange,
  RecordedKind,
  RecordingPage,
  RecordingPolicy,
  RecordingStage,
  RecordingStory,
  RecordingView,
  Waveform,
} from "./wire-recordings";

/** What is looked for; what is left out, null or empty: anything. */
export interface RecordingSearch {
  /** Part of a name, or an id. */
  participant?: string;
  session?: string;
  from_ms?: number | null;
  to_ms?: number | null;
  kind?: RecordedKind | null;
  state?: RecordingStage | null;
  min_duration_ms?: number | null;
  max_duration_ms?: number | null;
  tag?: string;
  /** The worst of the opinion scores, 1–4.5. */
  min_mos?: number | null;
  max_mos?: number | null;
  /** Only those under a legal hold. */
  held?: boolean;
}

export interface ReportSearch {
  from_ms?: number | null;
  to_ms?: number | null;
  user?: string;
  recording?: string;
  action?: string;
}

const CSV_ROWS = 5_000;
const of = (id: string, rest = "") => `/recordings/${encodeURIComponent(id)}${rest}`;
const job = (id: string, rest = "") => `/jobs/${encodeURIComponent(id)}${rest}`;

/**
 * Recordings, for the staff entrusted with them and for participants with their own. Reasons have 10–500 characters; they
 * are written to the audit log before anything is shown or changed.
 */
export class Recordings {
  constructor(readonly rest: Rest) {}

  search(search: RecordingSearch = {}, cursor: string | null = null, limit = 50): Promise<RecordingPage> {
    const held = search.held === true ? 1 : null;
    return this.rest.get<RecordingPage>("/recordings", { ...search, held, cursor, limit });
  }

  get(id: string): Promise<RecordingView> {
    return this.rest.get<RecordingView>(of(id));
  }

  /** Resolves with addresses that play without a header until they expire. */
  access(id: string, reason: string): Promise<AccessGrant> {
    return this.rest.post<AccessGrant>(of(id, "/access"), { reason });
  }

  /** The same grant, with what was finished since it was given. */
  refreshed(grant: AccessGrant): Promise<AccessGrant> {
    return this.rest.granted<AccessGrant>(grant.media_url);
  }

  /** The manifests of its parts, as they were stored. */
  manifest(grant: AccessGrant): Promise<object> {
    return this.rest.granted<object>(grant.manifest_url);
  }

  story(grant: AccessGrant): Promise<RecordingStory> {
    return this.rest.granted<RecordingStory>(grant.story_url);
  }

  /** null: none was made (yet). */
  waveform(grant: AccessGrant): Promise<Waveform | null> {
    return grant.waveform_url === null ? Promise.resolve(null) : this.rest.granted<Waveform>(grant.waveform_url);
  }

  /** Who did what with it, newest first. */
  accesses(id: string, cursor: string | null = null, limit = 50): Promise<AccessPage> {
    return this.rest.get<AccessPage>(of(id, "/accesses"), { cursor, limit });
  }

  setTags(id: string, tags: readonly string[]): Promise<RecordingView> {
    return this.rest.put<RecordingView>(of(id, "/tags"), { tags });
  }

  async tags(): Promise<{ tag: string; count: number }[]> {
    return (await this.rest.get<{ tags: { tag: string; count: number }[] }>("/recordings/tags")).tags;
  }

  // --- jobs

  async jobs(id: string): Promise<JobView[]> {
    return (await this.rest.get<{ jobs: JobView[] }>(of(id, "/jobs"))).jobs;
  }

  /** A signed bundle with everything in it. */
  export(id: string, reason: string): Promise<JobView> {
    return this.rest.post<JobView>(of(id, "/exports"), { reason });
  }

  /** One file of all sides. One that is there, or on its way, is given instead of a second. */
  compose(id: string, layout: Layout, reason: string): Promise<JobView> {
    return this.rest.post<JobView>(of(id, "/compositions"), { layout, reason });
  }

  /** Thumbnail and waveform. */
  makePreview(id: string, reason: string): Promise<JobView> {
    return this.rest.post<JobView>(of(id, "/preview"), { reason });
  }

  /** `reason`: needed for what somebody else asked for. */
  cancelJob(id: string, reason = ""): Promise<JobView> {
    return this.rest.post<JobView>(job(id, "/cancel"), { reason });
  }

  /** `reason`: needed for what somebody else asked for. */
  retryJob(id: string, reason = ""): Promise<JobView> {
    return this.rest.post<JobView>(job(id, "/retry"), { reason });
  }

  downloadJob(id: string): Promise<DownloadGrant> {
    return this.rest.post<DownloadGrant>(job(id, "/download"), {});
  }

  // --- holds, erasure, policies

  async holds(id: string): Promise<HoldView[]> {
    return (await this.rest.get<{ holds: HoldView[] }>(of(id, "/holds"))).holds;
  }

  placeHold(id: string, reason: string): Promise<HoldView> {
    return this.rest.post<HoldView>(of(id, "/holds"), { reason });
  }

  releaseHold(holdId: string, reason: string): Promise<HoldView> {
    return this.rest.post<HoldView>(`/holds/${encodeURIComponent(holdId)}/release`, { reason });
  }

  /** For good: the key is destroyed. */
  erase(id: string, reason: string): Promise<null> {
    return this.rest.post<null>(of(id, "/erase"), { reason });
  }

  async policies(): Promise<RecordingPolicy[]> {
    return (await this.rest.get<{ policies: RecordingPolicy[] }>("/recordings/policies")).policies;
  }

  /** For recordings that begin from now on; what is left out stays. */
  async setPolicy(change: PolicyChange): Promise<RecordingPolicy[]> {
    return (await this.rest.put<{ policies: RecordingPolicy[] }>("/recordings/policies", change)).policies;
  }

  async resetPolicy(kind: RecordedKind, reason: string): Promise<RecordingPolicy[]> {
    const path = `/recordings/policies/${kind}/reset`;
    return (await this.rest.post<{ policies: RecordingPolicy[] }>(path, { reason })).policies;
  }

  async consentTexts(): Promise<ConsentTextView[]> {
    return (await this.rest.get<{ texts: ConsentTextView[] }>("/recordings/consent-texts")).texts;
  }

  // --- reports

  accessReport(search: ReportSearch = {}, cursor: string | null = null, limit = 50): Promise<AccessReport> {
    return this.rest.get<AccessReport>("/recordings/reports/access", { ...search, cursor, limit });
  }

  lifecycleReport(search: ReportSearch = {}, cursor: string | null = null, limit = 50): Promise<LifecycleReport> {
    return this.rest.get<LifecycleReport>("/recordings/reports/lifecycle", { ...search, cursor, limit });
  }

  /** A whole report as a spreadsheet takes it, however long: page by page, one header. */
  async reportCsv(report: "access" | "lifecycle", search: ReportSearch = {}): Promise<string> {
    const pages: string[] = [];
    let cursor: string | null = null;
    do {
      const query = { ...search, format: "csv", limit: CSV_ROWS, cursor };
      const page: { text: string; next: string | null } = await this.rest.page(`/recordings/reports/${report}`, query);
      pages.push(pages.length === 0 ? page.text : page.text.slice(page.text.indexOf("\n") + 1));
      cursor = page.next;
    } while (cursor !== null);
    return pages.join("");
  }

  // --- host platforms that attest consent, for administrators

  async platformKeys(): Promise<PlatformKey[]> {
    return (await this.rest.get<{ keys: PlatformKey[] }>("/platform-keys")).keys;
  }

  /** The secret is told this once. */
  makePlatformKey(name: string, reason: string): Promise<PlatformKey & { secret: string }> {
    return this.rest.post<PlatformKey & { secret: string }>("/platform-keys", { name, reason });
  }

  /** What is signed with it from now on is refused; what was attested before stands. */
  revokePlatformKey(id: string, reason: string): Promise<PlatformKey> {
    return this.rest.post<PlatformKey>(`/platform-keys/${encodeURIComponent(id)}/revoke`, { reason });
  }

  // --- a participant's own

  /** The caller's own recording of a session; null: there is none, or the policy does not let them have it. */
  async ownOf(sessionId: string): Promise<OwnRecordingView | null> {
    const query = { session: sessionId, limit: 1 };
    const page = await this.rest.get<{ recordings: OwnRecordingView[] }>("/me/recordings", query);
    return page.recordings[0] ?? null;
  }

  ownAccess(id: string): Promise<AccessGrant> {
    return this.rest.post<AccessGrant>(`/me/recordings/${encodeURIComponent(id)}/access`, {});
  }
}
