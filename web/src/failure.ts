import type { Failure } from "./types.ts";
import { waitInWords } from "./time.ts";

/** A request that was refused, or that got no answer. */
export class RequestError extends Error implements Failure {
  readonly code: string;
  readonly retryAfter?: number;

  constructor({ code, message, retryAfter }: Failure) {
    super(message);
    this.code = code;
    if (retryAfter !== undefined) this.retryAfter = retryAfter;
  }
}

/** No answer came in time; whether the server did it is unknown. */
export const TIMED_OUT = "TIMED_OUT";

/** The connection is gone; whether the server did it is unknown. */
export const DISCONNECTED = "DISCONNECTED";

/** Whether the server may have done it all the same; asking again tells. */
export function isUnconfirmed({ code }: Failure): boolean {
  return code === TIMED_OUT || code === "STORE_UNAVAILABLE" || code === "INTERNAL";
}

/** What went wrong, in words that help the person in front of the page. */
export function explain({ code, message, retryAfter }: Failure): string {
  const again = retryAfter === undefined ? "Please try again." : `Please try again in ${waitInWords(retryAfter)}.`;
  switch (code) {
    case TIMED_OUT:
      return "The server did not answer in time.";
    case DISCONNECTED:
      return "The connection was lost.";
    case "RATE_LIMITED":
      return `That was too fast for this server. ${again}`;
    case "STORE_UNAVAILABLE":
      return `The server cannot store messages at the moment. ${again}`;
    case "INVALID_PAYLOAD":
      return `The server did not accept this: ${message}.`;
    case "NOT_FOUND":
      return "This conversation does not exist, or you are not a member of it.";
    case "FORBIDDEN":
      return "You are not allowed to do that.";
    case "UNAUTHENTICATED":
      return "This server does not let guests in.";
    case "TOKEN_EXPIRED":
    case "TOKEN_REVOKED":
      return "Your access to this server has ended.";
    case "INTERNAL":
      return `The server made a mistake. ${again}`;
    default:
      return message === "" ? "Something went wrong." : message;
  }
}
