import { type Line } from "./line/line.ts";
import { SharedLine } from "./line/shared.ts";
import type { SocketLine } from "./line/socket.ts";
import type { Note } from "./log.ts";

/** Creates a connection that tabs share. A manager calls it once. */
export type Share = (connect: () => SocketLine, note: Note) => Line;

/**
 * Lets all tabs that pass the same name use one connection. Without Web Locks or
 * `BroadcastChannel`, as in Node and on pages without TLS, every tab has its own connection.
 */
export function shareConnection(name: string): Share {
  return (connect, note) => {
    const canShare = typeof BroadcastChannel !== "undefined" && globalThis.navigator?.locks !== undefined;
    return canShare ? new SharedLine(name, connect, note) : connect();
  };
}
