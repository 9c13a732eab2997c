/** Browser storage that may be blocked. The page then holds its data until it is closed. */
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

  /** Holds a value in memory only, until this page is closed. */
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

/** Shared by all tabs and persistent. */
export const browser = new Memory(() => localStorage);

/** Private to this tab. */
export const tab = new Memory(() => sessionStorage);

/**
 * The storage key of the token, which is only stored until its tab is closed, so that no later user
 * finds it.
 */
export const TOKEN = "roomcast.token";
