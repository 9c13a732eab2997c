type Listener<Events, Name extends keyof Events> = Events[Name] extends (...args: infer Args) => void
  ? (...args: Args) => void
  : never;

/** Listeners by name. One that throws keeps nobody else from being called. */
export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<(...args: never[]) => void>>();

  /** Adds a listener; what is returned takes it away again. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events, Name>): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  emit<Name extends keyof Events>(name: Name, ...args: Parameters<Listener<Events, Name>>): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as (...args: unknown[]) => void)(...args);
      } catch (error) {
        // Seen by whoever looks at uncaught errors, after everybody else was told.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
