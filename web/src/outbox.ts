import type { Message } from "./types.ts";

export type Delivery =
  | { state: "waiting" }
  | { state: "sending" }
  /** Sent without a confirmation: it may be stored or not, and is sent again after a pause. */
  | { state: "unconfirmed" }
  | { state: "failed"; reason: string };

/** An own message that the server has not confirmed yet. */
export interface Draft {
  /** Stays the same however often the message is sent, so the server stores it once. */
  readonly clientMessageId: string;
  readonly content: string;
  /** When it was written; it travels along and tells our own message among those caught up on. */
  readonly writtenAt: string;
  readonly delivery: Delivery;
}

/** The own messages on their way, in the order in which they were written. */
export class Outbox {
  #drafts: Draft[];

  constructor(drafts: readonly Draft[] = []) {
    // What was being sent when the page went away may or may not have arrived: it is sent again.
    this.#drafts = drafts.map((draft) => {
      return isUnderWay(draft) ? { ...draft, delivery: { state: "waiting" } } : draft;
    });
  }

  get drafts(): readonly Draft[] {
    return this.#drafts;
  }

  /** The one to send next: one at a time, so that the order of writing is the order of storing. */
  get next(): Draft | undefined {
    if (this.#drafts.some(isUnderWay)) return undefined;
    return this.#drafts.find((draft) => draft.delivery.state === "waiting");
  }

  has(clientMessageId: string): boolean {
    return this.#drafts.some((draft) => draft.clientMessageId === clientMessageId);
  }

  add(draft: Omit<Draft, "delivery">): void {
    this.#drafts = [...this.#drafts, { ...draft, delivery: { state: "waiting" } }];
  }

  mark(clientMessageId: string, delivery: Delivery): void {
    this.#drafts = this.#drafts.map((draft) => {
      return draft.clientMessageId === clientMessageId ? { ...draft, delivery } : draft;
    });
  }

  /** Stored, or given up. */
  remove(clientMessageId: string): void {
    this.#drafts = this.#drafts.filter((draft) => draft.clientMessageId !== clientMessageId);
  }

  /** Drops the drafts that these stored messages are: their confirmation got lost on the way. */
  settle(messages: readonly Message[], ownId: string): void {
    const own = messages.filter((message) => message.userId === ownId);
    this.#drafts = this.#drafts.filter((draft) => !own.some((message) => isSame(draft, message)));
  }
}

/** Reads the drafts that an earlier visit of this tab kept; what is no draft is left out. */
export function parseDrafts(json: string | undefined): Draft[] {
  try {
    const kept: unknown = JSON.parse(json ?? "[]");
    return Array.isArray(kept) ? kept.filter(isDraft) : [];
  } catch {
    return [];
  }
}

function isDraft(value: unknown): value is Draft {
  const { clientMessageId, content, writtenAt, delivery } = (value ?? {}) as Partial<Draft>;
  const isText = [clientMessageId, content, writtenAt].every((field) => typeof field === "string");
  return isText && ["waiting", "sending", "unconfirmed", "failed"].includes(delivery?.state ?? "");
}

function isUnderWay({ delivery }: Draft): boolean {
  return delivery.state === "sending" || delivery.state === "unconfirmed";
}

function isSame(draft: Draft, message: Message): boolean {
  return message.metadata?.timestamp === draft.writtenAt && message.content === draft.content;
}
