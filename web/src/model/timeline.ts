import type { Message, MessageDeleted } from "../types.ts";
import { quoteOf } from "../marks/marks.ts";

/** Whether a message is as new as what is known of it; what is deleted does not come back, whatever comes late. */
export function isCurrent(message: Message, known: Message): boolean {
  return Boolean(message.deletedAt) || (message.version >= known.version && !known.deletedAt);
}

/** The stored messages that are loaded: in order of `seq`, each of them once. */
export class Timeline {
  #messages: Message[] = [];

  get messages(): readonly Message[] {
    return this.#messages;
  }

  get first(): Message | undefined {
    return this.#messages[0];
  }

  get newest(): Message | undefined {
    return this.#messages.at(-1);
  }

  find(id: string): Message | undefined {
    return this.#messages.find((message) => message.id === id);
  }

  /** Adds what is new, takes over what is not older than what is known, and returns what was new. */
  merge(messages: readonly Message[]): Message[] {
    return messages.filter((message) => this.#put(message));
  }

  markDeleted({ messageId, deletedAt }: MessageDeleted): void {
    this.change(messageId, ({ reactions: _, ...message }) => ({ ...message, content: "", deletedAt }));
  }

  /** Has a message be another one, and quotes of it say the same. */
  change(messageId: string, to: (message: Message) => Message): void {
    const index = this.#messages.findIndex((message) => message.id === messageId);
    const known = this.#messages[index];
    if (known === undefined) return;
    const changed = to(known);
    this.#messages[index] = changed;
    if (changed.content !== known.content || changed.deletedAt !== known.deletedAt) this.requote(changed);
  }

  /** Has the quotes of a message say what it says now. */
  requote(original: Message): void {
    const quote = quoteOf(original);
    for (const [index, message] of this.#messages.entries()) {
      if (message.replyTo?.id === quote.id) this.#messages[index] = { ...message, replyTo: quote };
    }
  }

  /** Has the quotes of a message that is deleted say so. */
  forgetQuoted(messageId: string, deletedAt: string): void {
    for (const [index, message] of this.#messages.entries()) {
      if (message.replyTo?.id === messageId) this.#messages[index] = { ...message, replyTo: { ...message.replyTo, excerpt: "", deletedAt } };
    }
  }

  /** Forgets the oldest messages, so that a long visit does not grow without end. */
  keepNewest(count: number): boolean {
    if (this.#messages.length <= count) return false;
    this.#messages = this.#messages.slice(-count);
    return true;
  }

  clear(): void {
    this.#messages = [];
  }

  #put(message: Message): boolean {
    // Nearly every message is the newest, so the search starts at the end.
    const before = this.#messages.findLastIndex((known) => known.seq <= message.seq);
    const known = this.#messages[before];
    if (known?.seq !== message.seq) {
      this.#messages.splice(before + 1, 0, message);
      return true;
    }
    if (isCurrent(message, known)) this.#messages[before] = message;
    return false;
  }
}
