import { errorFromWire, TurnpikeError } from "./errors";

const TIMEOUT_MS = 15_000;
const TEXT_TIMEOUT_MS = 60_000;

type Query = Record<string, string | number | null | undefined>;

/** The REST side, `/api/v1`. Holds the access token; knows no routes. */
export class Rest {
  token: string | null = null;
  /** Called when the server refuses the token: the sign-in is over. */
  onUnauthorized: (() => void) | null = null;

  constructor(readonly baseUrl: string) {}

  get<T>(path: string, query: Query = {}): Promise<T> {
    return this.#send<T>("GET", withQuery(path, query));
  }

  post<T>(path: string, body?: unknown): Promise<T> {
    return this.#send<T>("POST", path, body);
  }

  put<T>(path: string, body: unknown): Promise<T> {
    return this.#send<T>("PUT", path, body);
  }

  /** What is not JSON, such as a table with commas. */
  async text(path: string, query: Query = {}): Promise<string> {
    return (await this.page(path, query)).text;
  }

  /** The same in pages, with where the next one begins; null: it was the last. */
  async page(path: string, query: Query = {}): Promise<{ text: string; next: string | null }> {
    const address = `/api/v1${withQuery(path, query)}`;
    const response = await this.#fetch("GET", address, this.token, undefined, TEXT_TIMEOUT_MS);
    return { text: await response.text(), next: response.headers.get("Turnpike-Next-Cursor") };
  }

  /** An address that carries its own leave, such as those of a grant. */
  async granted<T>(address: string): Promise<T> {
    return (await (await this.#fetch("GET", address, null)).json()) as T;
  }

  async #send<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.#fetch(method, `/api/v1${path}`, this.token, body);
    return (await response.json().catch(() => null)) as T;
  }

  /** An answer that is no error. */
  async #fetch(method: string, path: string, token: string | null, body?: unknown, timeoutMs = TIMEOUT_MS) {
    const headers: Record<string, string> = {};
    if (token !== null) headers.Authorization = `Bearer ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response: Response;
    try {
      response = await fetch(`${this.baseUrl}${path}`, {
        method,
        headers,
        signal: AbortSignal.timeout(timeoutMs),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch {
      throw new TurnpikeError("offline", "Turnpike can't be reached. Check your connection and try again.");
    }
    if (response.ok) return response;
    if (response.status === 401 && token !== null && token === this.token) this.onUnauthorized?.();
    const answer = (await response.json().catch(() => null)) as { error?: unknown } | null;
    throw errorFromWire(answer?.error, response.status);
  }
}

function withQuery(path: string, query: Query): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") search.set(key, String(value));
  }
  const text = search.toString();
  return text === "" ? path : `${path}?${text}`;
}
