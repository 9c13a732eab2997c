// The shop of examples/orders in Chromium: each change of an order arrives once and in order, over
// lost connections, killed programs and expired tokens.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { violations } from "./axe.mjs";
import { lastingPort, launch, until } from "./processes.mjs";
import { DESK, folder, openShop, python, ship, sql } from "./shop.mjs";
import { ask, connect, program, temporary } from "./support.mjs";
import { launch as launchBrowser } from "./visitor.mjs";

const PHONE = { width: 390, height: 844 };
/** Tokens end while a test runs. */
const SHORT = {
  ORDERS_TOKEN_SECONDS: "4",
  ROOMCAST_AUTH__EXPIRING_LEAD: "2s",
  ROOMCAST_AUTH__GRACE: "1s",
  ROOMCAST_AUTH__JWT__LEEWAY: "0s",
};

let browser;
before(async () => (browser = await launchBrowser()));
after(() => browser?.close());

/** Checks that the page breaks no rule of WCAG and fits the window, in each size and colour. */
async function checkLook(visitor, name) {
  for (const [size, viewport] of Object.entries({ desk: DESK, phone: PHONE })) {
    for (const colorScheme of ["light", "dark"]) {
      await visitor.page.setViewportSize(viewport);
      await visitor.page.emulateMedia({ colorScheme });
      assert.deepEqual(await violations(visitor), [], name);
      assert.equal(await visitor.page.evaluate(() => document.documentElement.scrollWidth), viewport.width, name);
      await visitor.screenshot(`orders-${name}-${size}-${colorScheme}`);
    }
  }
}

test("a customer and support see each change live, and another customer none", async (t) => {
  const shop = await openShop(t, browser);
  const anna = await shop.visit("anna");
  const ben = await shop.visit("ben");
  const sam = await shop.visit("sam", { path: "/?customer=anna" });
  for (const visitor of [anna, ben, sam]) await visitor.isLive();
  await anna.page.getByLabel("Item").fill("Reading lamp, brass");
  await anna.page.getByRole("button", { name: "Order" }).click();
  await sam.order(1).getByRole("button", { name: "Ship" }).click();
  await sam.order(1).getByLabel("Place").fill("Hamburg");
  await sam.order(1).getByRole("button", { name: "Scan" }).click();
  const changes = ["Placed", "Shipped", "Shipped, now in Hamburg"];
  for (const visitor of [anna, sam]) await visitor.hasChanges(1, changes);
  await ben.page.getByLabel("Item").fill("Desk");
  await ben.page.getByRole("button", { name: "Order" }).click();
  await ben.hasChanges(2, ["Placed"]);
  assert.equal(await anna.page.getByRole("article").count(), 1);
  assert.equal(await ben.page.getByRole("article").count(), 1);
  assert.deepEqual(ben.received.filter((frame) => frame.includes("orders:anna")), []);
  await anna.page.getByLabel("Item").fill("Chair");
  await anna.page.getByRole("button", { name: "Order" }).click();
  await anna.order(3).getByRole("button", { name: "Cancel" }).click();
  await anna.hasChanges(3, ["Placed", "Cancelled"]);
  await checkLook(anna, "customer");
  await sam.hasChanges(3, ["Placed", "Cancelled"]);
  await checkLook(sam, "support");
  await anna.page.getByRole("button", { name: "Sign out" }).click();
  await anna.page.getByLabel("Password").waitFor();
  await checkLook(anna, "login");
  for (const visitor of [anna, ben, sam]) visitor.hasNoComplaints();
});

test("a customer gets neither orders nor tokens nor events of another one", async (t) => {
  const shop = await openShop(t, browser);
  const { number } = await ship(shop);
  const ben = await shop.signIn("ben");
  for (const path of ["/orders?customer=anna", "/token?customer=anna"]) assert.equal((await ben("GET", path)).status, 404);
  for (const [step, status] of [["cancel", 404], ["ship", 403], ["deliver", 403]]) {
    assert.equal((await ben("POST", `/orders/${number}/${step}`)).status, status);
  }
  const sam = await shop.signIn("sam");
  // The name of a customer becomes part of a token's pattern.
  assert.equal((await sam("GET", "/token?customer={any}")).status, 404);
  const { body } = await ben("GET", "/token?customer=ben");
  assert.equal(body.channelToken, null);
  const socket = await connect(t, io, shop.url(), { auth: { token: body.token } });
  const { error } = await ask(socket, "channel:subscribe", { channel: `orders:anna:${number}` });
  assert.equal(error.code, "NOT_FOUND");
});

test("changes during a lost connection appear once and in order", async (t) => {
  const shop = await openShop(t, browser);
  const order = await ship(shop);
  const anna = await shop.visit("anna");
  await anna.hasChanges(order.number, order.changes);
  for (let round = 0; round < 3; round++) {
    shop.link.cut();
    await anna.isOffline();
    await order.scan(10);
    shop.link.restore();
    await anna.hasChanges(order.number, order.changes);
    await order.scan(3);
    await anna.hasChanges(order.number, order.changes);
  }
  anna.hasNoComplaints();
});

test("changes while both programs are killed appear once and in order", async (t) => {
  const shop = await openShop(t, browser);
  const order = await ship(shop);
  const anna = await shop.visit("anna");
  await anna.hasChanges(order.number, order.changes);
  for (let round = 0; round < 3; round++) {
    const before = order.changes.length;
    const scanning = order.scan(30);
    await until(async () => (await anna.changes(order.number)).length > before, "a change of this round");
    const restart = await shop.kill();
    await scanning;
    // The backend ends with events that it has not published.
    if (round === 1) await shop.restartBackend();
    assert.notDeepEqual(sql(shop.database, "SELECT seq FROM outbox"), []);
    await restart();
    await anna.hasChanges(order.number, order.changes);
  }
  await order.scan();
  await anna.hasChanges(order.number, order.changes);
  assert.deepEqual(sql(shop.database, "SELECT seq FROM outbox"), []);
  anna.hasNoComplaints();
});

test("changes whose publication is not answered appear once and in order", async (t) => {
  const shop = await openShop(t, browser);
  const order = await ship(shop);
  const anna = await shop.visit("anna");
  await anna.hasChanges(order.number, order.changes);
  shop.backendLink.holdAnswers();
  const before = order.changes.length;
  await order.scan(5);
  await until(async () => (await anna.changes(order.number)).length > before, "a change without an answer");
  shop.backendLink.cut();
  shop.backendLink.releaseAnswers();
  shop.backendLink.restore();
  await anna.hasChanges(order.number, order.changes);
  await order.scan();
  await anna.hasChanges(order.number, order.changes);
});

test("a page that opens while Roomcast is down shows the orders, later live", async (t) => {
  const shop = await openShop(t, browser);
  const order = await ship(shop);
  const restart = await shop.kill();
  await order.scan();
  const anna = await shop.visit("anna");
  await anna.isOffline();
  assert.equal(await anna.order(order.number).getByRole("status").textContent(), order.changes.at(-1));
  await checkLook(anna, "offline");
  await restart();
  await anna.hasChanges(order.number, order.changes);
});

test("changes that arrive together with an answer over polling are in order", async (t) => {
  const shop = await openShop(t, browser);
  const orders = [await ship(shop), await ship(shop)];
  shop.link.slow(60);
  let isOpen = false;
  const scanning = orders.map(async (order) => {
    while (!isOpen) await order.scan();
  });
  const anna = await shop.visit("anna", { script: () => delete globalThis.WebSocket });
  await until(async () => (await anna.changes(orders[0].number)).length > 60, "many changes");
  isOpen = true;
  await Promise.all(scanning);
  for (const order of orders) await anna.hasChanges(order.number, order.changes);
  assert.equal(anna.connections, 0);
  anna.hasNoComplaints();
});

test("support follows on when its token for the channels expires", async (t) => {
  const shop = await openShop(t, browser, SHORT);
  const order = await ship(shop);
  const sam = await shop.visit("sam", { path: "/?customer=anna" });
  const expired = () => sam.received.filter((frame) => frame.includes('"channel:ended"') && frame.includes('"expired"')).length;
  for (let round = 1; round <= 2; round++) {
    // One end for the order, and one for the channel with new orders.
    await until(() => expired() >= 2 * round, () => `${expired()} ends`);
    await order.scan(5);
    await sam.hasChanges(order.number, order.changes);
  }
  sam.hasNoComplaints();
});

test("a customer gets new tokens, and returns after an outage of them", async (t) => {
  const shop = await openShop(t, browser, SHORT);
  const order = await ship(shop);
  const anna = await shop.visit("anna");
  await anna.hasChanges(order.number, order.changes);
  const refreshed = () => anna.sent.filter((frame) => frame.includes('"auth:refresh"')).length;
  await until(() => refreshed() >= 3, "three new tokens");
  assert.equal(anna.connections, 1);
  await anna.page.route("**/token?**", (route) => route.abort());
  await anna.isOffline();
  await order.scan(5);
  await anna.page.unroute("**/token?**");
  await anna.hasChanges(order.number, order.changes);
});

test("a page whose connection is recovered shows each change once", async (t) => {
  const shop = await openShop(t, browser, { ROOMCAST_RECOVERY__ENABLED: "true" });
  const order = await ship(shop);
  const anna = await shop.visit("anna");
  await anna.hasChanges(order.number, order.changes);
  shop.link.cut();
  await anna.isOffline();
  await order.scan(3);
  shop.link.restore();
  await anna.isLive();
  await order.scan(1);
  await anna.hasChanges(order.number, order.changes);
  anna.hasNoComplaints();
});

test("a page that was refused connects again with a new token", async (t) => {
  const shop = await openShop(t, browser);
  const order = await ship(shop);
  const anna = await shop.visit("anna");
  await anna.hasChanges(order.number, order.changes);
  await anna.page.route("**/token?**", async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, json: { ...(await answer.json()), token: "wrong" } });
  });
  shop.link.cut();
  await anna.isOffline();
  shop.link.restore();
  await anna.page.getByText("Refused: unauthorized").waitFor();
  await anna.page.unroute("**/token?**");
  await order.scan(2);
  await anna.isLive();
  await anna.hasChanges(order.number, order.changes);
});

test("a page discards what it has if events that it missed are not stored", async (t) => {
  const shop = await openShop(t, browser);
  const order = await ship(shop);
  const anna = await shop.visit("anna");
  await anna.hasChanges(order.number, order.changes);
  shop.link.cut();
  await anna.isOffline();
  sql(shop.store, "UPDATE journals SET revision = revision + 3 WHERE name LIKE 'channel:%'");
  await order.scan(2);
  shop.link.restore();
  await anna.hasChanges(order.number, order.changes);
  await until(() => anna.received.some((frame) => frame.includes('"forgotten":true')), "the answer that events are missing");
  anna.hasNoComplaints();
});

test("an event that Roomcast refuses does not hold up the others", async (t) => {
  const shop = await openShop(t, browser);
  const order = await ship(shop);
  await until(() => sql(shop.database, "SELECT seq FROM outbox").length === 0, "an empty outbox");
  const restart = await shop.kill();
  await order.scan();
  sql(shop.database, `INSERT INTO outbox (id, channel, event, data) VALUES ('wrong', 'orders:anna:${order.number}', 'order:updated', '{}')`);
  await order.scan();
  await restart();
  const anna = await shop.visit("anna");
  await anna.hasChanges(order.number, order.changes);
  const [[id, refusal]] = sql(shop.database, "SELECT id, refusal FROM outbox");
  assert.equal(id, "wrong");
  assert.match(refusal, /INVALID_PAYLOAD/);
});

test("the command of the README starts both programs, and Ctrl-C ends them", async (t) => {
  const [port, backendPort] = [await lastingPort(), await lastingPort()];
  const state = temporary();
  const started = launch(join(folder, "start"), [], {
    detached: true,
    env: {
      PROGRAM: program,
      PYTHON: python,
      CARGO_TARGET_DIR: state,
      PYTHONDONTWRITEBYTECODE: "1",
      ROOMCAST_LISTEN: `127.0.0.1:${port}`,
      ROOMCAST_SERVER__ADMIN_LISTEN: "127.0.0.1:0",
      ORDERS_ROOMCAST_URL: `http://127.0.0.1:${port}`,
      ORDERS_PORT: `${backendPort}`,
    },
  });
  const group = -started.pid;
  t.after(() => started.isRunning() && process.kill(group, "SIGKILL"));
  await started.found((line) => /Uvicorn running/.exec(line)?.[0], "start both programs");
  const post = (path, body, cookie = "") => {
    const headers = { cookie, "content-type": "application/json" };
    return fetch(`http://127.0.0.1:${backendPort}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  };
  const login = await post("/login", { user: "anna", password: "demo" });
  const cookie = login.headers.get("set-cookie").split(";")[0];
  assert.equal((await post("/orders", { item: "Lamp" }, cookie)).status, 201);
  await until(() => sql(join(state, "orders/orders.db"), "SELECT seq FROM outbox").length === 0, "the event to be published");
  process.kill(group, "SIGINT");
  await started.ended;
  assert.throws(() => process.kill(group, 0), { code: "ESRCH" });
});
