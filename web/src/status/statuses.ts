import type { UserStatus } from "../types.ts";

/** Maximum number of known users. The oldest are evicted. */
const MAX_KNOWN = 5_000;

/** The latest status of each user, by id. */
export class Statuses {
  readonly #all = new Map<string, UserStatus>();

  /** Stores a status that is newer than the known one. Returns whether it was. */
  take(status: UserStatus): boolean {
    const known = this.#all.get(status.userId);
    // Newer by the server's clock. The same status may arrive more than once.
    if (known !== undefined && !(Date.parse(status.timestamp) > Date.parse(known.timestamp))) return false;
    this.#all.set(status.userId, status);
    for (const oldest of this.#all.keys()) if (this.#all.size > MAX_KNOWN) this.#all.delete(oldest);
    return true;
  }

  of(userId: string): UserStatus | undefined {
    return this.#all.get(userId);
  }

  /**
   * Returns the shown status of a user. Users who are not present are offline, regardless of their
   * status.
   */
  shown(userId: string, isPresent: boolean): { status: UserStatus["status"]; text: string } {
    const known = this.#all.get(userId);
    return { status: isPresent ? (known?.status ?? "online") : "offline", text: known?.text ?? "" };
  }
}
