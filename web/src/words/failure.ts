import { DISCONNECTED, QUEUE_FULL, TIMED_OUT, isUnconfirmed } from "../../packages/client/src/index.ts";
import { waitInWords } from "./time.ts";
import type { Failure } from "../types.ts";

/** What went wrong, in words that help the person in front of the page. */
export function explain({ code, message, retryAfter }: Failure, about: "conversation" | "message" = "conversation"): string {
  const again = retryAfter === undefined ? "Please try again." : `Please try again in ${waitInWords(retryAfter)}.`;
  switch (code) {
    case TIMED_OUT:
      return "The server did not answer in time.";
    case DISCONNECTED:
      return "The connection was lost.";
    case QUEUE_FULL:
      return "Too many messages wait to be sent already.";
    case "RATE_LIMITED":
      return `That was too fast for this server. ${again}`;
    case "STORE_UNAVAILABLE":
      return `The server cannot store messages at the moment. ${again}`;
    case "INVALID_PAYLOAD":
      return `The server did not accept this: ${message}.`;
    case "NOT_FOUND":
      return about === "message" ? "This message is gone." : "This conversation does not exist, or you are not a member of it.";
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

/** What became of a request that has failed, and why: `undone` where that is known, `unknown` where nobody knows. */
export function outcome(failure: Failure, undone: string, unknown: string, about?: "message"): string {
  return `${isUnconfirmed(failure) ? unknown : undone} ${explain(failure, about)}`;
}

/** The same of an invitation. */
export function explainInvite(failure: Failure): string {
  if (failure.code === "NOT_FOUND") return "This invitation is not valid, or not any more. Ask whoever sent it for another.";
  if (failure.code === "CONFLICT") return "This conversation has as many members as it may have.";
  return explain(failure);
}
