/**
 * Browser storage that may be absent: where a browser blocks it, the page works
 * and forgets everything when it is closed.
 */
export class Memory {
  readonly #open: () => Storage;
  readonly #fallback = new Map<string, string>();

  constructor(open: () => Storage) {
    this.#open = open;
  }

  get(key: string): string | undefined {
    try {
      return this.#open().getItem(key) ?? undefined;
    } catch {
      return this.#fallback.get(key);
    }
  }

  set(key: string, value: string): void {
    try {
      this.#open().setItem(key, value);
    } catch {
      this.#fallback.set(key, value);
    }
  }
}

/** Shared by all tabs, kept between visits. */
export const browser = new Memory(() => localStorage);
