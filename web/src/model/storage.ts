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
    return this.#try((storage) => storage.getItem(key)) ?? this.#fallback.get(key);
  }

  set(key: string, value: string): void {
    if (this.#try((storage) => storage.setItem(key, value) ?? true) === undefined) this.#fallback.set(key, value);
  }

  /** Keeps something as long as this page is there, and nowhere else. */
  hold(key: string, value: string): void {
    this.remove(key);
    this.#fallback.set(key, value);
  }

  remove(key: string): void {
    this.#try((storage) => storage.removeItem(key));
    this.#fallback.delete(key);
  }

  keys(): string[] {
    return this.#try((storage) => Object.keys(storage)) ?? [...this.#fallback.keys()];
  }

  #try<Value>(use: (storage: Storage) => Value): Value | undefined {
    try {
      return use(this.#open());
    } catch {
      return undefined;
    }
  }
}

/** Shared by all tabs, kept between visits. */
export const browser = new Memory(() => localStorage);

/** Of this tab alone. */
export const tab = new Memory(() => sessionStorage);

/** Where a token is kept: as long as its tab, so that nobody finds it afterwards. */
export const TOKEN = "roomcast.token";
