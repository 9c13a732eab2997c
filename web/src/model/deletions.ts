import { RequestError, type SocketManager } from "../../packages/client/src/index.ts";
import { deletionsKey, keep } from "./account.ts";
import { DISCARDED } from "./insist.ts";
import { browser } from "./storage.ts";
import type { Failure, Message } from "../types.ts";

/** A deletion can be taken back for so long. */
export const UNDO_FOR = 6_000;

/** What the outside does for deletions. */
export interface DeletionsSurroundings {
  changed(): void;
  /** The server has deleted it; it sends the message as it is now. */
  done(message: Message): void;
  refused(failure: Failure): void;
}

/**
 * The own messages that are about to be deleted. They are kept by user until the server has answered, so that a tab that is
 * closed, killed or asleep while a deletion can be taken back loses none: the next session of that user carries them out.
 */
export class Deletions {
  readonly #manager: Pick<SocketManager, "send" | "session" | "tell" | "queue">;
  readonly #surroundings: DeletionsSurroundings;
  readonly #timers = new Map<string, ReturnType<typeof setTimeout>>();
  /** The entries of the queue that carry them out. */
  readonly #sent = new Map<string, string>();

  constructor(manager: Pick<SocketManager, "send" | "session" | "tell" | "queue">, surroundings: DeletionsSurroundings) {
    this.#manager = manager;
    this.#surroundings = surroundings;
  }

  has(messageId: string): boolean {
    return this.#timers.has(messageId) || this.#sent.has(messageId);
  }

  /** How many the server does not know of, where it cannot be told of those that can still be taken back. */
  unknown(isReady: boolean): number {
    return this.#sent.size + (isReady ? 0 : this.#timers.size);
  }

  /** Deletes a message unless that is taken back in time. */
  add(messageId: string): void {
    const due = Date.now() + UNDO_FOR;
    this.#keep({ ...this.#kept(), [messageId]: due });
    this.#await(messageId, due);
    this.#surroundings.changed();
  }

  undo(messageId: string): void {
    const id = this.#sent.get(messageId);
    if (id !== undefined) this.#manager.queue.discard(id);
    this.#forget(messageId);
    this.#surroundings.changed();
  }

  /** A session has begun: what was left behind is carried out when it is due. */
  resume(): void {
    for (const [messageId, due] of Object.entries(this.#kept())) if (!this.has(messageId)) this.#await(messageId, due);
  }

  /** Another tab has forgotten the deletions of our guest: those of this tab are still to be carried out. */
  keepOwn(): void {
    this.#keep(Object.fromEntries([...this.#timers.keys(), ...this.#sent.keys()].map((messageId) => [messageId, Date.now()])));
  }

  /** The page may be going: the server is told now, and asked by the next session, should that not have arrived. */
  flush(): void {
    const kept = this.#kept();
    for (const messageId of this.#timers.keys()) {
      clearTimeout(this.#timers.get(messageId));
      if (kept[messageId] === undefined) continue;
      kept[messageId] = Date.now();
      this.#manager.tell("delete_message", { messageId });
    }
    this.#timers.clear();
    this.#keep(kept);
  }

  #await(messageId: string, due: number): void {
    clearTimeout(this.#timers.get(messageId));
    // Not longer than it can be taken back, whatever the clock was when it was kept.
    const pause = Math.min(Math.max(due - Date.now(), 0), UNDO_FOR);
    this.#timers.set(messageId, setTimeout(() => void this.#carryOut(messageId), pause));
  }

  async #carryOut(messageId: string): Promise<void> {
    this.#timers.delete(messageId);
    // Another tab may have taken it back, or done it.
    if (this.#kept()[messageId] === undefined) return this.#surroundings.changed();
    try {
      const { id, answered } = this.#manager.send("delete_message", { messageId });
      this.#sent.set(messageId, id);
      this.#surroundings.done((await answered).message);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      const id = this.#sent.get(messageId);
      if (error.code !== DISCARDED) this.#surroundings.refused(error);
      if (id !== undefined) this.#manager.queue.discard(id);
    }
    this.#sent.delete(messageId);
    this.#forget(messageId);
    this.#surroundings.changed();
  }

  #forget(messageId: string): void {
    clearTimeout(this.#timers.get(messageId));
    this.#timers.delete(messageId);
    const { [messageId]: _, ...others } = this.#kept();
    this.#keep(others);
  }

  get #userId(): string {
    return this.#manager.session?.userId ?? "";
  }

  get #key(): string {
    return deletionsKey(this.#userId);
  }

  /** When each is due, by its id. */
  #kept(): Record<string, number> {
    try {
      const kept: unknown = JSON.parse(browser.get(this.#key) ?? "{}");
      const entries = Object.entries(kept as object).filter((entry): entry is [string, number] => typeof entry[1] === "number");
      return Object.fromEntries(entries);
    } catch {
      return {};
    }
  }

  #keep(kept: Record<string, number>): void {
    if (Object.keys(kept).length === 0) browser.remove(this.#key);
    else keep(this.#userId, this.#key, JSON.stringify(kept));
  }
}
