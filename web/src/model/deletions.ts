import { RequestError, type SocketManager } from "../../packages/client/src/index.ts";
import { deletionsKey, keep } from "./account.ts";
import { DISCARDED } from "./change_request.ts";
import { browser } from "./storage.ts";
import type { Failure, Message } from "../types.ts";

/** Time in milliseconds within which a deletion can be undone. */
export const UNDO_FOR = 6_000;

/** The callbacks of deletions. */
export interface DeletionsCallbacks {
  changed(): void;
  /** Called with the deleted message as the server returns it. */
  done(message: Message): void;
  refused(failure: Failure): void;
}

/**
 * The user's pending deletions. They are stored per user until the server has answered. If a tab is
 * closed, killed or suspended before, the next session of that user deletes the messages.
 */
export class Deletions {
  readonly #manager: Pick<SocketManager, "send" | "session" | "emit" | "queue">;
  readonly #callbacks: DeletionsCallbacks;
  readonly #timers = new Map<string, ReturnType<typeof setTimeout>>();
  /** The ids of the queue entries, by message id. */
  readonly #sent = new Map<string, string>();

  constructor(manager: Pick<SocketManager, "send" | "session" | "emit" | "queue">, callbacks: DeletionsCallbacks) {
    this.#manager = manager;
    this.#callbacks = callbacks;
  }

  has(messageId: string): boolean {
    return this.#timers.has(messageId) || this.#sent.has(messageId);
  }

  /**
   * Counts the deletions that the server has not received. With a connection, those that can still
   * be undone do not count, because `flush` can send them.
   */
  unknown(isReady: boolean): number {
    return this.#sent.size + (isReady ? 0 : this.#timers.size);
  }

  /** Deletes a message unless `undo` is called in time. */
  add(messageId: string): void {
    const due = Date.now() + UNDO_FOR;
    this.#store({ ...this.#stored(), [messageId]: due });
    this.#await(messageId, due);
    this.#callbacks.changed();
  }

  undo(messageId: string): void {
    const id = this.#sent.get(messageId);
    if (id !== undefined) this.#manager.queue.discard(id);
    this.#forget(messageId);
    this.#callbacks.changed();
  }

  /** Resumes stored deletions after a session has begun. */
  resume(): void {
    for (const [messageId, due] of Object.entries(this.#stored())) if (!this.has(messageId)) this.#await(messageId, due);
  }

  /** Stores the deletions of this tab again after another tab has deleted those of the guest. */
  storeOwn(): void {
    this.#store(Object.fromEntries([...this.#timers.keys(), ...this.#sent.keys()].map((messageId) => [messageId, Date.now()])));
  }

  /**
   * Sends pending deletions now, because the page may be closed. They stay stored, and the next
   * session repeats them if they did not arrive.
   */
  flush(): void {
    const stored = this.#stored();
    for (const messageId of this.#timers.keys()) {
      clearTimeout(this.#timers.get(messageId));
      if (stored[messageId] === undefined) continue;
      stored[messageId] = Date.now();
      this.#manager.emit("delete_message", { messageId });
    }
    this.#timers.clear();
    this.#store(stored);
  }

  /**
   * Drops the deletions that can still be undone, also from the storage. Those that were queued are
   * dropped when the queue discards them.
   */
  discard(): void {
    for (const messageId of this.#timers.keys()) this.#forget(messageId);
    this.#callbacks.changed();
  }

  #await(messageId: string, due: number): void {
    clearTimeout(this.#timers.get(messageId));
    // At most the undo time, even if the clock has changed since.
    const delay = Math.min(Math.max(due - Date.now(), 0), UNDO_FOR);
    this.#timers.set(messageId, setTimeout(() => void this.#carryOut(messageId), delay));
  }

  async #carryOut(messageId: string): Promise<void> {
    this.#timers.delete(messageId);
    // Another tab may have undone or completed it.
    if (this.#stored()[messageId] === undefined) return this.#callbacks.changed();
    try {
      const { id, answered } = this.#manager.send("delete_message", { messageId });
      this.#sent.set(messageId, id);
      this.#callbacks.done((await answered).message);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      const id = this.#sent.get(messageId);
      if (error.code !== DISCARDED) this.#callbacks.refused(error);
      if (id !== undefined) this.#manager.queue.discard(id);
    }
    this.#sent.delete(messageId);
    this.#forget(messageId);
    this.#callbacks.changed();
  }

  #forget(messageId: string): void {
    clearTimeout(this.#timers.get(messageId));
    this.#timers.delete(messageId);
    const { [messageId]: _, ...others } = this.#stored();
    this.#store(others);
  }

  get #userId(): string {
    return this.#manager.session?.userId ?? "";
  }

  get #key(): string {
    return deletionsKey(this.#userId);
  }

  /** Returns the due time of each deletion, by message id. */
  #stored(): Record<string, number> {
    try {
      const stored: unknown = JSON.parse(browser.get(this.#key) ?? "{}");
      const entries = Object.entries(stored as object).filter((entry): entry is [string, number] => typeof entry[1] === "number");
      return Object.fromEntries(entries);
    } catch {
      return {};
    }
  }

  #store(deletions: Record<string, number>): void {
    if (Object.keys(deletions).length === 0) browser.remove(this.#key);
    else keep(this.#userId, this.#key, JSON.stringify(deletions));
  }
}
