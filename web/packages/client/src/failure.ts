import type { Failure } from "./types.ts";

/**
 * An error, reported by the server in a refused request, or by this package with the codes below.
 */
export type { Failure };

/** A request that was refused or not answered. */
export class RequestError extends Error implements Failure {
  declare readonly code: string;
  declare readonly retryAfter?: number;
  declare readonly details?: unknown;

  constructor({ code, message, retryAfter, details }: Failure) {
    super(message);
    Object.assign(this, { name: "RequestError", code, retryAfter, details });
  }
}

/** Returns a failure as plain data, for storage and for other tabs. */
export function plain({ code, message, retryAfter, details }: Failure): Failure {
  return { code, message, ...(retryAfter !== undefined && { retryAfter }), ...(details !== undefined && { details }) };
}

/** The server did not answer in time. Whether it processed the request is unknown. */
export const TIMED_OUT = "TIMED_OUT";

/** The client is not connected. Whether the server processed the request is unknown. */
export const DISCONNECTED = "DISCONNECTED";

/** The queue is full. The request was not added. */
export const QUEUE_FULL = "QUEUE_FULL";

/** The credentials for a connection could not be obtained. */
export const NO_CREDENTIALS = "NO_CREDENTIALS";

/**
 * The server is reachable, but does not allow the origin of the page, so that the browser blocks
 * its answers.
 */
export const CORS_REFUSED = "CORS_REFUSED";

/** Whether the server may have processed the request. Repeating it with the same id is safe. */
export function isUnconfirmed({ code }: Failure): boolean {
  return code === TIMED_OUT || code === "STORE_UNAVAILABLE" || code === "INTERNAL";
}

/** Returns an error that is a `RequestError`, and rethrows all other errors, which are bugs. */
export function asFailure(error: unknown): RequestError {
  if (error instanceof RequestError) return error;
  throw error;
}
