type Listener<Events, Name extends keyof Events> = Events[Name] extends (...args: infer Args) => void
  ? (...args: Args) => void
  : never;

/** Stores listeners by event name. An error in one listener does not prevent calls of the next. */
export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<(...args: never[]) => void>>();

  /** Adds a listener and returns a function that removes it. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events, Name>): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  emit<Name extends keyof Events>(name: Name, ...args: Parameters<Listener<Events, Name>>): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) call(listener, args);
  }
}

/**
 * Calls a listener. If it throws, the error is rethrown in a microtask, after all listeners were
 * called.
 */
export function call(listener: (...args: never[]) => void, args: readonly unknown[]): void {
  try {
    listener(...(args as never[]));
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
