import type { Rest } from "./rest";
import type { AccessGrant, AccessView, RecordingPage, RecordingView } from "./wire";

export interface RecordingSearch {
  participant?: string;
  from_ms?: number | null;
  to_ms?: number | null;
  session?: string;
}

/** The recordings that staff search and play. Every access is audited before a byte flows. */
export class Recordings {
  constructor(readonly rest: Rest) {}

  search(search: RecordingSearch = {}, cursor: string | null = null, limit = 50): Promise<RecordingPage> {
    return this.rest.get<RecordingPage>("/recordings", { ...search, cursor, limit });
  }

  get(id: string): Promise<RecordingView> {
    return this.rest.get<RecordingView>(`/recordings/${encodeURIComponent(id)}`);
  }

  /** States the reason (10–500 characters); resolves with addresses that play without a header until they expire. */
  access(id: string, reason: string): Promise<AccessGrant> {
    return this.rest.post<AccessGrant>(`/recordings/${encodeURIComponent(id)}/access`, { reason });
  }

  async accesses(id: string): Promise<AccessView[]> {
    return (await this.rest.get<{ accesses: AccessView[] }>(`/recordings/${encodeURIComponent(id)}/accesses`)).accesses;
  }
}
