import { errorFromWire, TurnpikeError } from "./errors";

const TIMEOUT_MS = 15_000;

/** The REST side, `/api/v1`. Holds the access token; knows no routes. */
export class Rest {
  token: string | null = null;
  /** Called when the server refuses the token: the sign-in is over. */
  onUnauthorized: (() => void) | null = null;

  constructor(readonly baseUrl: string) {}

  get<T>(path: string, query: Record<string, string | number | null | undefined> = {}): Promise<T> {
    const search = new URLSearchParams();
    for (const [key, value] of Object.entries(query)) {
      if (value !== null && value !== undefined && value !== "") search.set(key, String(value));
    }
    const text = search.toString();
    return this.#send<T>("GET", text === "" ? path : `${path}?${text}`);
  }

  post<T>(path: string, body?: unknown): Promise<T> {
    return this.#send<T>("POST", path, body);
  }

  put<T>(path: string, body: unknown): Promise<T> {
    return this.#send<T>("PUT", path, body);
  }

  async #send<T>(method: string, path: string, body?: unknown): Promise<T> {
    const headers: Record<string, string> = {};
    const token = this.token;
    if (token !== null) headers.Authorization = `Bearer ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response: Response;
    try {
      response = await fetch(`${this.baseUrl}/api/v1${path}`, {
        method,
        headers,
        signal: AbortSignal.timeout(TIMEOUT_MS),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch {
      throw new TurnpikeError("offline", "Turnpike can't be reached. Check your connection and try again.");
    }
    const answer: unknown = await response.json().catch(() => null);
    if (response.ok) return answer as T;
    if (response.status === 401 && token !== null && token === this.token) this.onUnauthorized?.();
    throw errorFromWire((answer as { error?: unknown } | null)?.error, response.status);
  }
}
