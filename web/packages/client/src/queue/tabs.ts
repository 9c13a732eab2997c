import { randomId } from "../time.ts";

/**
 * How long to wait for the lock of a page that is being reloaded, in milliseconds. The new page may
 * start before the previous page releases it.
 */
const RELOAD_TIMEOUT = 3_000;

/** This tab and the other tabs of its origin. Each tab holds a lock that ends with the tab. */
export class Tabs {
  readonly own = randomId();
  readonly #locks: LockManager | undefined;
  readonly #end = new AbortController();
  readonly #watched = new Set<string>();

  /**
   * `locks` is absent in old Node and on pages without TLS. Every other tab then counts as closed.
   */
  constructor(locks: LockManager | undefined = globalThis.navigator?.locks) {
    this.#locks = locks;
    const hold = () => new Promise((done) => this.#end.signal.addEventListener("abort", done));
    locks?.request(nameOf(this.own), hold).catch(() => {
      // If locks are blocked, other tabs may send this tab's entries also, with the same ids.
    });
  }

  /**
   * Calls `take` and resolves after it if the tab is closed. Otherwise, `take` is called when the
   * tab closes: with `waits` at any time, without it only within `RELOAD_TIMEOUT`. Of several
   * heirs, one runs at a time.
   */
  async inherit(tab: string, waits: boolean, take: () => Promise<void>): Promise<void> {
    const locks = this.#locks;
    if (tab === this.own || locks === undefined) return take();
    const isClosed = await locks.request(nameOf(tab), { ifAvailable: true }, async (lock) => {
      if (lock !== null) await take();
      return lock !== null;
    });
    if (isClosed || this.#watched.has(tab)) return;
    if (waits) this.#watched.add(tab);
    const signal = waits ? this.#end.signal : AbortSignal.timeout(RELOAD_TIMEOUT);
    locks.request(nameOf(tab), { signal }, take).catch(() => {
      // This tab was closed first, or the other tab stayed open.
    });
  }

  /** Releases the lock: other tabs may adopt the unsent entries of this tab. */
  leave(): void {
    this.#end.abort();
  }
}

function nameOf(tab: string): string {
  return `roomcast:tab:${tab}`;
}
