import { RequestError, TIMED_OUT } from "./failure.ts";

/**
 * Returns the time in milliseconds of a monotonic clock, so that delays do not depend on the system
 * time.
 */
export function now(): number {
  return performance.now();
}

/**
 * Returns the delay in milliseconds before the next attempt: 1, 2, 4, then 8 seconds, or
 * `retryAfter` if it is longer, at most one hour.
 */
export function retryDelay(attempts: number, retryAfter: unknown = 0): number {
  return Math.max(Math.min(2 ** (attempts - 1), 8) * 1_000, Math.min(Number(retryAfter) || 0, 3_600_000));
}

/** A delay that can be ended early. */
export class Delay {
  #end: (() => void) | undefined;

  /** Resolves after this number of milliseconds, or when `end` is called. */
  async for(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#end = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#end = undefined;
  }

  end(): void {
    this.#end?.();
  }
}

/** Rejects with `TIMED_OUT` if the promise does not settle within this number of milliseconds. */
export async function within<Result>(milliseconds: number, something: Promise<Result>): Promise<Result> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new RequestError({ code: TIMED_OUT, message: `no answer within ${milliseconds} ms` })), milliseconds);
  });
  return Promise.race([something, late]).finally(() => clearTimeout(timer));
}

/**
 * Returns 128 random bits as hexadecimal digits. (`crypto.randomUUID` is missing on plain HTTP
 * pages.)
 */
export function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Removes the oldest entries until at most `max` are left. */
export function trim<Key>(all: { readonly size: number; keys(): Iterable<Key>; delete(key: Key): boolean }, max: number): void {
  for (const oldest of all.keys()) if (all.size > max) all.delete(oldest);
}
