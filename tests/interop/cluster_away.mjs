// What servers know of each other during a broker outage and afterwards, and when a server has
// left, whatever connects them. Promised times apply to an idle machine: a busy one may take that
// much longer.
import assert from "node:assert/strict";
import { all, people } from "./cluster.mjs";
import { ask, until, within } from "./support.mjs";

const AWAY = 6_000 + 14_000;
const BACK = 10_000 + 20_000;
const GONE = 15_000 + 15_000;

/**
 * Returns whether the requests of a socket are answered by all: by the other servers, which have
 * these names, and by this number of sockets in the room.
 */
async function areTogether(socket, room, names, count) {
  const [servers, answers, found, counted] = await Promise.all([
    ask(socket, "servers"),
    ask(socket, "server-side-ack", 7),
    ask(socket, "fetch", room),
    ask(socket, "count", room),
  ]);
  const expected = names.map((name) => [name, 7]);
  return servers === names.length + 1 && counted === count && found.length === count && `${answers}` === `${expected}`;
}

/**
 * Takes the broker down with `leave` and up again with `come`.
 *
 * During the outage, a server answers requests in time with what it knows, or that it does not
 * know. Afterwards all servers answer again. The first socket sends the requests. `names` are those
 * of the servers that its own server is connected to, and each has one of the sockets.
 */
export async function goesAway({ sockets, heard, room }, names, leave, come) {
  const [socket] = sockets;
  for (const one of sockets) one.on("question", (n, done) => done(n));
  await leave();
  socket.emit("in", room, "news", "alone");
  await all(heard.slice(0, 1), 1);
  const inTime = (name, ...args) => within(ask(socket, name, ...args), () => `the answer to ${name} without a broker`, AWAY);
  const [found, counted, told, servers, [isComplete, answers]] = await Promise.all([
    inTime("fetch", room),
    inTime("count", room),
    inTime("server-side-ack", 7),
    inTime("servers"),
    inTime("bcast-ack", room, 5_000, "question", 1),
  ]);
  assert.equal(found, "timeout");
  assert.equal(counted, 1);
  assert.equal(told, "timeout");
  assert.ok(servers >= 1 && servers <= names.length + 1, `${servers} servers`);
  assert.deepEqual([isComplete, answers], [false, [1]]);
  await come();
  const isBack = async () => {
    const [isComplete, answers] = await ask(socket, "bcast-ack", room, 1_000, "question", 1);
    return isComplete && answers.length === sockets.length && areTogether(socket, room, names, sockets.length);
  };
  await until(isBack, "all to be joined again", BACK);
}

/**
 * Starts two more servers with `start`, and checks that both disappear for the rest: one stops, and
 * one is killed. `names` are those of the servers that the first is connected to.
 */
export async function areMissed(t, servers, names, start) {
  const more = await Promise.all(["c", "d"].map(start));
  const [killed, stopped] = more;
  const { sockets, room } = await people(t, [...servers, ...more]);
  const isKnown = (...others) => () => areTogether(sockets[0], room, [...names, ...others].sort(), servers.length + others.length);
  await until(isKnown("c", "d"), "all servers");
  await stopped.stop();
  await until(isKnown("c"), "the one that stops to be missed", GONE);
  await killed.stop("SIGKILL");
  await until(isKnown(), "the one that was killed to be missed", GONE);
}
