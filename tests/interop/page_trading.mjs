// The trading page: live subscriptions, and orders of users who are allowed to trade.
import assert from "node:assert/strict";
import { test } from "node:test";
import { violations } from "./axe.mjs";
import { DESK, PHONE, client, keyed, must, noComplaints, shared, tokenOf } from "./page_support.mjs";
import { startServer, until } from "./support.mjs";
import { token } from "./tokens.mjs";
import { Visitor } from "./visitor.mjs";

const service = `Bearer ${token({ sub: "backend", roles: ["service"] })}`;

async function publish(path, body, url = shared.server.url) {
  const answer = await fetch(`${url}/api/v1${path}`, {
    method: "POST",
    headers: { authorization: service, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  assert.equal(answer.status, 200, await answer.text());
}

const trade = (userId, tradeId, status, more = {}) => ({ userId, tradeId, symbol: "AAPL", status, quantity: 2, ...(status === "executed" && { executedPrice: 190.5 }), ...more });
const signal = (signalId, more = {}) => ({ signalId, providerId: "p", providerName: "North Desk", symbol: "EUR/USD", action: "sell", confidence: 62.5, entryPrice: 1.0842, ...more });

/** Opens the trading page of a user with these roles. */
async function open(t, sub, roles, { url = shared.server.url, ...options } = {}) {
  const visitor = await Visitor.open(t, shared.browser, url, { path: "/#/trading", viewport: DESK, ...options });
  await visitor.giveToken(token({ sub, name: `Name of ${sub}`, roles }));
  await visitor.page.getByRole("heading", { name: "Trading" }).waitFor();
  await visitor.page.locator(".status[data-state=online]").waitFor();
  return visitor;
}

const section = ({ page }, name) => page.getByRole("region", { name });

for (const [where, viewport] of Object.entries({ desk: DESK, phone: PHONE })) {
  for (const colorScheme of ["light", "dark"]) {
    test(`followed data is live and an order works by keyboard, at a ${where} in ${colorScheme}`, async (t) => {
      const sub = `trader-${where}-${colorScheme}`;
      const ada = await open(t, sub, ["admin"], { viewport, colorScheme });
      const { page } = ada;
      const checkLook = async (name) => {
        assert.deepEqual(await violations(ada), [], name);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), viewport.width);
        await ada.screenshot(`trading-${where}-${colorScheme}-${name}`);
      };
      await section(ada, "Trades").getByText("No trades yet.").waitFor();
      await section(ada, "Portfolio").getByText("There is no portfolio yet.").waitFor();
      await checkLook("empty");

      await publish("/portfolios", { userId: sub, totalValue: 12_480.5, cash: 850, positions: [{ symbol: "AAPL", quantity: 40, avgPrice: 187.25 }, { symbol: "BTC/USD", quantity: -0.0625, avgPrice: 64_120 }] });
      await section(ada, "Portfolio").getByText("12,480.50").waitFor();
      await section(ada, "Portfolio").getByText("no price yet").last().waitFor();
      const cells = section(ada, "Portfolio").locator("tbody tr").last().locator("td");
      assert.deepEqual(await cells.allTextContents(), ["-0.0625", "64,120", "no price yet", "unknown", "unknown"]);
      await publish("/trades", trade(sub, `${sub}-1`, "pending"));
      const line = page.locator(`[data-trade="${sub}-1"]`);
      await line.getByText("open", { exact: true }).waitFor();
      await publish("/trades", trade(sub, `${sub}-1`, "executed"));
      await line.getByText("2 × 190.5", { exact: true }).waitFor();
      await publish("/signals", signal(`${sub}-s`, { channelId: "fx" }));
      await page.locator(`[data-signal="${sub}-s"]`).getByText("entry 1.0842").waitFor();

      // The keyboard goes through the form; errors are shown at the field.
      await publish("/prices", { symbol: "MSFT", price: 410 });
      const order = section(ada, "Order");
      await order.getByRole("radio", { name: "Buy" }).focus();
      await page.keyboard.press("ArrowRight");
      await page.keyboard.press("Tab");
      await page.keyboard.type("1,5");
      await page.keyboard.press("Tab");
      await page.keyboard.type("MSFT");
      await page.keyboard.press("Enter");
      await order.getByText("A quantity is a number above 0").waitFor();
      assert.equal(await page.evaluate(() => document.activeElement.name), "quantity");
      await page.keyboard.press("Control+a");
      await page.keyboard.type("1.5");
      await page.keyboard.press("Enter");
      const confirm = order.getByRole("button", { name: "Sell 1.5 MSFT now" });
      await confirm.waitFor();
      assert.equal(await confirm.evaluate((button) => button === document.activeElement), true);
      await checkLook("asked");
      await page.keyboard.press("Enter");
      await order.getByText("Sell 1.5 MSFT: executed at 410.").waitFor();
      await page.locator(".ledger li[data-status=executed]").getByText("1.5 × 410", { exact: true }).waitFor();
      // Keys reach the next order only when the form is ready again.
      await order.locator("button[type=submit]:enabled").getByText("Review").waitFor();
      await order.getByRole("textbox", { name: "Symbol" }).fill("NONE");
      await page.keyboard.press("Enter");
      await order.getByRole("button", { name: "Sell 1.5 NONE now" }).waitFor();
      await page.keyboard.press("Enter");
      await order.getByText("NONE: not executed. The server has no price for it.").waitFor();
      await checkLook("filled");
      noComplaints(ada);
    });
  }
}

test("the trading page requires a permission or a setting of the server", async (t) => {
  const ada = await Visitor.signIn(t, shared.browser, shared.server.url, tokenOf("ada-link", "Ada Link"), { viewport: DESK });
  const link = ({ page }) => page.getByRole("link", { name: "Trading" });
  assert.equal(await link(ada).count(), 0);
  const admin = await Visitor.signIn(t, shared.browser, shared.server.url, token({ sub: "root-link", roles: ["admin"] }), { viewport: PHONE });
  await admin.page.getByRole("link", { name: "All conversations" }).click();
  await link(admin).press("Enter");
  await admin.page.getByRole("heading", { name: "Trading" }).waitFor();
  await section(admin, "Order").waitFor();
  await admin.page.getByRole("link", { name: "All conversations" }).click();
  await link(admin).waitFor();

  const open = await startServer({ ...keyed, ROOMCAST_MARKET__PAGE: "true" });
  t.after(() => open.stop());
  const bob = await Visitor.signIn(t, shared.browser, open.url, tokenOf("bob-link", "Bob Link"), { viewport: DESK });
  await link(bob).click();
  await section(bob, "Signals").getByText("No signals yet.").waitFor();
  assert.equal(await section(bob, "Order").count(), 0);
  const guest = await Visitor.enter(t, shared.browser, open.url, "Gus Guest", { viewport: DESK });
  assert.equal(await link(guest).count(), 0);
  // A user who knows the address sees nothing more, and the page requests none of its
  // subscriptions.
  for (const visitor of [ada, guest]) {
    await visitor.page.evaluate(() => (location.hash = "#/trading"));
    await visitor.page.getByText("You do not have access to the trading page.").waitFor();
    assert.equal(await section(visitor, "Trades").count(), 0);
    assert.deepEqual(await violations(visitor), []);
  }
  const direct = await Visitor.open(t, shared.browser, shared.server.url, { path: "/#/trading", viewport: PHONE });
  await direct.giveToken(tokenOf("ada-direct", "Ada Direct"));
  await direct.page.getByText("You do not have access to the trading page.").waitFor();
  await direct.page.getByRole("link", { name: "All conversations" }).click();
  await direct.conversation("Lobby").waitFor();
  noComplaints(ada, admin, bob, guest, direct);
});

test("the trading page loads on first use, and again after a network outage", async (t) => {
  const ada = await Visitor.signIn(t, shared.browser, shared.server.url, token({ sub: "ada-lazy", roles: ["admin"] }), { viewport: DESK });
  const loaded = () => ada.page.evaluate(() => performance.getEntriesByType("resource").filter(({ name }) => name.includes("/assets/")).length);
  const before = await loaded();
  ada.link.cut();
  await ada.page.getByRole("link", { name: "Trading" }).click();
  await ada.page.getByText("This part of the page could not be loaded.").waitFor();
  ada.link.restore();
  await ada.page.getByRole("button", { name: "Try again" }).click();
  await section(ada, "Trades").waitFor();
  assert.ok((await loaded()) > before);
  // Its style sheet is loaded as well.
  assert.equal(await section(ada, "Trades").evaluate((node) => getComputedStyle(node.closest(".trading")).overflowY), "auto");
});

test("missed data is shown once after a network outage", async (t) => {
  const sub = "trader-away";
  const ada = await open(t, sub, ["admin"]);
  await section(ada, "Trades").getByText("No trades yet.").waitFor();
  await publish("/trades", trade(sub, "away-1", "pending"));
  await ada.page.locator("[data-trade=away-1]").waitFor();
  ada.link.cut();
  await ada.page.getByText("Not connected. What you see may be out of date.").waitFor();
  await publish("/trades", trade(sub, "away-1", "executed"));
  await publish("/trades", trade(sub, "away-2", "failed"));
  await publish("/portfolios", { userId: sub, totalValue: 1, cash: 1, positions: [] });
  ada.link.restore();
  await ada.page.locator("[data-trade=away-2][data-status=failed]").waitFor();
  const lines = await ada.page.locator("[data-trade]").evaluateAll((nodes) => nodes.map(({ dataset }) => `${dataset.trade} ${dataset.status}`));
  assert.deepEqual(lines.sort(), ["away-1 executed", "away-2 failed"]);
  await section(ada, "Portfolio").getByText("No positions.").waitFor();
  noComplaints(ada);
});

test("the focus stays on Cancel while events arrive", async (t) => {
  const sub = "trader-cancel";
  const ada = await open(t, sub, ["admin"]);
  await publish("/prices", { symbol: "HELD", price: 3 });
  const order = section(ada, "Order");
  await section(ada, "Trades").getByText("No trades yet.").waitFor();
  await order.getByRole("textbox", { name: "Quantity" }).fill("4");
  await order.getByRole("textbox", { name: "Symbol" }).fill("HELD");
  await order.getByRole("button", { name: "Review" }).click();
  await order.getByRole("button", { name: "Buy 4 HELD now" }).waitFor();
  const cancel = order.getByRole("button", { name: "Cancel" });
  await cancel.focus();
  await publish("/trades", trade(sub, "cancel-1", "pending"));
  await ada.page.locator("[data-trade=cancel-1]").waitFor();
  assert.equal(await cancel.evaluate((button) => button === document.activeElement), true);
  await ada.page.keyboard.press("Enter");
  await order.getByRole("button", { name: "Review" }).waitFor();
  assert.equal(await ada.page.locator("[data-trade]").count(), 1);
  noComplaints(ada);
});

test("an order with a lost answer is not repeated, and its outcome is shown", async (t) => {
  const sub = "trader-lost";
  const ada = await open(t, sub, ["admin"]);
  await ada.isOver("WebSocket");
  await publish("/prices", { symbol: "LOST", price: 3 });
  const order = section(ada, "Order");
  await order.getByRole("textbox", { name: "Quantity" }).fill("4");
  await order.getByRole("textbox", { name: "Symbol" }).fill("LOST");
  await order.getByRole("button", { name: "Review" }).click();
  ada.link.holdAnswers();
  await order.getByRole("button", { name: "Buy 4 LOST now" }).click();
  const root = await client(t, sub, "Same User");
  await must(root, "subscribe:trades", { userId: sub });
  const snapshot = async () => (await must(root, "subscribe:trades", { userId: sub })).snapshot.trades;
  await until(async () => (await snapshot()).length === 1, "the trade");
  ada.link.cut();
  await order.getByText("Buy 4 LOST: the outcome is not known yet.").waitFor();
  ada.link.restore();
  ada.link.releaseAnswers();
  await section(ada, "Trades").getByText("4 × 3", { exact: true }).waitFor();
  assert.equal((await snapshot()).length, 1);
});

test("huge numbers, long lists and hostile names stay in their places", async (t) => {
  const sub = "trader-hostile";
  const hostile = "\u05d0\u05d1\u05d2 <b>x</b> ".padEnd(128, "W");
  const positions = Array.from({ length: 600 }, (_, index) => ({ symbol: "W".repeat(32), quantity: index % 2 ? -1e15 : 1e-12, avgPrice: 1e15 }));
  await publish("/portfolios", { userId: sub, totalValue: -1e15, cash: 1e15, positions });
  await publish("/trades", trade(sub, "hostile-1", "executed", { symbol: "<script>alert(1)</script>", quantity: 1e15, executedPrice: 1e-15 }));
  await publish("/signals", signal("hostile-s", { channelId: hostile, providerName: hostile, symbol: "%".repeat(32), entryPrice: 1e15, stopLoss: 1e-9, takeProfit: 1e15 }));
  for (const viewport of [DESK, PHONE]) {
    const ada = await open(t, sub, ["admin"], { viewport });
    await section(ada, "Portfolio").getByText("-1,000,000,000,000,000.00").waitFor();
    await ada.page.getByRole("button", { name: "Show all 600" }).waitFor();
    await ada.page.locator("[data-signal=hostile-s]").getByText("stop 1 × 10^-9", { exact: false }).waitFor();
    assert.equal(await ada.page.evaluate(() => document.documentElement.scrollWidth), viewport.width);
    const wide = await ada.page.locator(".card").evaluateAll((cards) => cards.filter((card) => card.scrollWidth > card.clientWidth).length);
    assert.equal(wide, 0);
    assert.equal(await ada.page.locator(".trading b, .trading script").count(), 0);
    assert.deepEqual(await violations(ada), []);
    await ada.screenshot(`trading-hostile-${viewport.width}`);
    await ada.page.getByRole("button", { name: "Show all 600" }).click();
    await until(async () => (await ada.page.locator(".positions tbody tr").count()) === 600, "all positions");
    noComplaints(ada);
  }
});
