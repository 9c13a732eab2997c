import { Effort } from "../effort.ts";
import { NO_CREDENTIALS, RequestError } from "../failure.ts";
import type { Note } from "../log.ts";

/** What is sent with each CONNECT, such as `{ token }`, `{ sessionId }` or `{ name, guestKey }`. */
export type Auth = Record<string, unknown>;

/** Why credentials are asked for; after `refused` and `expiring` those of before will not do. */
export type AuthReason = "connect" | "expiring" | "refused";

/** Gives credentials, fetched anew where the reason asks for it. */
export type AuthProvider = (reason: AuthReason) => Auth | Promise<Auth>;

/** The credentials of a connection: where they come from, and that they are swapped before they end. */
export class Credentials {
  readonly #source: Auth | AuthProvider;
  readonly #note: Note;
  readonly #effort = new Effort();

  constructor(source: Auth | AuthProvider, note: Note) {
    this.#source = source;
    this.#note = note;
  }

  /** Whether others can be had. */
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

  /** Swaps the credentials of the connection for new ones, trying until it has worked or `stop` is called. */
  refresh(ask: (payload: Auth) => Promise<unknown>): Promise<void> {
    const swap = async (isCurrent: () => boolean) => {
      // Where nothing new can be had, the session by which the client came is prolonged.
      const { token, sessionId } = this.canRenew ? await this.get("expiring") : ({} as Auth);
      if (!isCurrent()) return;
      await ask(token !== undefined ? { token } : sessionId !== undefined ? { sessionId } : {});
      this.#note("refreshed");
    };
    return this.#effort.begin(swap, ({ code }) => {
      this.#note("refresh failed", code);
      return true;
    });
  }

  /** The connection is gone: the next one brings new credentials. */
  stop(): void {
    this.#effort.end();
  }
}
