import type { Failure } from "./types.ts";

/** What went wrong, as the server reports it in a refused request, or this package with the codes below. */
export type { Failure };

/** A request that was refused, or that got no answer. */
export class RequestError extends Error implements Failure {
  declare readonly code: string;
  declare readonly retryAfter?: number;
  declare readonly details?: unknown;

  constructor({ code, message, retryAfter, details }: Failure) {
    super(message);
    Object.assign(this, { name: "RequestError", code, retryAfter, details });
  }
}

/** Returns a failure as plain data, for storages and other tabs. */
export function plain({ code, message, retryAfter, details }: Failure): Failure {
  return { code, message, ...(retryAfter !== undefined && { retryAfter }), ...(details !== undefined && { details }) };
}

/** No answer came in time; whether the server did it is unknown. */
export const TIMED_OUT = "TIMED_OUT";

/** The connection is gone, or there is none; whether the server did it is unknown. */
export const DISCONNECTED = "DISCONNECTED";

/** The queue takes nothing more; what was to be sent is in the hands of the caller. */
export const QUEUE_FULL = "QUEUE_FULL";

/** The credentials that a connection needs could not be had. */
export const NO_CREDENTIALS = "NO_CREDENTIALS";

/** The server is within reach, and the browser may not read its answers: it does not allow the origin of the page. */
export const CORS_REFUSED = "CORS_REFUSED";

/** Whether the server may have done it all the same; asking again with the same id tells. */
export function isUnconfirmed({ code }: Failure): boolean {
  return code === TIMED_OUT || code === "STORE_UNAVAILABLE" || code === "INTERNAL";
}

/** Requests reject with a failure; anything else is a mistake of a program and is not to be hidden. */
export function asFailure(error: unknown): RequestError {
  if (error instanceof RequestError) return error;
  throw error;
}
