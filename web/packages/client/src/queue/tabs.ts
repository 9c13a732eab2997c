import { randomId } from "../time.ts";

/** A page that is loaded anew may come before the former one has let go. */
const SOON = 3_000;

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
   * Calls `take` if a tab is gone, and resolves after that. If it is not, `take` is called when it is: with `waits`
   * whenever that may be, without soon or never. Of several heirs one is called at a time.
   */
  async inherit(tab: string, waits: boolean, take: () => Promise<void>): Promise<void> {
    const locks = this.#locks;
    if (tab === this.own || locks === undefined) return take();
    const isGone = await locks.request(nameOf(tab), { ifAvailable: true }, async (lock) => {
      if (lock !== null) await take();
      return lock !== null;
    });
    if (isGone || this.#watched.has(tab)) return;
    if (waits) this.#watched.add(tab);
    const signal = waits ? this.#end.signal : AbortSignal.timeout(SOON);
    locks.request(nameOf(tab), { signal }, take).catch(() => {
      // This tab has gone first, or the other one stays.
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
