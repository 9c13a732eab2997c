import { Effort } from "../effort.ts";
import { NO_CREDENTIALS, RequestError } from "../failure.ts";
import type { Note } from "../log.ts";

/**
 * The credentials sent with each CONNECT, such as `{ token }`, `{ sessionId }` or `{ name, guestKey
 * }`.
 */
export type Auth = Record<string, unknown>;

/**
 * Why credentials are requested. After `refused` and `expiring`, the provider must return new ones.
 */
export type AuthReason = "connect" | "expiring" | "refused";

/** Returns credentials, and fetches new ones if the reason requires it. */
export type AuthProvider = (reason: AuthReason) => Auth | Promise<Auth>;

/** Obtains the credentials of a connection and replaces them before they expire. */
export class Credentials {
  readonly #source: Auth | AuthProvider;
  readonly #note: Note;
  readonly #effort = new Effort();

  constructor(source: Auth | AuthProvider, note: Note) {
    this.#source = source;
    this.#note = note;
  }

  /** Whether new credentials can be obtained. */
  get canRenew(): boolean {
    return typeof this.#source === "function";
  }

  async get(reason: AuthReason): Promise<Auth> {
    if (typeof this.#source !== "function") return this.#source;
    try {
      return await this.#source(reason);
    } catch (error) {
      throw new RequestError({ code: NO_CREDENTIALS, message: String(error) });
    }
  }

  /**
   * Replaces the credentials of the connection, with retries until it succeeds or `stop` is called.
   */
  refresh(request: (payload: Auth) => Promise<unknown>): Promise<void> {
    const swap = async (isCurrent: () => boolean) => {
      // Without a provider, the server extends the session with which the client connected.
      const { token, sessionId } = this.canRenew ? await this.get("expiring") : ({} as Auth);
      if (!isCurrent()) return;
      await request(token !== undefined ? { token } : sessionId !== undefined ? { sessionId } : {});
      this.#note("refreshed");
    };
    return this.#effort.begin(swap, ({ code }) => {
      this.#note("refresh failed", code);
      return true;
    });
  }

  /**
   * Stops the replacement after the connection is lost. The next connection requests new
   * credentials.
   */
  stop(): void {
    this.#effort.end();
  }
}
