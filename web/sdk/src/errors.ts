/** What every promise of the SDK rejects with: the server's own code and message, or a local code for what is local. */
export class TurnpikeError extends Error {
  override readonly name = "TurnpikeError";

  constructor(
    /** For programs: `insufficient_funds`, `not_settled`, `offline`, `camera_denied`, … */
    readonly code: string,
    message: string,
    /** HTTP status where there is one, else 0. */
    readonly status = 0,
    readonly details: Readonly<Record<string, unknown>> = {},
    /** Names the request in the server's logs. */
    readonly requestId: string | null = null,
  ) {
    super(message);
  }
}

interface WireError {
  code?: unknown;
  message?: unknown;
  details?: unknown;
  request_id?: unknown;
}

/** Turns the wire's error object into a TurnpikeError; anything malformed becomes `server_error`. */
export function errorFromWire(wire: unknown, status = 0): TurnpikeError {
  const error = (typeof wire === "object" && wire !== null ? wire : {}) as WireError;
  return new TurnpikeError(
    typeof error.code === "string" ? error.code : "server_error",
    typeof error.message === "string" ? error.message : "The server answered with something unexpected.",
    status,
    typeof error.details === "object" && error.details !== null ? (error.details as Record<string, unknown>) : {},
    typeof error.request_id === "string" ? error.request_id : null,
  );
}

/** The TurnpikeError in whatever was thrown. */
export function asTurnpikeError(thrown: unknown): TurnpikeError {
  if (thrown instanceof TurnpikeError) return thrown;
  return new TurnpikeError("client_error", thrown instanceof Error ? thrown.message : String(thrown));
}
