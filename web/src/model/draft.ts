import type { Entry } from "../../packages/client/src/index.ts";
import { outcome } from "../words/failure.ts";
import type { Failure, Message } from "../types.ts";

export type Delivery =
  | { state: "waiting" }
  /** The server's rate limit delays the message. */
  | { state: "held" }
  | { state: "sending" }
  /** Sent but not confirmed: it may be stored. It is sent again after a delay. */
  | { state: "unconfirmed" }
  /** With `isAlone`, the server would accept the message without its reply reference. */
  | { state: "failed"; reason: string; isAlone?: true };

/** An own message that the server has not confirmed yet. */
export interface Draft {
  readonly clientMessageId: string;
  readonly content: string;
  /** The id of the message that it replies to. */
  readonly replyTo: string | undefined;
  /**
   * When it was written. The message contains this time, which identifies it among messages that
   * are caught up on.
   */
  readonly writtenAt: string;
  readonly delivery: Delivery;
  /** Whether it can be changed or withdrawn, because the server does not have it. */
  readonly isUnsent: boolean;
}

/**
 * Returns the unconfirmed messages of a conversation, except those that are already stored but
 * whose confirmation was lost.
 */
export function draftsOf(entries: readonly Entry[], conversationId: string, messages: readonly Message[], ownId: string, isReady: boolean): Draft[] {
  const own = messages.filter(({ userId }) => userId === ownId);
  // A rate limit delays all entries of the queue.
  const waiting = !isReady ? "waiting" : entries.some(({ state, failure }) => state === "queued" && failure) ? "held" : "sending";
  return entries
    .filter(({ event, payload }) => event === "message" && payload["conversationId"] === conversationId)
    .map((entry) => ({ attempts: entry.attempts, draft: draftOf(entry, waiting) }))
    .filter(({ attempts, draft }) => attempts === 0 || !own.some((message) => isSame(draft, message)))
    .map(({ draft }) => draft);
}

/**
 * Whether the server does not have an entry: it was never sent, or was refused by the rate limit.
 */
export function isUnsent({ state, attempts, failure }: Entry): boolean {
  return state === "queued" && (attempts === 0 || failure !== undefined);
}

function draftOf(entry: Entry, waiting: "waiting" | "held" | "sending"): Draft {
  const { content, metadata, replyTo } = entry.payload as { content: string; metadata?: { timestamp?: string }; replyTo?: string };
  const delivery = deliveryOf(entry, waiting);
  return {
    clientMessageId: entry.id,
    content,
    replyTo,
    writtenAt: metadata?.timestamp ?? entry.writtenAt,
    delivery,
    isUnsent: delivery.state !== "sending" && isUnsent(entry),
  };
}

function deliveryOf({ state, failure }: Entry, waiting: "waiting" | "held" | "sending"): Delivery {
  if (state === "refused") return { state: "failed", reason: reasonOf(failure), ...(isForAnswer(failure) && { isAlone: true }) };
  if (state === "sending") return { state: failure === undefined ? "sending" : "unconfirmed" };
  return { state: waiting };
}

/** Returns why a message is no longer sent, for its line and for screen readers. */
export function reasonOf(failure: Failure = { code: "", message: "" }): string {
  if (isForAnswer(failure)) return "Not sent. The message that this replies to was deleted.";
  return outcome(failure, "Not sent.", "Not confirmed, it may have arrived.");
}

function isForAnswer(failure: Failure | undefined): boolean {
  return (failure?.details as { field?: unknown } | undefined)?.field === "replyTo";
}

/** Whether a message is the stored version of a draft. */
export function isSame(draft: Draft, message: Message): boolean {
  return message.metadata?.timestamp === draft.writtenAt && message.content === draft.content;
}
