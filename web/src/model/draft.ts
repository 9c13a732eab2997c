import type { Entry } from "../../packages/client/src/index.ts";
import { outcome } from "../words/failure.ts";
import type { Failure, Message } from "../types.ts";

export type Delivery =
  | { state: "waiting" }
  /** The server takes no more at the moment. */
  | { state: "held" }
  | { state: "sending" }
  /** Sent without a confirmation: it may be stored or not, and is sent again after a pause. */
  | { state: "unconfirmed" }
  /** With `isAlone` it would be taken without what it answers. */
  | { state: "failed"; reason: string; isAlone?: true };

/** An own message that the server has not confirmed yet. */
export interface Draft {
  readonly clientMessageId: string;
  readonly content: string;
  /** The message that it answers. */
  readonly replyTo: string | undefined;
  /** When it was written; it travels along and tells our own message among those caught up on. */
  readonly writtenAt: string;
  readonly delivery: Delivery;
  /** Whether it can be changed or withdrawn: it waits, and the server does not have it. */
  readonly isUnsent: boolean;
}

/** What waits for a conversation, without what is among its messages already: its confirmation got lost on the way. */
export function draftsOf(entries: readonly Entry[], conversationId: string, messages: readonly Message[], ownId: string, isReady: boolean): Draft[] {
  const own = messages.filter(({ userId }) => userId === ownId);
  // A refusal for sending too fast holds all entries of the queue.
  const waiting = !isReady ? "waiting" : entries.some(({ state, failure }) => state === "queued" && failure) ? "held" : "sending";
  return entries
    .filter(({ event, payload }) => event === "message" && payload["conversationId"] === conversationId)
    .map((entry) => ({ attempts: entry.attempts, draft: draftOf(entry, waiting) }))
    .filter(({ attempts, draft }) => attempts === 0 || !own.some((message) => isSame(draft, message)))
    .map(({ draft }) => draft);
}

/** Whether the server does not have an entry: it was never sent, or refused for now. */
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

/** Why a message is not sent any more, as its line says it and as it is read out. */
export function reasonOf(failure: Failure = { code: "", message: "" }): string {
  if (isForAnswer(failure)) return "Not sent. The message that this answers is gone.";
  return outcome(failure, "Not sent.", "Not confirmed, it may have arrived.");
}

function isForAnswer(failure: Failure | undefined): boolean {
  return (failure?.details as { field?: unknown } | undefined)?.field === "replyTo";
}

/** Whether a message is what became of a draft. */
export function isSame(draft: Draft, message: Message): boolean {
  return message.metadata?.timestamp === draft.writtenAt && message.content === draft.content;
}
