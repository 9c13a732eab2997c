// Many members of several conversations, and what must hold for everything that they have seen.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { io } from "socket.io-client";
import { Member } from "./member.mjs";
import { ask, connect, open, until, within } from "./support.mjs";

export const LOBBY = "00000000-0000-4000-8000-000000000001";

/**
 * Connects this number of members, all in the Lobby, and in three conversations with every third
 * member each. `options` returns more options of the n-th connection, and its `recovery` if set.
 */
export async function enter(t, url, random, count, options = () => ({})) {
  const members = Array.from({ length: count }, (_, n) => {
    const name = `member ${n}`;
    const { recovery, ...more } = options(n);
    const socket = open(t, io, url, {
      auth: identity(name),
      retries: 3,
      ackTimeout: 3000,
      timeout: 3000,
      reconnection: true,
      reconnectionDelay: 50,
      reconnectionDelayMax: 500,
      transports: random() < 0.7 ? ["websocket"] : ["polling", "websocket"],
      ...more,
    });
    return new Member(socket, name, recovery);
  });
  const here = members.map(({ socket, name }) => {
    return within(new Promise((done) => socket.once("session", done)), () => `${name} to come: ${socket.connected}`);
  });
  await Promise.all(here);
  const auditor = await connect(t, io, url, { auth: identity("auditor") });
  const rooms = [0, 1, 2].map(async (third) => {
    const memberIds = members.filter((_, n) => n % 3 === third).map(({ userId }) => userId);
    const { conversation } = await insist(auditor, "create_conversation", { memberIds });
    return conversation.id;
  });
  const ids = await Promise.all(rooms);
  auditor.disconnect();
  members.forEach((member, n) => member.join([LOBBY, ids[n % 3]]));
  return members;
}

/**
 * Returns how the n-th member uses recovery: half of them use it, the rest request missed messages
 * by `lastSeq`.
 */
export const recoveryOf = (n) => (Math.floor(n / 4) % 2 === 0 ? "used" : "declined");

/** Returns how often something has happened to all members together. */
export const total = (members, name) => members.reduce((sum, { counts }) => sum + counts[name], 0);

/**
 * Repeats a request while the server's store is unavailable, at the times that the server states,
 * and returns the answer.
 */
async function insist(socket, name, command) {
  let answer;
  const isAnswered = async () => {
    answer = await ask(socket, name, command);
    const isAway = answer.error?.code === "STORE_UNAVAILABLE";
    if (isAway) await sleep(answer.error.retryAfter); // Retry time of the server.
    return !isAway;
  };
  await until(isAnswered, () => `a good answer to ${name}, which was ${JSON.stringify(answer)}`);
  assert.equal(answer.success, true, JSON.stringify(answer));
  return answer;
}

/**
 * Sends a last message: every present member gets it, and whatever has not arrived before it is
 * missing.
 */
export async function conclude(auditor, conversationId, members) {
  const content = `the last one of ${conversationId}`;
  const { message } = await insist(auditor, "message", { conversationId, content, clientMessageId: content });
  const without = () =>
    members.filter(({ timelines }) => timelines.has(conversationId) && !timelines.get(conversationId).has(message.seq));
  const missing = () => `${message.seq} at ${without().map((member) => member.describe(conversationId))}`;
  await until(() => without().length === 0, missing);
  // Closed before members request what they lack: messages that did not arrive by themselves are
  // missing.
  for (const { timelines } of members) timelines.get(conversationId)?.close();
  return message;
}

/** Returns the credentials of a guest who keeps the same id. */
export function identity(name) {
  return { name, guestKey: `the key of ${name}`.padEnd(20, "-") };
}

/** Returns all stored messages of a conversation. */
export async function history(auditor, conversationId) {
  const stored = [];
  for (let hasMore = true; hasMore; ) {
    const afterSeq = stored.at(-1)?.seq ?? 0;
    const page = await insist(auditor, "message_history", { conversationId, afterSeq, limit: 200 });
    stored.push(...page.messages);
    ({ hasMore } = page);
  }
  return stored;
}

export function check(id, stored, present, acked, unacked) {
  assert.deepEqual(stored.map(({ seq }) => seq), stored.map((_, i) => i + 1), "no gap and no double");
  // The content of each message is the client's id for it.
  const contents = new Set(stored.map(({ content }) => content));
  assert.equal(contents.size, stored.length, "each is stored once");
  for (const { content } of stored) assert.ok(acked.has(content) || unacked.has(content), content);
  for (const message of acked.values()) {
    if (message.conversationId !== id) continue;
    assert.deepEqual(stored[message.seq - 1], message, "what was acknowledged is what is stored");
  }
  for (const member of present) {
    const timeline = member.timelines.get(id);
    member.close();
    assert.equal(timeline.last, stored.length, `${member.name} has seen all`);
    for (const { seq, id } of stored) assert.equal(timeline.seen.get(seq), id, `${member.name} at ${seq}`);
    // Messages that a connection did not bring are the member's own, whose acknowledgement was
    // lost.
    const missing = [...timeline.missing].filter((seq) => !timeline.live.has(seq));
    const foreign = missing.filter((seq) => stored[seq - 1].userId !== member.userId);
    assert.deepEqual(foreign, [], `${member.name} was there and did not get them`);
  }
}

/**
 * Stops the members, and checks everything stored and everything they have seen, at a server that
 * can read all of it.
 */
export async function account(t, url, members, writing) {
  for (const member of members) member.stop();
  await Promise.all(writing);
  const acked = new Map(members.flatMap((member) => [...member.acked]));
  const unacked = new Set(members.flatMap((member) => [...member.unacked]));
  const auditor = await connect(t, io, url, { auth: identity("auditor") });
  for (const id of new Set(members.flatMap(({ timelines }) => [...timelines.keys()]))) {
    const last = await conclude(auditor, id, members);
    acked.set(last.content, last);
    const stored = await history(auditor, id);
    const present = members.filter((member) => member.timelines.has(id));
    await Promise.all(present.map((member) => member.catchUp(id, stored.length)));
    check(id, stored, present, acked, unacked);
  }
  assert.deepEqual(members.flatMap(({ wrong }) => wrong), []);
  return { acked, unacked };
}
