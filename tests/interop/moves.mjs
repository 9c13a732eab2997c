// When clients leave a draining server and reconnect, as recorded by the clients.
import assert from "node:assert/strict";

/**
 * Records when members are disconnected and why, and when they are reconnected, in milliseconds
 * from now.
 */
export function watchMoves(members) {
  const begin = performance.now();
  const moves = { left: [], back: [], reasons: [], end };
  const listeners = members.map(({ socket }) => {
    let isConnected = true;
    const disconnect = (reason) => {
      // A client that was not admitted yet has not left: HAProxy answers 408 after ten seconds
      // without a request.
      if (!isConnected) return;
      isConnected = false;
      moves.left.push(performance.now() - begin);
      moves.reasons.push(reason);
    };
    const connect = () => {
      isConnected = true;
      moves.back.push(performance.now() - begin);
    };
    socket.on("disconnect", disconnect).on("connect", connect);
    return () => socket.off("disconnect", disconnect).off("connect", connect);
  });
  /** Stops recording. */
  function end() {
    for (const unsubscribe of listeners) unsubscribe();
    return moves;
  }
  return moves;
}

/** Returns whether all members are connected. */
export const areBack = (members) => members.every(({ socket }) => socket.connected);

/**
 * Asserts that these times are spread over a window in milliseconds, of which a server uses nine
 * tenths.
 *
 * No tenth but the last has more than four times its share; one process has all the clients, so the
 * factor is large. No tenth has more than half of all: a machine that stalls for seconds makes up
 * for them afterwards. Returns the distribution as text.
 */
export function assertSpread(what, times, window) {
  const tenths = new Map();
  for (const time of times) {
    const tenth = Math.floor((time / window) * 10);
    tenths.set(tenth, (tenths.get(tenth) ?? 0) + 1);
  }
  const [busiest, next = 0] = [...tenths.values()].sort((one, other) => other - one);
  const last = Math.max(...times);
  const how = `${times.length} ${what}, ${busiest} in the busiest tenth of the window, the last after ${(last / window).toFixed(2)} of it`;
  assert.ok(next <= 4 * Math.ceil(times.length / 9) && busiest <= times.length / 2, how);
  assert.ok(last >= window / 2, how);
  return how;
}
