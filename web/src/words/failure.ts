import { DISCONNECTED, QUEUE_FULL, RequestError, TIMED_OUT, isUnconfirmed } from "../../packages/client/src/index.ts";
import { waitInWords } from "./time.ts";
import type { Failure } from "../types.ts";

/** Returns the text of a failure for the user. */
export function explain({ code, message, retryAfter }: Failure, about: "conversation" | "message" = "conversation"): string {
  const again = retryAfter === undefined ? "Please try again." : `Please try again in ${waitInWords(retryAfter)}.`;
  switch (code) {
    case TIMED_OUT:
      return "The server did not answer in time.";
    case DISCONNECTED:
      return "The connection was lost.";
    case QUEUE_FULL:
      return "Too many messages are waiting to be sent.";
    case "RATE_LIMITED":
      return `You are sending too fast. ${again}`;
    case "STORE_UNAVAILABLE":
      return `The server cannot store messages at the moment. ${again}`;
    case "INVALID_PAYLOAD":
      return `The server did not accept this: ${message}.`;
    case "NOT_FOUND":
      return about === "message" ? "This message no longer exists." : "This conversation does not exist, or you are not a member of it.";
    case "FORBIDDEN":
      return "You are not allowed to do that.";
    case "UNAUTHENTICATED":
      return "This server did not accept your credentials. Please sign in.";
    case "TOKEN_EXPIRED":
      return "Your session has expired. Sign in again to continue: what you wrote is kept.";
    case "TOKEN_REVOKED":
      return "Your access was revoked. Sign in again, or ask the operator of this server.";
    case "INTERNAL":
      return `The server had an internal error. ${again}`;
    default:
      return message === "" ? "Something went wrong." : message;
  }
}

/**
 * Returns the outcome and the reason of a failed request: `undone` if it was refused, `unknown` if
 * the server may have processed it.
 */
export function outcome(failure: Failure, undone: string, unknown: string, about?: "message"): string {
  return `${isUnconfirmed(failure) ? unknown : undone} ${explain(failure, about)}`;
}

/** Returns an error that is a `RequestError`, and rethrows all other errors, which are bugs. */
export function asFailure(error: unknown): Failure {
  if (error instanceof RequestError) return error;
  throw error;
}
