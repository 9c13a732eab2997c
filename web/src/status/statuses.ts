import type { UserStatus } from "../types.ts";

/** More users than this are forgotten, those longest known first. */
const MAX_KNOWN = 5_000;

/** What users say of themselves, by id; of each the newest. */
export class Statuses {
  readonly #all = new Map<string, UserStatus>();

  /** Takes what is newer than what is known, wherever it comes from; tells whether it was. */
  take(status: UserStatus): boolean {
    const known = this.#all.get(status.userId);
    // Later by the clock of the server, of which the same status may come more than once.
    if (known !== undefined && !(Date.parse(status.timestamp) > Date.parse(known.timestamp))) return false;
    this.#all.set(status.userId, status);
    for (const oldest of this.#all.keys()) if (this.#all.size > MAX_KNOWN) this.#all.delete(oldest);
    return true;
  }

  of(userId: string): UserStatus | undefined {
    return this.#all.get(userId);
  }

  /** What is shown of somebody: who is not present is offline, whatever was said. */
  shown(userId: string, isPresent: boolean): { status: UserStatus["status"]; text: string } {
    const said = this.#all.get(userId);
    return { status: isPresent ? (said?.status ?? "online") : "offline", text: said?.text ?? "" };
  }
}
