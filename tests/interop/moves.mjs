// When clients leave a server that is drained and come back, by their own account.
import assert from "node:assert/strict";

/** Writes down from now on when members are disconnected, and why, and when they are back: milliseconds from now. */
export function watchMoves(members) {
  const begin = performance.now();
  const moves = { left: [], back: [], reasons: [], end };
  const listeners = members.map(({ socket }) => {
    let isHere = true;
    const disconnect = (reason) => {
      // Who was not let in yet has not left: HAProxy answers 408 where nothing of a request has come for ten seconds.
      if (!isHere) return;
      isHere = false;
      moves.left.push(performance.now() - begin);
      moves.reasons.push(reason);
    };
    const connect = () => {
      isHere = true;
      moves.back.push(performance.now() - begin);
    };
    socket.on("disconnect", disconnect).on("connect", connect);
    return () => socket.off("disconnect", disconnect).off("connect", connect);
  });
  /** Until here. */
  function end() {
    for (const forget of listeners) forget();
    return moves;
  }
  return moves;
}

/** Whether all are connected. */
export const areBack = (members) => members.every(({ socket }) => socket.connected);

/**
 * That what happened at these times is spread over a window in milliseconds, of which a server uses nine tenths. No tenth but
 * one has more than four times its share, so much because one process has all the clients, and none has more than half of all:
 * a machine that stands still for seconds makes up for them at once. Returns how it was, as a text.
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
