// Channels of the client package against the real server: over cut connections, killed and replaced
// servers, reloads and expired tokens, each event reaches its listener once and in order.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { temporary, until, within } from "../support.mjs";
import { now, token } from "../tokens.mjs";
import { lasting } from "./chatter.mjs";
import { ORDER, customer, follow, numbers, positions, publish, withOrders } from "./orders.mjs";

const RECOVERY = { ROOMCAST_RECOVERY__ENABLED: "true" };

/** Cuts the link of a customer until an action is done. */
async function cutWhile({ manager, link }, act) {
  link.cut();
  await until(() => !manager.isReady, "the cut");
  await act();
  link.restore();
}

describe("channels of the client package", { concurrency: true }, () => {
  for (const [name, env] of [["lost", {}], ["recovered", RECOVERY]]) {
    test(`events arrive once over ${name} connections and a killed server`, async (t) => {
      const server = await lasting(t, withOrders(env));
      const one = await customer(t, server.url);
      const { has, channel } = follow(t, one.manager);
      await has(["reset 0"]);
      let last = 0;
      const next = async (count) => publish(server.url, numbers(last + 1, (last += count)));
      for (let cut = 0; cut < 5; cut += 1) {
        await next(2);
        // The cut is somewhere among the events.
        const during = next(20);
        await cutWhile(one, async () => {
          await during;
          await next(3);
        });
        await next(2);
      }
      await has(["reset 0", ...numbers(1, last)]);
      await next(5);
      await server.kill();
      await until(() => !channel.isFollowing, "the end of the connection");
      await server.start();
      await next(5);
      await has(["reset 0", ...numbers(1, last)]);
    });
  }

  test("pages are read after a long absence while further events arrive", async (t) => {
    const server = await lasting(t, withOrders());
    const one = await customer(t, server.url);
    const { has } = follow(t, one.manager);
    await has(["reset 0"]);
    await cutWhile(one, () => publish(server.url, numbers(1, 650)));
    for (let n = 651; n <= 700; n += 1) await publish(server.url, [n]);
    await has(["reset 0", ...numbers(1, 700)]);
    const asked = one.manager.log.filter(({ what }) => what === "subscription failed");
    assert.deepEqual(asked, []);
  });

  test("the next visit continues, and another user starts with a reset", async (t) => {
    const server = await lasting(t, withOrders());
    const storage = positions();
    const first = await customer(t, server.url);
    const before = follow(t, first.manager, { storage });
    await before.has(["reset 0"]);
    await publish(server.url, [1, 2]);
    await before.has(["reset 0", 1, 2]);
    assert.equal(storage.stored.get(`7 ${ORDER}`), before.metas.at(-1).position);
    first.manager.leave();
    await publish(server.url, [3]);
    const second = follow(t, (await customer(t, server.url)).manager, { storage });
    await second.has([3]);
    // The same storage on the same machine, and a token for the channel.
    const of = token({ sub: "8", channel: { follow: ORDER } });
    const other = follow(t, (await customer(t, server.url, { user: "8" })).manager, { storage, token: of });
    await other.has(["reset 3", 1, 2, 3]);
  });

  test("two channels with the same event name are told apart on one connection", async (t) => {
    const server = await lasting(t, withOrders());
    const one = await customer(t, server.url);
    const [first, second] = [ORDER, "orders:7:43"].map((name) => follow(t, one.manager, { name }));
    await Promise.all([first, second].map(({ has }) => has(["reset 0"])));
    for (let n = 1; n <= 10; n += 2) {
      await publish(server.url, [n]);
      await publish(server.url, [n + 1], { name: "orders:7:43" });
    }
    await first.has(["reset 0", 1, 3, 5, 7, 9]);
    await second.has(["reset 0", 2, 4, 6, 8, 10]);
    assert.deepEqual(new Set(second.metas.map(({ channel }) => channel)), new Set(["orders:7:43"]));
    first.channel.close();
    await cutWhile(one, () => publish(server.url, [11], { name: "orders:7:43" }));
    await publish(server.url, [12]);
    await publish(server.url, [13], { name: "orders:7:43" });
    await second.has(["reset 0", 2, 4, 6, 8, 10, 11, 13]);
    assert.equal(first.seen.length, 6);
  });

  test("followers of a channel with presence are read, and others are refused", async (t) => {
    const server = await lasting(t, withOrders());
    const [first, second] = await Promise.all(["7", "8"].map((user) => customer(t, server.url, { user })));
    const halls = [first, second].map(({ manager }) => follow(t, manager, { name: "halls:1" }));
    await Promise.all(halls.map(({ has }) => has(["reset 0"])));
    const present = async () => {
      const { channel, users, count } = await halls[0].channel.presence();
      assert.deepEqual([channel, count], ["halls:1", users.length]);
      return users.map(({ userId, connections }) => `${userId} ${connections}`).sort().join();
    };
    // A list may be a second old.
    await until(async () => (await present()) === "7 1,8 1", "both to be listed");
    second.manager.leave();
    await until(async () => (await present()) === "7 1", "one to be listed");
    const orders = follow(t, first.manager);
    await orders.has(["reset 0"]);
    await assert.rejects(orders.channel.presence(), { code: "CONFLICT" });
  });

  test("a token that expires is replaced, and no event is missed", async (t) => {
    const server = await lasting(t, withOrders());
    const { manager } = await customer(t, server.url, { user: "8" });
    const name = "orders:9:1";
    let requested = 0;
    const of = (lifetime) => token({ sub: "8", exp: now() + lifetime, channel: { follow: "orders:9:{order}" } });
    const renewed = follow(t, manager, { name, token: async () => of((requested += 1) > 2 ? 3600 : 3) });
    const fixed = follow(t, (await customer(t, server.url, { user: "8" })).manager, { name, token: of(4) });
    await Promise.all([renewed, fixed].map(({ has }) => has(["reset 0"])));
    for (let n = 1; requested < 3 || fixed.ends.length === 0; n += 1) await publish(server.url, [n], { name });
    const { length } = renewed.seen;
    await publish(server.url, [100_000], { name });
    await until(() => renewed.seen.at(-1) === 100_000, "the last event");
    assert.deepEqual(renewed.seen.slice(0, length), ["reset 0", ...numbers(1, length - 1)]);
    const expired = { reason: "expired", renews: true };
    assert.deepEqual([renewed.ends, requested], [[expired, expired], 3]);
    assert.deepEqual(fixed.ends, [{ reason: "expired", renews: false }]);
    assert.notEqual(fixed.seen.at(-1), 100_000);
    fixed.channel.retry();
    await until(() => fixed.ends.length === 2, "the refusal of the old token");
    assert.deepEqual([fixed.ends[1].reason, fixed.ends[1].failure.code], ["refused", "INVALID_PAYLOAD"]);
  });

  test("a channel that the user may not follow is refused", async (t) => {
    const server = await lasting(t, withOrders());
    const { manager } = await customer(t, server.url);
    const { ends, seen } = follow(t, manager, { name: "orders:8:1" });
    await until(() => ends.length === 1, "the refusal");
    assert.deepEqual([ends[0].reason, ends[0].renews, ends[0].failure.code], ["refused", false, "NOT_FOUND"]);
    assert.deepEqual(seen, []);
  });

  test("events that are removed before the server reads them lead to a reset", async (t) => {
    const file = join(temporary(), "chat.db");
    const server = await lasting(t, withOrders({ ROOMCAST_STORE: `sqlite:${file}` }));
    const { manager } = await customer(t, server.url);
    const { has, ends } = follow(t, manager);
    const reasons = [];
    manager.on("channel:ended", ({ reason }) => reasons.push(reason));
    await has(["reset 0"]);
    await publish(server.url, [1]);
    await has(["reset 0", 1]);
    const skip = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute(\"UPDATE journals SET revision = revision + 3 WHERE name LIKE 'channel:%'\"); d.commit()";
    execFileSync("python3", ["-c", skip, file]);
    await publish(server.url, [5]);
    await has(["reset 0", 1, "reset 2", 1, 5]);
    assert.deepEqual([reasons, ends], [["interrupted"], []]);
  });

  test("a replaced or restored database leads to a reset", async (t) => {
    const folder = temporary();
    const [file, backup] = [join(folder, "chat.db"), join(folder, "backup.db")];
    const server = await lasting(t, withOrders({ ROOMCAST_STORE: `sqlite:${file}` }));
    const copy = (from, to) => {
      for (const end of ["", "-wal", "-shm"]) {
        rmSync(to + end, { force: true });
        if (existsSync(from + end)) copyFileSync(from + end, to + end);
      }
    };
    const { manager } = await customer(t, server.url);
    const storage = positions();
    const { has, ends } = follow(t, manager, { storage });
    await has(["reset 0"]);
    await publish(server.url, [1]);
    await has(["reset 0", 1]);
    await server.kill();
    copy(file, backup);
    await server.start();
    await publish(server.url, [2, 3]);
    await has(["reset 0", 1, 2, 3]);
    await server.kill();
    copy(backup, file);
    await server.start();
    await has(["reset 0", 1, 2, 3, "reset 1", 1]);
    await server.kill();
    await server.start({ ROOMCAST_STORE: `sqlite:${join(folder, "other.db")}` });
    await has(["reset 0", 1, 2, 3, "reset 1", 1, "reset 0"]);
    await publish(server.url, [4]);
    await has(["reset 0", 1, 2, 3, "reset 1", 1, "reset 0", 4]);
    assert.deepEqual(ends, []);
  });

  test("events of a client are stored once and in order after lost answers", async (t) => {
    const server = await lasting(t, withOrders());
    const one = await customer(t, server.url);
    const { channel, has } = follow(t, one.manager);
    await has(["reset 0"]);
    one.link.holdAnswers();
    const published = numbers(1, 5).map((n) => channel.publish("order:updated", { n }));
    const stored = async () => {
      const { metas } = follow(t, (await customer(t, server.url)).manager);
      await until(() => metas.length > 0, "an event that is stored");
    };
    await stored();
    await cutWhile(one, async () => one.link.releaseAnswers());
    const answers = await within(Promise.all(published), "the answers");
    await has(["reset 0", ...numbers(1, 5)]);
    const page = await channel.history({ limit: 3 });
    assert.deepEqual([page.events.map(({ data }) => data.n), page.hasMore], [[3, 4, 5], true]);
    assert.deepEqual(page.events.map(({ position }) => position), answers.slice(2).map(({ position }) => position));
    const older = await channel.history({ before: page.events[0].position });
    assert.deepEqual([older.events.map(({ data }) => data.n), older.hasMore], [[1, 2], false]);
    await assert.rejects(channel.publish("connect", {}), { code: "INVALID_PAYLOAD" });
  });
});
