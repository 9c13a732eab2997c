// Authors write messages piece by piece, and readers see them grow at two servers, while faults
// happen at random.
//
// Servers are killed, suspended and drained, and so are PostgreSQL and the broker, for up to twelve
// seconds. Authors go on at any server, change it, repeat pieces, abort, and stop without a word.
// Readers use WebSocket or poll, do not read for a while, join in the middle, reconnect and recover.
//
// Each event and each answer must have a beginning of the text, and each event must continue what
// its reader has. In the end every reader and the store have the text that its author has finished,
// or, if it was interrupted, the same beginning.
//
// FAULTS_SECONDS: duration of the faults with each adapter (default 15, with shorter faults;
// `tests/run faults SECONDS`).
// FAULTS_SEED: seed of the faults; each run prints its own.
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Supervised, assertRunning, faultsOf, faultsOfPostgres, faultsOfRedis, longOutage, rage, randomness } from "./nemesis.mjs";
import { io, keyed } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { startRedis } from "./redis.mjs";
import { roam } from "./roaming.mjs";
import { Author, request } from "./streamed_authors.mjs";
import { Reader } from "./streamed_readers.mjs";
import { Texts, lengthOf } from "./streamed_texts.mjs";
import { ask, lastingPort, metricIs, open, until } from "./support.mjs";
import { token } from "./tokens.mjs";

/** Connects a user who roams between servers. */
const named = (t, urls, random, name, options) => roam(t, urls, random, { sub: name, name }, options);

const seconds = Number(process.env.FAULTS_SECONDS ?? 15);
const isLong = seconds >= 60;
/** Multiplies the times of faults. */
const span = isLong ? 2 : 0.5;
/** An author may be silent for longer than any outage. */
const timeout = isLong ? 25_000 : 8_000;
/** What is stored of a text may be older than its author's last word by the time of an outage. */
const leastSilence = isLong ? 10_000 : 4_000;
const AUTHORS = isLong ? 6 : 5;

const env = {
  ...keyed,
  ROOMCAST_STORE__CONNECT_TIMEOUT: "1s",
  ROOMCAST_STORE__STATEMENT_TIMEOUT: "1s",
  ROOMCAST_STORE__RETRY_TIMEOUT: "1s",
  ROOMCAST_STORE__HEALTH_INTERVAL: "200ms",
  ROOMCAST_PRESENCE__LEASE: "3s",
  ROOMCAST_ENGINE__PING_INTERVAL: "1s",
  ROOMCAST_ENGINE__PING_TIMEOUT: "10s",
  ROOMCAST_RECOVERY__ENABLED: "true",
  ROOMCAST_SERVER__DRAIN: "1s",
  ROOMCAST_LIMITS__CONNECTIONS_PER_USER: "0",
  ROOMCAST_CHAT__STREAMS__TIMEOUT: `${timeout}ms`,
  // Authors leave more texts behind than people do.
  ROOMCAST_CHAT__STREAMS__PER_USER: "100",
};

const sum = (all, name) => all.reduce((sum, { counts }) => sum + counts[name], 0);

/** Interferes with a reader until it is over, as befits its kind. */
async function disturb(kind, { socket, link, move, reader }, conversationIds, random, isOver) {
  const one = () => conversationIds[Math.floor(random() * conversationIds.length)];
  while (!isOver()) {
    await sleep(200 + random() * 1300); // Pace of a reader.
    if (kind === "returning" || kind === "recovering") {
      if (random() < 0.6) move();
      else reader.read(one(), 1 + Math.floor(random() * 5));
      continue;
    }
    reader.read(one(), 1 + Math.floor(random() * 5));
    if (kind === "slow") {
      // Large answers fill the buffers of the kernel, so that texts wait at the server.
      for (let n = 0; n < 4; n++) reader.read(one(), 50);
      await sleep(20); // The requests pass the link.
      link.swallow();
      await sleep(random() * 2500); // The reader does not read.
      link.resume({ isBroken: random() < 0.2 && socket.connected });
    }
  }
}

/** Breaks the WebSockets of readers that recover, until some were recovered. */
async function recover(reading) {
  const before = sum(reading.map(({ reader }) => reader), "recovered");
  const isBack = () => reading.every(({ reader }) => reader.isIn());
  for (let tries = 10; tries > 0 && sum(reading.map(({ reader }) => reader), "recovered") === before; tries--) {
    const connections = reading.map(({ reader }) => reader.counts.connections);
    for (const one of reading) one.drop();
    await until(() => isBack() && reading.every(({ reader }, n) => reader.counts.connections > connections[n]), "all to be back");
    await sleep(500); // A client that has received nothing in a session is not recovered.
  }
}

/** Readers that come, join in the middle, and leave, until it is over. */
async function comeAndGo(t, urls, texts, conversationIds, random, isOver, past) {
  while (!isOver()) {
    const visitor = await named(t, urls, random, "visitor");
    const reader = new Reader(visitor, texts, conversationIds);
    past.push(reader);
    await sleep(500 + random() * 3000); // The visit.
    reader.close();
    visitor.link.close();
  }
}

/** Repeats a request until it succeeds. */
async function insist(socket, event, payload) {
  let answer;
  const isAnswered = async () => {
    answer = await request(socket, event, payload, { patience: 5000 });
    return answer?.success === true;
  };
  await until(isAnswered, () => `${event}: ${JSON.stringify(answer)}`);
  return answer;
}

/** Returns all messages of a conversation that are stored, by their texts. */
async function stored(socket, texts, conversationIds) {
  const found = new Map();
  for (const conversationId of conversationIds) {
    for (let [afterSeq, hasMore] = [0, true]; hasMore; ) {
      const page = await insist(socket, "message_history", { conversationId, afterSeq, limit: 100 });
      for (const message of page.messages) if (texts.of(message)) found.set(texts.of(message), message);
      ({ hasMore } = page);
      afterSeq = page.messages.at(-1)?.seq ?? afterSeq;
    }
  }
  return found;
}

for (const [name, scheme] of [["PostgreSQL", undefined], ["Redis", "redis"], ["a stream of Redis", "redis-streams"]]) {
  test(`texts grow only by their next pieces while ${name} and servers fail`, async (t) => {
    const seed = Number(process.env.FAULTS_SEED ?? randomInt(2 ** 32));
    t.diagnostic(`FAULTS_SEED=${seed}`);
    const random = randomness(seed);
    const own = () => randomness(random() * 2 ** 32);
    const postgres = await startPostgres();
    t.after(() => postgres.end());
    const broker = scheme && (await startRedis("--appendonly yes"));
    t.after(() => broker?.end());
    const adapter = broker && { ROOMCAST_ADAPTER__URL: `${scheme}://${broker.address}`, ROOMCAST_ADAPTER__KEY: "chat" };
    const servers = [];
    for (let n = 0; n < 2; n++) {
      const server = new Supervised({ ...env, ...adapter, ROOMCAST_STORE: postgres.url, ROOMCAST_LISTEN: `127.0.0.1:${await lastingPort()}` });
      servers.push({ server, url: (await server.start()).url });
      t.after(() => server.kill().catch(() => {}));
    }
    const urls = servers.map(({ url }) => url);
    const areJoined = () => Promise.all(urls.map((url) => metricIs(url, "roomcast_adapter_up", (up) => up === 1)));
    await areJoined();

    const texts = new Texts({ leastSilence });
    const kinds = ["live", "live", "slow", "slow", "polling", "returning", "returning", "recovering", "recovering"];
    const polls = (n) => kinds[n] === "polling" || n === kinds.length - 1;
    const clients = await Promise.all([
      ...Array.from({ length: AUTHORS }, (_, n) => named(t, urls, own(), `author ${n}`)),
      ...kinds.map((kind, n) => named(t, urls, own(), `${kind} ${n}`, polls(n) ? { transports: ["polling"] } : {})),
    ]);
    const auditor = (await named(t, urls, own(), "auditor")).socket;
    const memberIds = [...clients.map(({ name }) => name), "visitor"];
    const conversationIds = [];
    for (const title of ["one", "two"]) {
      const { conversation } = await insist(auditor, "create_conversation", { title, memberIds });
      conversationIds.push(conversation.id);
      const content = "x".repeat(9000);
      for (let n = 0; n < 20; n++) await insist(auditor, "message", { conversationId: conversation.id, content, clientMessageId: `${n} of ${title}` });
    }
    const authors = clients.slice(0, AUTHORS).map((one) => new Author(one, texts, own()));
    const reading = clients.slice(AUTHORS);
    const readers = reading.map((one, n) => (one.reader = new Reader(one, texts, conversationIds, { recovers: kinds[n] === "recovering" })));
    const visits = [];
    const counts = () => {
      const of = (all, names) => Object.fromEntries(names.map((name) => [name, sum(all, name)]));
      const all = [...readers, ...visits];
      return { texts: texts.all.length, ...of(authors, ["appends", "resumed", "unanswered", "finished", "interrupted"]),
        readers: all.length, ...of(all, ["appended", "reads", "joins", "connections", "recovered", "refused", "unknown"]) };
    };
    try {
      let isOver = false;
      const over = () => isOver;
      const disturbing = [
        ...reading.map((one, n) => disturb(kinds[n], one, conversationIds, own(), over)),
        comeAndGo(t, urls, texts, conversationIds, own(), over, visits),
      ];
      const writing = authors.map((author) => author.write(conversationIds));
      const serverOf = (some) => () => {
        const one = some[Math.floor(random() * some.length)];
        return (servers.find(({ url }) => url === one.link.target()) ?? servers[0]).server;
      };
      const happened = await rage(seconds, random, [
        {
          ...faultsOf("the server of an author", serverOf(clients.slice(0, AUTHORS)), random, span),
          ...faultsOf("the server of a reader", serverOf(reading), random, span),
          async "a server is drained"() {
            const { server } = servers[Math.floor(random() * servers.length)];
            assertRunning("a server", server);
            assert.equal(await server.stop(), 0);
            await server.start();
          },
        },
        { ...faultsOfPostgres(postgres, random, span), ...(isLong && longOutage("PostgreSQL", postgres, random)) },
        { ...(broker && faultsOfRedis(broker, random, span)), ...(broker && isLong && longOutage("Redis", broker, random)) },
      ], span);
      t.diagnostic(JSON.stringify(happened));
      isOver = true;
      for (const author of authors) author.stop();
      await Promise.all([...disturbing, ...writing]);
      await areJoined();
      await until(() => readers.every((reader) => reader.isIn()), "all readers to have joined");

      // Now that everything works, all readers see texts grow to their ends before they are ended.
      const lagging = (text) => readers.filter((reader) => reader.has(text)?.length !== text.characters.length);
      const shown = (text) => until(() => lagging(text).length === 0, () => `text ${text.id}, ${text.characters.length} characters, ${text.stored} stored, at\n${lagging(text).map((reader) => reader.story()).join("\n")}`);
      const last = authors.map((author, n) => {
        const text = texts.create(conversationIds[n % 2], random, { fate: "finish" });
        return author.writeOne(text, () => shown(text));
      });
      await Promise.all([...last, recover(reading.filter((_, n) => kinds[n] === "recovering" && !polls(n)))]);
      // Texts whose authors left them are ended by the servers.
      const growing = () => readers.flatMap(({ name, known }) => [...known.values()].filter(({ streaming }) => streaming).map(({ text }) => `${text.id} at ${name}`));
      const waiting = () => readers.filter(({ known }) => [...known.values()].some(({ streaming }) => streaming));
      await until(() => growing().length === 0, () => `the ends of ${growing()}\n${waiting().map((reader) => reader.story()).join("\n")}`);

      for (const url of urls) {
        const one = open(t, io, url, { auth: { token: token({ sub: "auditor" }) } });
        const found = await stored(one, texts, conversationIds);
        for (const text of texts.all) assertStored(text, found.get(text), texts);
        for (const reader of [...readers, ...visits]) assertSame(reader, found);
      }
      assert.deepEqual(postgres.query("SELECT count(*) FROM message_streams"), [["0"]]);
      t.diagnostic(JSON.stringify(counts()));
      assert.deepEqual(texts.wrong, []);
      assert.ok(sum(readers, "appended") > 20 * readers.length, "there was something to see");
      assert.ok(sum(readers, "recovered") > 0, "those that recover were recovered");
      // In a short run, no author may have been in the middle of a text when its server was killed.
      if (isLong) assert.ok(sum(authors, "resumed") > 0, "authors went on");
      for (const { server } of servers) {
        assert.doesNotMatch(server.output(), /panicked/);
        assert.equal(await server.stop(), 0);
      }
    } catch (error) {
      const said = servers.map(({ server }) => server.output().split("\n").slice(-200).join("\n"));
      console.error(`FAULTS_SEED=${seed}\n${JSON.stringify(counts())}\n${texts.wrong.slice(0, 5).join("\n\n")}\n${said.join("\n---\n")}`);
      throw error;
    } finally {
      for (const reader of [...readers, ...visits]) reader.close();
    }
  });
}

/** A text whose author was answered is stored as it was ended. */
function assertStored(text, message, texts) {
  const what = `text ${text.id} (${text.fate})`;
  assert.ok(message !== undefined, `${what} is not stored`);
  assert.ok(!message.streaming, `${what} grows`);
  const problem = text.problemOf(message);
  if (problem !== undefined) texts.blame(`the store: ${what} ${problem}`);
}

/** What a reader has in the end is what is stored. */
function assertSame(reader, found) {
  for (const { text, streaming, content, interrupted, length } of reader.known.values()) {
    const message = found.get(text);
    // A visitor left before the end.
    if (streaming) {
      const end = lengthOf(message.content);
      assert.ok(length <= Math.max(end, text.sent), `${reader.name} has ${length} characters of ${end}`);
      continue;
    }
    assert.equal(content, message.content, `${reader.name} has the text that is stored`);
    assert.equal(interrupted, message.interrupted ?? false, `${reader.name} knows whether it was interrupted`);
  }
}
