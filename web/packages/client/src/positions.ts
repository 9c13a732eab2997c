/** Stores the position of each channel over reloads. */
export interface PositionStorage {
  /** Returns the stored position of this user, or `undefined`. */
  load(userId: string, channel: string): string | undefined | Promise<string | undefined>;
  /** Stores a position. Called after the listeners have received the event at this position. */
  save(userId: string, channel: string, position: string): void | Promise<void>;
}

/**
 * Stores positions in `localStorage`, one for each channel. The position of another user replaces
 * that of the user before.
 */
export function localPositions(name = "roomcast"): PositionStorage {
  const keyOf = (channel: string) => `${name}:channel:${channel}`;
  return {
    load: (userId, channel) => {
      const [owner, position] = JSON.parse(localStorage.getItem(keyOf(channel)) ?? "[]");
      return owner === userId ? position : undefined;
    },
    save: (userId, channel, position) => localStorage.setItem(keyOf(channel), JSON.stringify([userId, position])),
  };
}

/**
 * Returns `localPositions()` in a page. Some versions of Node have a `localStorage` that fails or
 * does not outlast the program.
 */
export function defaultPositions(): PositionStorage | false {
  return typeof document !== "undefined" && localPositions();
}
