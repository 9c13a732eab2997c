// Set-up for tests of a chat on several servers: servers on one PostgreSQL, and users at each of
// them.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { enter, io, keyed, server } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { ask, command, connect, metricIs, next, startNamed, until } from "./support.mjs";
import { token } from "./tokens.mjs";

/** The database of all servers of a file. */
export let postgres;
before(async () => (postgres = await startPostgres()));
after(() => postgres?.end());

/** Starts this number of servers on the database, connected as these variables configure. */
export async function startServers(t, count, joined, env = {}) {
  const times = { ROOMCAST_PRESENCE__GRACE: "100ms", ROOMCAST_CHAT__CONFIRM_TIMEOUT: "30s" };
  const variables = { ROOMCAST_STORE: postgres.url, ...times, ...joined, ...env };
  const servers = await Promise.all(Array.from({ length: count }, () => server(t, variables)));
  if (joined !== nothing) {
    await Promise.all(servers.map(({ url }) => metricIs(url, "roomcast_adapter_up", (up) => up === 1)));
  }
  return servers;
}

/** What connects servers: nothing, the default, or a Redis. */
export const nothing = { ROOMCAST_ADAPTER__URL: "none" };
export const whatIsThere = {};
/** For servers that Node servers and emitters join, so that nothing is sealed. */
export const withNode = { ROOMCAST_ADAPTER__TRUST: "shared-with-node" };
export const by = (redis) => ({ ROOMCAST_ADAPTER__URL: `redis://${redis.address}`, ROOMCAST_ADAPTER__KEY: "chat" });

async function must(socket, name, payload) {
  const answer = await ask(socket, name, payload);
  assert.equal(answer.success, true, `${name}: ${JSON.stringify(answer)}`);
  return answer;
}

/** Connects a user of this name to a server, who records all events. */
export async function person(t, { url }, name, options = {}) {
  const auth = { token: token({ sub: name, name }) };
  const { socket } = await enter(t, url, { auth, transports: ["websocket"], ...options });
  const heard = [];
  socket.onAny((event, payload) => heard.push([event, payload]));
  const all = (event) => heard.filter(([name]) => name === event).map(([, payload]) => payload);
  return { name, socket, heard, all, must: (event, payload) => must(socket, event, payload) };
}

let made = 0;
/** Creates a conversation of these users, owned by the first, which no user has joined yet. */
export async function conversation([owner, ...others], title = `number ${made++}`) {
  const memberIds = others.map(({ name }) => name);
  const { conversation } = await owner.must("create_conversation", { title, memberIds });
  return conversation.id;
}

/** Connects users to the servers in turn, all in one conversation. */
export async function gathered(t, servers, names) {
  const people = await Promise.all(names.map((name, n) => person(t, servers[n % servers.length], name)));
  const conversationId = await conversation(people);
  for (const one of people) await one.must("join_conversation", { conversationId });
  return { people, conversationId };
}

export const seqs = (one) => one.all("message").map(({ seq }) => seq);
export const present = async (one, conversationId) =>
  (await one.must("presence", { conversationId })).users.map(({ userId }) => userId).sort();

/** Waits until all users see each other. */
export async function acquainted(people, conversationId) {
  const names = people.map(({ name }) => name).sort();
  for (const one of people) {
    await until(async () => `${await present(one, conversationId)}` === `${names}`, `${names} for ${one.name}`);
  }
}

/** Returns the events about conversations that a user received, in short. */
export const news = (one, conversationId) =>
  one.heard.flatMap(([event, payload]) => {
    if (event === "conversation_deleted" && payload.conversationId === conversationId) return ["deleted"];
    if (event !== "conversation_updated" || payload.conversation.id !== conversationId) return [];
    return [`${payload.conversation.title} of ${payload.conversation.memberIds.join(" ")}`];
  });

/** Checks events that reach other servers immediately or not at all. */
export async function typesAcross(t, servers, name) {
  const { people, conversationId } = await gathered(t, servers, [`ann ${name}`, `bob ${name}`, `carl ${name}`]);
  const [ann, bob, carl] = people;
  const typing = (one) => one.all("typing").map(({ userId, isTyping }) => `${userId} ${isTyping}`);
  // Typing also ends by itself if it is not repeated in time.
  const told = (count) => [bob, carl].every((one) => typing(one).length >= count);
  await ann.must("typing", { conversationId, isTyping: true });
  await until(() => told(1), "typing");
  await ann.must("typing", { conversationId, isTyping: false });
  await until(() => told(2), "the end of typing");
  // A client that has not joined the conversation, and whose connection ends while it types.
  const tab = await person(t, servers[1], ann.name);
  await tab.must("typing", { conversationId, isTyping: true });
  await until(() => told(3), "typing from outside");
  await bob.must("typing", { conversationId, isTyping: true });
  await until(() => typing(ann).includes(`${bob.name} true`), "Bob's typing");
  bob.socket.disconnect();
  await until(() => typing(ann).includes(`${bob.name} false`), "its end");
  assert.deepEqual(typing(carl).slice(0, 3), [`${ann.name} true`, `${ann.name} false`, `${ann.name} true`]);
  return { people, conversationId };
}

/** All members, at any server, confirm a message of the first. */
export async function confirmsAcross(t, servers, names) {
  const { people, conversationId } = await gathered(t, servers, names);
  const [ann, ...others] = people;
  for (const one of others) one.socket.on("message", (_, confirm) => confirm?.());
  const report = next(ann.socket, "message_delivered");
  const { message } = await ann.must("message", { conversationId, content: "hello", confirmDelivery: true });
  const [{ messageId, expected, delivered, timedOut }] = await report;
  assert.deepEqual([messageId, expected, delivered, timedOut], [message.id, others.length, others.length, false]);
  for (const one of others) assert.deepEqual(seqs(one), [message.seq], one.name);
}

/** The emit command reaches a user's tabs at all servers through the broker at this address. */
export async function emitsAcross(t, servers, url, name, ROOMCAST_ADAPTER__KEY = "chat") {
  const tabs = await Promise.all(servers.map((server) => person(t, server, name)));
  // The command seals with the secret in the store.
  const env = { ...keyed, ROOMCAST_STORE: postgres.url, ROOMCAST_ADAPTER__KEY };
  const emitted = command(["emit", `user:${name}`, "news", '{"of":7}', "--adapter", url], env);
  assert.equal(emitted.status, 0, emitted.stderr);
  for (const tab of tabs) {
    await until(() => tab.all("news").length === 1, "the event");
    assert.deepEqual(tab.all("news"), [{ of: 7 }]);
  }
}

/**
 * What a library server emits into the room of a conversation through the broker at this address,
 * and what `others` emit, reaches the sockets as plain events. That holds also if it looks like a
 * message, and it moves no sequence.
 */
export async function plainAcross(t, servers, name, { ADAPTER, ADAPTER_KEY }, others = []) {
  const { people, conversationId } = await gathered(t, servers, [`ann ${name}`, `bob ${name}`, `carl ${name}`]);
  const [ann, ...rest] = people;
  const room = `conversation:${conversationId}`;
  const library = await startNamed("library", { ADAPTER, ...(ADAPTER_KEY && { ADAPTER_KEY }) });
  t.after(() => library.stop());
  const socket = await connect(t, io, library.url);
  await until(async () => (await ask(socket, "fetch", room)).length === people.length, "the library to find all of them");
  const senders = [...others, (...args) => socket.emit("in", ...args)];
  const forged = senders.map((_, n) => ({ conversationId, seq: 99 + n, content: `forged ${n}` }));
  for (const [n, send] of senders.entries()) {
    send(room, "message", forged[n]);
    send(room, "news", { n });
    for (const one of people) {
      await until(() => one.all("news").length > n && one.all("message").length > n, `both events of ${n} at ${one.name}`);
    }
  }
  for (const one of people) {
    assert.deepEqual(one.all("message"), forged);
    assert.deepEqual(one.all("news"), senders.map((_, n) => ({ n })));
  }
  const { message } = await ann.must("message", { conversationId, content: "real" });
  assert.equal(message.seq, 1);
  for (const one of rest) {
    await until(() => one.all("message").length > forged.length, `the real message at ${one.name}`);
    assert.deepEqual(one.all("message").slice(forged.length), [message]);
  }
  const late = await person(t, servers.at(-1), rest[0].name);
  const { messages } = await late.must("join_conversation", { conversationId, lastSeq: 0 });
  assert.deepEqual(messages, [message]);
}
