// The promises of docs/delivery.md, with stock clients and networks that lose packets.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { ask, connect, startExample, until, within } from "./support.mjs";
import { startLink } from "./link.mjs";

let server;
before(async () => (server = await startExample("delivery")));
after(() => server.stop());

/** Repeats after a second, for as long as a test lasts. */
const repeating = { retries: 10_000, ackTimeout: 1_000, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 };

async function connectOverLink(t, options = {}) {
  const link = await startLink(server.url);
  t.after(() => link.close());
  const socket = await connect(t, io, link.url, { ...repeating, auth: { user: "ann" }, ...options });
  const watcher = await connect(t, io, server.url, { auth: { user: "watcher" } });
  return { link, socket, runs: (id) => ask(watcher, "runs", id) };
}

/** Emits with retries and returns the answer. */
function order(socket, name, order) {
  const answered = new Promise((done, fail) =>
    socket.emit(name, order, (error, ...answer) => (error ? fail(error) : done(answer))),
  );
  return within(answered, `the answer to ${name}`);
}

/** Records the packets that the client has sent for an event. */
function countSent(socket, name) {
  const sent = [];
  socket.onAnyOutgoing((event) => event === name && sent.push(event));
  return sent;
}

for (const transports of [["polling"], ["websocket"]]) {
  test(`a lost acknowledgement is sent again over ${transports}`, async (t) => {
    const { link, socket, runs } = await connectOverLink(t, { transports });
    const sent = countSent(socket, "order");
    const id = `lost-${transports}`;
    link.holdAnswers();
    const answer = order(socket, "order", { orderId: id, ms: 0 });
    if (transports[0] === "websocket") await until(() => sent.length >= 3, "repeats");
    else await until(async () => (await runs(id)) > 0, "the order");
    link.cut();
    link.releaseAnswers();
    link.restore();
    assert.deepEqual(await answer, [id, 1]);
    assert.ok(sent.length >= 2, `${sent.length} sent`);
    assert.equal(await runs(id), 1);
  });

  test(`a repeat waits for an order in progress over ${transports}`, async (t) => {
    const { socket, runs } = await connectOverLink(t, { transports });
    const sent = countSent(socket, "order");
    const id = `slow-${transports}`;
    assert.deepEqual(await order(socket, "order", { orderId: id, ms: 2_500 }), [id, 1]);
    assert.ok(sent.length >= 2, `${sent.length} sent`);
    assert.equal(await runs(id), 1);
  });

  test(`an order continues while its client is disconnected over ${transports}`, async (t) => {
    const { link, socket, runs } = await connectOverLink(t, { transports });
    const id = `away-${transports}`;
    const answer = order(socket, "order", { orderId: id, ms: 2_500 });
    await until(async () => (await runs(id)) > 0, "the order");
    link.cut();
    link.restore();
    assert.deepEqual(await answer, [id, 1]);
    assert.equal(await runs(id), 1);
  });
}

test("a client that repeats a request as the same user gets the same answer", async (t) => {
  const { socket, runs } = await connectOverLink(t);
  assert.deepEqual(await order(socket, "order", { orderId: "later", ms: 0 }), ["later", 1]);
  const second = await connect(t, io, server.url, { auth: { user: "ann" } });
  assert.deepEqual(await ask(second, "order", { orderId: "later", ms: 0 }), ["later", 1]);
  const other = await connect(t, io, server.url, { auth: { user: "bob" } });
  assert.deepEqual(await ask(other, "order", { orderId: "later", ms: 0 }), ["later", 2]);
  assert.equal(await runs("later"), 2);
});

test("without idempotent a repeat runs again", async (t) => {
  const { socket, runs } = await connectOverLink(t);
  const [id] = await order(socket, "plain", { orderId: "plain", ms: 100 });
  assert.equal(id, "plain");
  const slow = connect(t, io, server.url, { ...repeating, ackTimeout: 50, retries: 2, auth: { user: "ann" } });
  const answer = order(await slow, "plain", { orderId: "twice", ms: 5_000 });
  await assert.rejects(answer, /timed out/);
  await until(async () => (await runs("twice")) === 3, "the third run, which begins when the packet has come");
});

test("a hundred orders over a failing network are each executed once", async (t) => {
  const { link, socket, runs } = await connectOverLink(t, { transports: ["websocket"] });
  let sent = 0;
  let breaks = 0;
  // After every fourth packet: while it is in flight, being handled, or its answer is in flight.
  socket.onAnyOutgoing(() => {
    if (++sent % 4 > 0) return;
    const pause = breaks++ % 8;
    // The position of the packet when the network breaks.
    setTimeout(() => {
      link.cut();
      link.restore();
    }, pause);
  });
  const answers = [];
  for (let i = 0; i < 100; i++) answers.push(order(socket, "order", { orderId: `many-${i}`, ms: i % 7 }));
  const got = await Promise.all(answers);
  assert.ok(breaks >= 25, `${breaks} breaks`);
  assert.deepEqual(got, Array.from({ length: 100 }, (_, i) => [`many-${i}`, 1]));
  for (let i = 0; i < 100; i++) assert.equal(await runs(`many-${i}`), 1);
});
