// Trades, signals, portfolios, prices and notifications with the official client: every event of
// the tables, also over a connection that is lost.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import { describe, test } from "node:test";
import { checkAnswered, checkReceived, checksAll } from "./catalog.mjs";
import { startLink } from "./link.mjs";
import { call, enter, io, server } from "./people.mjs";
import { ask, next, until } from "./support.mjs";
import { token } from "./tokens.mjs";

const service = token({ sub: "backend", roles: ["service"] });

/** Sends a request and expects success. */
async function must(socket, event, ...payload) {
  const answer = await ask(socket, event, ...payload);
  assert.equal(answer.success, true, `${event}: ${JSON.stringify(answer)}`);
  checkAnswered(event, payload[0], answer);
  return answer;
}

/** Publishes as a service does. */
async function publish(url, path, body) {
  const { status, body: answer } = await call(url, "POST", `/api/v1${path}`, body, `Bearer ${service}`);
  assert.equal(status, 200, JSON.stringify(answer));
  return answer;
}

async function user(t, url, sub, roles = ["user"], options = {}) {
  return (await enter(t, url, { auth: { token: token({ sub, roles }) }, ...options })).socket;
}

/** Records all events of these names, in order. */
function record(socket, ...names) {
  const events = [];
  for (const name of names) {
    socket.on(name, (body) => {
      checkReceived(name, body);
      events.push([name, body]);
    });
  }
  return events;
}

const trade = (tradeId, status, executedPrice = null) => {
  return { tradeId, userId: "ann", symbol: "AAPL", side: "buy", status, executedPrice, quantity: 2 };
};
const signal = (signalId, channelId) => {
  return { signalId, channelId, providerId: "p", providerName: "P", symbol: "ES=F", action: "hold", confidence: 50 };
};

describe("the market", () => {
  test("a client follows trades, portfolio and signals by documented events", async (t) => {
    const { url } = await server(t);
    const ann = await user(t, url, "ann");
    const events = record(ann, "trades:subscribed", "portfolio:subscribed", "signals:subscribed");
    assert.equal((await must(ann, "subscribe:trades", { userId: "ann" })).room, "trades:ann");
    assert.equal((await must(ann, "subscribe:portfolio", { userId: "ann" })).room, "portfolio:ann");
    assert.equal((await must(ann, "subscribe:signals")).room, "signals");
    assert.equal((await must(ann, "subscribe:signals", { channelId: "gold" })).room, "signals:gold");
    assert.deepEqual(
      events.map(([name, { room }]) => [name, room]),
      [
        ["trades:subscribed", "trades:ann"],
        ["portfolio:subscribed", "portfolio:ann"],
        ["signals:subscribed", "signals"],
        ["signals:subscribed", "signals:gold"],
      ],
    );
    record(ann, "trade:update", "portfolio:update", "signal:new");
    const updates = [next(ann, "trade:update"), next(ann, "portfolio:update"), next(ann, "signal:new")];
    await publish(url, "/trades", trade("t1", "executed", 190.5));
    const positions = [{ symbol: "AAPL", quantity: 2, avgPrice: 190.5 }];
    await publish(url, "/portfolios", { userId: "ann", totalValue: 381, cash: 0, positions });
    await publish(url, "/signals", signal("s1", "gold"));
    const [[updated], [portfolio], [advice]] = await Promise.all(updates);
    const { timestamp, ...rest } = updated;
    assert.match(timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.deepEqual(rest, { ...trade("t1", "executed", 190.5), revision: 1 });
    assert.deepEqual([portfolio.totalValue, portfolio.positions], [381, positions]);
    assert.deepEqual([advice.signalId, advice.action, advice.entryPrice], ["s1", "hold", null]);
    const ends = record(ann, "trades:unsubscribed", "portfolio:unsubscribed", "signals:unsubscribed");
    await must(ann, "unsubscribe:trades", { userId: "ann" });
    await must(ann, "unsubscribe:portfolio", { userId: "ann" });
    await must(ann, "unsubscribe:signals", {});
    await must(ann, "unsubscribe:signals", { channelId: "gold" });
    assert.deepEqual(ends.map(([, { room }]) => room), ["trades:ann", "portfolio:ann", "signals", "signals:gold"]);
  });

  test("a reconnected client continues after its last known revision", async (t) => {
    const { url } = await server(t, { ROOMCAST_LIMITS__API_CALLS_PER_SECOND: "0" });
    const first = await user(t, url, "ann");
    await publish(url, "/trades", trade("t1", "pending"));
    await publish(url, "/signals", signal("s0", "gold"));
    const trades = await must(first, "subscribe:trades", { userId: "ann" });
    const signals = await must(first, "subscribe:signals", { channelId: "gold" });
    assert.deepEqual([trades.snapshot.hasMore, signals.snapshot.hasMore], [false, false]);
    first.disconnect();
    await publish(url, "/trades", trade("t1", "executed", 190.5));
    for (let number = 1; number <= 203; number += 1) await publish(url, "/signals", signal(`s${number}`, "gold"));
    const ann = await user(t, url, "ann");
    const updates = record(ann, "signal:new");
    const changed = await must(ann, "subscribe:trades", { userId: "ann", sinceRevision: trades.snapshot.revision });
    assert.deepEqual(changed.snapshot.trades.map(({ tradeId, status }) => [tradeId, status]), [["t1", "executed"]]);
    const since = { channelId: "gold", sinceRevision: signals.snapshot.revision };
    const { snapshot } = await must(ann, "subscribe:signals", since);
    assert.deepEqual([snapshot.hasMore, snapshot.sinceRevision], [true, since.sinceRevision]);
    await publish(url, "/signals", signal("s204", "gold"));
    // The pages of what did not fit, the newest first.
    const missed = snapshot.signals.map(({ signalId }) => signalId);
    let { cursor } = snapshot;
    while (cursor !== undefined) {
      const page = await must(ann, "signals:history", { ...since, cursor, limit: 2 });
      assert.equal(page.hasMore, page.cursor !== undefined);
      missed.unshift(...page.signals.map(({ signalId }) => signalId).reverse());
      cursor = page.cursor;
    }
    assert.deepEqual(missed, Array.from({ length: 203 }, (_, index) => `s${index + 1}`));
    await until(() => updates.length === 1, "the update behind the snapshot");
    assert.equal(updates[0][1].signalId, "s204");
    const { trades: own } = await must(ann, "trades:history");
    assert.deepEqual(own.map(({ tradeId, revision }) => [tradeId, revision]), [["t1", 2]]);
    const answer = await fetch(`${url}/api/v1/users/ann/trades`, {
      headers: { authorization: `Bearer ${token({ sub: "ann", roles: ["user"] })}` },
    });
    assert.deepEqual((await answer.json()).trades, own);
  });

  test("another user's id is forbidden, in the answer or by an event", async (t) => {
    const { url } = await server(t);
    const ann = await user(t, url, "ann");
    for (const event of ["subscribe:trades", "subscribe:portfolio"]) {
      const answer = await ask(ann, event, { userId: "bob" });
      assert.deepEqual([answer.success, answer.error.code], [false, "FORBIDDEN"]);
      const received = next(ann, "error");
      ann.emit(event, { userId: "bob" });
      const [error] = await received;
      assert.deepEqual([error.type, error.code, error.event], ["auth", "FORBIDDEN", event]);
    }
  });

  test("only admins can have trades executed, on paper and by a webhook", async (t) => {
    const hook = createServer((request, response) => {
      request.resume().on("end", () => response.end(JSON.stringify({ status: "executed", executedPrice: 7 })));
    });
    await once(hook.listen(0, "127.0.0.1"), "listening");
    t.after(() => hook.close());
    const webhook = {
      ROOMCAST_MARKET__EXECUTOR: "webhook",
      ROOMCAST_MARKET__WEBHOOK__URL: `http://127.0.0.1:${hook.address().port}/`,
      ROOMCAST_MARKET__WEBHOOK__ALLOW_PRIVATE: "true",
    };
    for (const [env, price] of [[{ ROOMCAST_MARKET__PRICES: "AAPL=190.5" }, 190.5], [webhook, 7]]) {
      const { url } = await server(t, env);
      const root = await user(t, url, "root", ["admin"]);
      record(root, "trade:executed", "trade:error");
      const received = next(root, "trade:executed");
      const answer = await must(root, "execute:trade", { symbol: "AAPL", side: "sell", quantity: 0.5 });
      const [{ tradeId, timestamp, ...rest }] = await received;
      assert.deepEqual(rest, { symbol: "AAPL", side: "sell", quantity: 0.5, executedPrice: price });
      assert.equal(answer.tradeId, tradeId);
      const failed = next(root, "trade:error");
      root.emit("execute:trade", { symbol: "A B", side: "sell", quantity: 1 });
      assert.deepEqual((await failed)[0].code, "INVALID_PAYLOAD");
      const ann = await user(t, url, "ann");
      const refused = await ask(ann, "execute:trade", { symbol: "AAPL", side: "sell", quantity: 1 });
      assert.equal(refused.error.code, "FORBIDDEN");
    }
  });

  test("a client that subscribes again after a reconnect gets the newest first", async (t) => {
    const { url } = await server(t);
    const ann = await user(t, url, "ann");
    await must(ann, "subscribe:trades", { userId: "ann" });
    await publish(url, "/trades", trade("t1", "pending"));
    ann.disconnect();
    await publish(url, "/trades", trade("t1", "executed", 1));
    const back = next(ann, "session");
    ann.connect();
    await back;
    const events = record(ann, "trades:subscribed", "trade:update");
    await must(ann, "subscribe:trades", { userId: "ann" });
    await publish(url, "/trades", trade("t2", "failed"));
    await until(() => events.length === 2, "the update");
    const [[, { snapshot }], [, update]] = events;
    assert.deepEqual(snapshot.trades.map(({ tradeId, status }) => [tradeId, status]), [["t1", "executed"]]);
    assert.deepEqual([update.tradeId, update.revision], ["t2", snapshot.revision + 1]);
  });

  for (const transports of [["websocket"], ["polling"]]) {
    test(`a client recovered over ${transports} has missed nothing and gets nothing twice`, async (t) => {
      const { url } = await server(t, { ROOMCAST_RECOVERY__ENABLED: "true" });
      const link = await startLink(url);
      t.after(() => link.close());
      const options = { transports, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 };
      const ann = await user(t, link.url, "ann", ["user"], options);
      const events = record(ann, "trades:subscribed", "trade:update", "signal:new");
      await must(ann, "subscribe:trades", { userId: "ann" });
      await must(ann, "subscribe:signals", { channelId: "gold" });
      await must(ann, "subscribe:portfolio", { userId: "ann" });
      await publish(url, "/trades", trade("t1", "pending"));
      await until(() => events.length === 2, "the first update");
      const lost = next(ann, "disconnect");
      link.cut();
      await lost;
      await publish(url, "/trades", trade("t1", "executed", 1));
      await publish(url, "/signals", signal("s1", "gold"));
      await publish(url, "/portfolios", { userId: "ann", totalValue: 5, cash: 5, positions: [] });
      const [back, newest] = [next(ann, "connect"), next(ann, "portfolio:subscribed")];
      link.restore();
      await back;
      assert.equal(ann.recovered, true);
      assert.equal((await newest)[0].snapshot.portfolio.totalValue, 5);
      await publish(url, "/trades", trade("t2", "failed"));
      await until(() => events.at(-1)[1].tradeId === "t2", "the last update");
      assert.deepEqual(
        events.map(([name, body]) => [name, body.tradeId ?? body.signalId, body.status]),
        [
          ["trades:subscribed", undefined, undefined],
          ["trade:update", "t1", "pending"],
          ["trade:update", "t1", "executed"],
          ["signal:new", "s1", undefined],
          ["trade:update", "t2", "failed"],
        ],
      );
    });

    test(`a client recovered over ${transports} without the claim loses the channel`, async (t) => {
      const { url } = await server(t, {
        ROOMCAST_RECOVERY__ENABLED: "true",
        ROOMCAST_MARKET__SIGNALS: `[
          { channel = "vip-*", follow = ["claim:channels={channel}"] },
          { channel = "*", follow = ["users"] },
        ]`,
      });
      const link = await startLink(url);
      t.after(() => link.close());
      const tokenFor = (channels) => token({ sub: "ann", roles: ["user"], channels });
      const options = { transports, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 };
      const { socket: ann } = await enter(t, link.url, { auth: { token: tokenFor(["vip-1"]) }, ...options });
      const events = record(ann, "signals:unsubscribed", "signal:new");
      for (const channelId of ["vip-1", "oil"]) await must(ann, "subscribe:signals", { channelId });
      await publish(url, "/signals", signal("s1", "vip-1"));
      await until(() => events.length === 1, "the signal");
      const { id } = ann;
      const lost = next(ann, "disconnect");
      link.cut();
      await lost;
      ann.auth = { token: tokenFor([]) };
      const back = next(ann, "connect");
      link.restore();
      await back;
      assert.deepEqual([ann.recovered, ann.id], [true, id]);
      await until(() => events.length === 2, "the end of the subscription");
      // The signal of the other channel is sent after that of the channel that has ended.
      await publish(url, "/signals", signal("s2", "vip-1"));
      await publish(url, "/signals", signal("s3", "oil"));
      await until(() => events.some(([, { signalId }]) => signalId === "s3"), "the signal of the other channel");
      assert.deepEqual(events.map(([name, body]) => [name, body.room ?? body.signalId]), [
        ["signal:new", "s1"],
        ["signals:unsubscribed", "signals:vip-1"],
        ["signal:new", "s3"],
      ]);
      const refused = await ask(ann, "subscribe:signals", { channelId: "vip-1" });
      assert.deepEqual([refused.success, refused.error.code], [false, "FORBIDDEN"]);
    });
  }
});

describe("withdrawn market data", () => {
  test("ends for followers and is in no later snapshot", async (t) => {
    const { url } = await server(t);
    const withdraw = async (path) => {
      const { status, body } = await call(url, "DELETE", `/api/v1${path}`, undefined, `Bearer ${service}`);
      assert.equal(status, 200, JSON.stringify(body));
      return body;
    };
    await publish(url, "/trades", trade("t1", "failed"));
    await publish(url, "/signals", signal("s1", "gold"));
    await publish(url, "/prices", { symbol: "BTC/USD", price: 60000 });
    const ann = await user(t, url, "ann");
    const events = record(ann, "trade:withdrawn", "signal:withdrawn", "price:withdrawn");
    const follow = async () => [
      (await must(ann, "subscribe:trades", { userId: "ann" })).snapshot.trades.length,
      (await must(ann, "subscribe:signals", { channelId: "gold" })).snapshot.signals.length,
      (await must(ann, "subscribe:prices", { symbols: ["BTC/USD"] })).snapshot.prices.length,
    ];
    assert.deepEqual(await follow(), [1, 1, 1]);
    const answers = [
      ["trade:withdrawn", await withdraw("/users/ann/trades/t1")],
      ["signal:withdrawn", await withdraw("/signals/s1")],
      ["price:withdrawn", await withdraw("/prices/BTC%2FUSD")],
    ];
    await until(() => events.length === 3, "all three");
    assert.deepEqual(events.sort(), answers.sort());
    assert.deepEqual(await follow(), [0, 0, 0]);
  });
});

describe("prices", () => {
  test("a client follows symbols and ends with the newest price of each", async (t) => {
    const { url } = await server(t);
    await publish(url, "/prices", { symbol: "AAPL", price: 190.5 });
    const ann = await user(t, url, "ann");
    record(ann, "prices:subscribed", "prices:unsubscribed", "price:update");
    const subscribed = next(ann, "prices:subscribed");
    const { rooms, snapshot } = await must(ann, "subscribe:prices", { symbols: ["AAPL", "BTC/USD"] });
    assert.deepEqual(rooms, ["prices:AAPL", "prices:BTC/USD"]);
    assert.deepEqual((await subscribed)[0], { rooms, snapshot });
    assert.deepEqual(snapshot.prices.map(({ symbol, price }) => [symbol, price]), [["AAPL", 190.5]]);
    assert.match(snapshot.prices[0].timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    const last = {};
    let updates = 0;
    ann.on("price:update", ({ symbol, price }) => {
      assert.ok(price > (last[symbol] ?? 0), "in order");
      last[symbol] = price;
      updates += 1;
    });
    for (let round = 0; round < 5; round += 1) {
      const prices = [];
      for (let n = 1; n <= 100; n += 1) {
        for (const symbol of ["AAPL", "BTC/USD", "ES=F"]) prices.push({ symbol, price: 1000 * round + n });
      }
      assert.deepEqual(await publish(url, "/prices", { prices }), { accepted: 300 });
    }
    await until(() => last.AAPL === 4100 && last["BTC/USD"] === 4100, "the newest");
    assert.ok(updates < 1000, `${updates} updates`);
    assert.deepEqual(Object.keys(last).sort(), ["AAPL", "BTC/USD"]);
    const ended = next(ann, "prices:unsubscribed");
    await must(ann, "unsubscribe:prices", { symbols: ["AAPL"] });
    assert.deepEqual((await ended)[0], { rooms: ["prices:AAPL"] });
    const refused = await ask(ann, "subscribe:prices", { symbols: ["AAPL", "A B"] });
    assert.deepEqual([refused.success, refused.error.code], [false, "INVALID_PAYLOAD"]);
    assert.equal(refused.error.details.field, "symbols[1]");
  });

  test("an unpublished symbol expires, and later subscribers get no price", async (t) => {
    const { url } = await server(t, { ROOMCAST_MARKET__SYMBOL_EXPIRY: "1s" });
    const ann = await user(t, url, "ann");
    record(ann, "price:withdrawn");
    await must(ann, "subscribe:prices", { symbols: ["AAPL"] });
    const ended = next(ann, "price:withdrawn");
    await publish(url, "/prices", { symbol: "AAPL", price: 190.5 });
    const [{ symbol, reason }] = await ended;
    assert.deepEqual([symbol, reason], ["AAPL", "expired"]);
    const { snapshot } = await must(await user(t, url, "bob"), "subscribe:prices", { symbols: ["AAPL"] });
    assert.deepEqual(snapshot.prices, []);
    const update = next(ann, "price:update");
    await publish(url, "/prices", { symbol: "AAPL", price: 190.5 });
    assert.equal((await update)[0].price, 190.5);
  });

  test("a recovered client gets the newest prices first", async (t) => {
    const { url } = await server(t, { ROOMCAST_RECOVERY__ENABLED: "true" });
    const link = await startLink(url);
    t.after(() => link.close());
    const options = { transports: ["websocket"], reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 };
    const ann = await user(t, link.url, "ann", ["user"], options);
    await must(ann, "subscribe:prices", { symbols: ["A", "B"] });
    await must(ann, "subscribe:signals");
    await publish(url, "/signals", signal("s1"));
    const lost = next(ann, "disconnect");
    link.cut();
    await lost;
    await publish(url, "/prices", { prices: [{ symbol: "A", price: 1 }, { symbol: "B", price: 2 }] });
    const [back, newest] = [next(ann, "connect"), next(ann, "prices:subscribed")];
    link.restore();
    await back;
    assert.equal(ann.recovered, true);
    const [{ rooms, snapshot }] = await newest;
    assert.deepEqual(rooms.sort(), ["prices:A", "prices:B"]);
    const known = snapshot.prices.map(({ symbol, price }) => [symbol, price]);
    assert.deepEqual(known.sort(), [["A", 1], ["B", 2]]);
    const update = next(ann, "price:update");
    await publish(url, "/prices", { symbol: "A", price: 3 });
    assert.equal((await update)[0].price, 3);
  });
});

describe("notifications", () => {
  const notice = (notificationId, priority) => {
    return { notificationId, userId: "ann", type: "warning", priority, title: "T", message: "M" };
  };

  test("are sent, batched, and sent again until acknowledged once", async (t) => {
    const { url } = await server(t, { ROOMCAST_NOTIFICATIONS__WINDOW: "10s" });
    await publish(url, "/notifications", notice("n1", "low"));
    const ann = await user(t, url, "ann");
    record(ann, "notifications:subscribed", "notifications:unsubscribed");
    const subscribed = next(ann, "notifications:subscribed");
    const { room, snapshot } = await must(ann, "subscribe:notifications");
    assert.equal(room, "notifications:ann");
    assert.deepEqual((await subscribed)[0].snapshot, snapshot);
    assert.deepEqual(snapshot.notifications.map(({ notificationId }) => notificationId), ["n1"]);
    const tab = await user(t, url, "ann");
    await must(tab, "subscribe:notifications", {});
    const events = record(tab, "notification:new", "notification:batch", "notification:acked");
    for (const id of ["n2", "n3", "n4"]) await publish(url, "/notifications", notice(id, "normal"));
    await publish(url, "/notifications", notice("n5", "urgent"));
    await until(() => events.length === 3, "the batch");
    assert.deepEqual(
      events.map(([name, body]) => [name, body.notificationId ?? body.notifications.map((one) => one.notificationId)]),
      [
        ["notification:new", "n2"],
        ["notification:new", "n5"],
        ["notification:batch", ["n3", "n4"]],
      ],
    );
    const received = next(tab, "notification:acked");
    const { timestamp } = await must(ann, "notification:ack", { notificationId: "n1" });
    assert.deepEqual(await received, [{ notificationId: "n1", timestamp }]);
    assert.equal((await ask(ann, "notification:ack", { notificationId: "none" })).error.code, "NOT_FOUND");
    const ended = next(ann, "notifications:unsubscribed");
    await must(ann, "unsubscribe:notifications");
    assert.deepEqual(await ended, [{ room: "notifications:ann" }]);
    const again = await must(ann, "subscribe:notifications");
    const left = again.snapshot.notifications.map(({ notificationId }) => notificationId);
    assert.deepEqual(left, ["n2", "n3", "n4", "n5"]);
  });

  test("are counted, acknowledged together, withdrawn and kept in the history", async (t) => {
    const { url } = await server(t);
    for (const id of ["n1", "n2", "n3"]) await publish(url, "/notifications", notice(id, "normal"));
    const ann = await user(t, url, "ann");
    const tab = await user(t, url, "ann");
    const events = record(tab, "notifications:acked", "notifications:unread", "notification:withdrawn");
    for (const socket of [ann, tab]) assert.equal((await must(socket, "subscribe:notifications")).snapshot.unread, 3);
    await publish(url, "/notifications/withdraw", { notificationId: "n1", userIds: ["ann"] });
    assert.equal((await must(ann, "notification:ack_all", {})).acknowledged, 2);
    await until(() => events.length === 4, "what has ended");
    const shown = events.map(([name, body]) => [name, body.notificationId ?? body.notificationIds ?? body.unread]);
    assert.deepEqual(shown, [
      ["notification:withdrawn", "n1"],
      ["notifications:unread", 2],
      ["notifications:acked", ["n2", "n3"]],
      ["notifications:unread", 0],
    ]);
    const { notifications, hasMore } = await must(ann, "notifications:history", { limit: 10 });
    assert.deepEqual([notifications.map(({ notificationId }) => notificationId), hasMore], [["n3", "n2"], false]);
  });

  test("a recovered client gets missed notifications once", async (t) => {
    const { url } = await server(t, {
      ROOMCAST_RECOVERY__ENABLED: "true",
      ROOMCAST_NOTIFICATIONS__ON_CONNECT: "true",
      ROOMCAST_NOTIFICATIONS__WINDOW: "0s",
    });
    const link = await startLink(url);
    t.after(() => link.close());
    const options = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50, transports: ["websocket"] };
    const socket = io(link.url, { forceNew: true, auth: { token: token({ sub: "ann", roles: ["user"] }) }, ...options });
    t.after(() => socket.disconnect());
    const events = record(socket, "notifications:subscribed", "notification:new");
    await until(() => events.length === 1, "the subscription");
    await publish(url, "/notifications", notice("n1", "normal"));
    await until(() => events.length === 2, "the first");
    const lost = next(socket, "disconnect");
    link.cut();
    await lost;
    await publish(url, "/notifications", notice("n2", "normal"));
    const back = next(socket, "session");
    link.restore();
    await back;
    assert.equal(socket.recovered, true);
    await publish(url, "/notifications", notice("n3", "normal"));
    await until(() => events.at(-1)[1].notificationId === "n3", "the last");
    assert.deepEqual(events.slice(1).map(([, { notificationId }]) => notificationId), ["n1", "n2", "n3"]);
  });

  for (const transports of [["websocket"], ["polling"]]) {
    test(`a client recovered over ${transports} gets each batch once`, async (t) => {
      const { url } = await server(t, {
        ROOMCAST_RECOVERY__ENABLED: "true",
        ROOMCAST_NOTIFICATIONS__ON_CONNECT: "true",
        ROOMCAST_NOTIFICATIONS__WINDOW: "3s",
      });
      const link = await startLink(url);
      t.after(() => link.close());
      const options = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50, transports };
      const follow = async (url) => {
        const socket = io(url, { forceNew: true, auth: { token: token({ sub: "ann", roles: ["user"] }) }, ...options });
        t.after(() => socket.disconnect());
        const events = record(socket, "notifications:subscribed", "notification:new", "notification:batch");
        await until(() => events.length === 1, "the subscription");
        return { socket, events };
      };
      const { socket, events } = await follow(link.url);
      // Another tab, which stays connected, shows what was sent so far.
      const { events: seen } = await follow(url);
      const ids = (events) => events.flatMap(([, one]) => one.notifications ?? [one]).map((one) => one.notificationId);
      const received = (events) => ids(events.filter(([name]) => name !== "notifications:subscribed"));
      const tell = async (...ids) => {
        for (const id of ids) await publish(url, "/notifications", notice(id, "normal"));
      };
      const away = async (act) => {
        const lost = next(socket, "disconnect");
        link.cut();
        await lost;
        await act();
        const back = next(socket, "session");
        link.restore();
        await back;
        assert.equal(socket.recovered, true);
      };
      await tell("n1");
      await until(() => received(events).length === 1, "the first");
      await away(async () => {
        await tell("n2", "n3", "n4", "n5");
        await until(() => received(seen).length === 5, "the batch in the other tab");
      });
      await until(() => received(events).length === 5, "what was told meanwhile");
      assert.ok(events.some(([name]) => name === "notification:batch"), "a batch was replayed");
      // These are pending when the client is back, unless the machine stalled for longer than the
      // window.
      await away(() => tell("n6", "n7", "n8"));
      await until(() => received(events).length === 8, "what waited");
      await publish(url, "/notifications", notice("last", "urgent"));
      for (const one of [events, seen]) {
        await until(() => received(one).includes("last"), "the last");
        assert.deepEqual(received(one), ["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "last"]);
        assert.equal(one.filter(([name]) => name === "notifications:subscribed").length, 1);
      }
    });
  }
});

checksAll(import.meta.url);
