import type { Message, MessageAppended, MessageDeleted } from "../types.ts";
import { quoteOf } from "../marks/marks.ts";
import { scalarCount } from "../words/text.ts";

/**
 * Whether a message is at least as new as the known version. A deleted message stays deleted, even
 * if an older event arrives late.
 */
export function isCurrent(message: Message, known: Message): boolean {
  return Boolean(message.deletedAt) || (message.version >= known.version && !known.deletedAt);
}

/** Returns a message that is being written with more text, if the text continues it. */
export function grown(message: Message, { offset, text }: MessageAppended): Message {
  const continues = message.streaming === true && scalarCount(message.content) === offset;
  return continues ? { ...message, content: message.content + text } : message;
}

/** The loaded stored messages, in order of `seq` and without duplicates. */
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

  /** Returns the index of the first message with a greater `seq`: their number if there is none. */
  indexAfter(seq: number): number {
    let [from, to] = [0, this.#messages.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#messages[middle]?.seq ?? 0) > seq) to = middle;
      else from = middle + 1;
    }
    return from;
  }

  /** Adds new messages, replaces known messages that are not newer, and returns the new ones. */
  merge(messages: readonly Message[]): Message[] {
    return messages.filter((message) => this.#put(message));
  }

  markDeleted({ messageId, deletedAt }: MessageDeleted): void {
    this.change(messageId, ({ reactions: _, ...message }) => ({ ...message, content: "", deletedAt }));
  }

  /** Replaces a message, and updates its quotes. */
  change(messageId: string, to: (message: Message) => Message): void {
    const index = this.#messages.findIndex((message) => message.id === messageId);
    const known = this.#messages[index];
    if (known === undefined) return;
    const changed = to(known);
    this.#messages[index] = changed;
    if (changed.content !== known.content || changed.deletedAt !== known.deletedAt) this.requote(changed);
  }

  /** Updates the quotes of a message. */
  requote(original: Message): void {
    for (const [index, message] of this.#messages.entries()) {
      if (message.replyTo?.id === original.id) this.#messages[index] = { ...message, replyTo: quoteOf(original) };
    }
  }

  /** Marks the quotes of a deleted message. */
  forgetQuoted(messageId: string, deletedAt: string): void {
    for (const [index, message] of this.#messages.entries()) {
      if (message.replyTo?.id === messageId) this.#messages[index] = { ...message, replyTo: { ...message.replyTo, excerpt: "", deletedAt } };
    }
  }

  /** Discards the oldest messages, to limit memory on long visits. */
  keepNewest(count: number): boolean {
    if (this.#messages.length <= count) return false;
    this.#messages = this.#messages.slice(-count);
    return true;
  }

  clear(): void {
    this.#messages = [];
  }

  #put(message: Message): boolean {
    const before = this.indexAfter(message.seq) - 1;
    const known = this.#messages[before];
    if (known?.seq !== message.seq) {
      this.#messages.splice(before + 1, 0, message);
      return true;
    }
    if (isCurrent(message, known)) this.#messages[before] = message;
    return false;
  }
}
