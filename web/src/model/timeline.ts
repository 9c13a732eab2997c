import type { Message, MessageDeleted } from "../types.ts";

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

  /** Adds what is new, takes over newer versions of what is known, and returns what was new. */
  merge(messages: readonly Message[]): Message[] {
    return messages.filter((message) => this.#put(message));
  }

  markDeleted({ messageId, deletedAt }: MessageDeleted): void {
    const index = this.#messages.findIndex((message) => message.id === messageId);
    const known = this.#messages[index];
    if (known !== undefined) this.#messages[index] = { ...known, content: "", deletedAt };
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
    if (message.version > known.version || message.deletedAt) this.#messages[before] = message;
    return false;
  }
}
