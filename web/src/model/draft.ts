import { type Entry, isUnconfirmed } from "../../packages/client/src/index.ts";
import { explain } from "../words/failure.ts";
import type { Message } from "../types.ts";

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
}

/** What waits for a conversation, without what is among its messages already: its confirmation got lost on the way. */
export function draftsOf(entries: readonly Entry[], conversationId: string, messages: readonly Message[], ownId: string): Draft[] {
  const own = messages.filter(({ userId }) => userId === ownId);
  return entries
    .filter(({ event, payload }) => event === "message" && payload["conversationId"] === conversationId)
    .map((entry) => ({ attempts: entry.attempts, draft: draftOf(entry) }))
    .filter(({ attempts, draft }) => attempts === 0 || !own.some((message) => isSame(draft, message)))
    .map(({ draft }) => draft);
}

function draftOf(entry: Entry): Draft {
  const { content, metadata, replyTo } = entry.payload as { content: string; metadata?: { timestamp?: string }; replyTo?: string };
  return { clientMessageId: entry.id, content, replyTo, writtenAt: metadata?.timestamp ?? entry.writtenAt, delivery: deliveryOf(entry) };
}

function deliveryOf({ state, failure }: Entry): Delivery {
  if (state === "refused") {
    const outcome = failure && isUnconfirmed(failure) ? "Not confirmed, it may have arrived." : "Not sent.";
    const isAlone = (failure?.details as { field?: unknown } | undefined)?.field === "replyTo";
    const reason = isAlone ? "The message that this answers is gone." : explain(failure ?? { code: "", message: "" });
    return { state: "failed", reason: `${outcome} ${reason}`, ...(isAlone && { isAlone }) };
  }
  if (state === "sending") return { state: failure === undefined ? "sending" : "unconfirmed" };
  return { state: failure === undefined ? "waiting" : "held" };
}

function isSame(draft: Draft, message: Message): boolean {
  return message.metadata?.timestamp === draft.writtenAt && message.content === draft.content;
}
