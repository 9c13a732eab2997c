import { randomId } from "../time.ts";

/** This tab among those of its origin, told apart by locks that end with them. */
export class Tabs {
  readonly own = randomId();
  readonly #locks: LockManager | undefined;
  readonly #end = new AbortController();
  readonly #watched = new Set<string>();

  /** `locks` is absent in old Node and on pages without TLS: there every other tab counts as gone. */
  constructor(locks: LockManager | undefined = globalThis.navigator?.locks) {
    this.#locks = locks;
    const gone = () => new Promise((done) => this.#end.signal.addEventListener("abort", done));
    locks?.request(nameOf(this.own), gone).catch(() => {
      // Where locks are forbidden, others may send what this tab sends as well, as the same.
    });
  }

  /**
   * Calls `take` if a tab is gone, and resolves after that; if it is not and `waits` is true, calls it when it is.
   * Of several heirs one is called at a time.
   */
  async inherit(tab: string, waits: boolean, take: () => Promise<void>): Promise<void> {
    const locks = this.#locks;
    if (tab === this.own || locks === undefined) return take();
    const isGone = await locks.request(nameOf(tab), { ifAvailable: true }, async (lock) => {
      if (lock !== null) await take();
      return lock !== null;
    });
    if (isGone || !waits || this.#watched.has(tab)) return;
    this.#watched.add(tab);
    const { signal } = this.#end;
    locks.request(nameOf(tab), { signal }, take).catch(() => {
      // This tab has gone first.
    });
  }

  /** What this tab has not sent is for others from now on. */
  leave(): void {
    this.#end.abort();
  }
}

function nameOf(tab: string): string {
  return `roomcast:tab:${tab}`;
}
