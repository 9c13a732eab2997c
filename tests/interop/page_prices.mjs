// Prices on the trading page: of orders and positions, with their age, in Chromium and Firefox.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { FirefoxVisitor, launchFirefox } from "./firefox.mjs";
import { DESK, PHONE, checkLook, checkLookEverywhere, noComplaints, shared } from "./page_support.mjs";
import { startServer, until } from "./support.mjs";
import { SECRET, token } from "./tokens.mjs";
import { Visitor } from "./visitor.mjs";

const service = `Bearer ${token({ sub: "backend", roles: ["service"] })}`;
const WIDE = { width: 1440, height: 900 };

let firefox;
before(async () => (firefox = await launchFirefox()));
after(() => firefox?.close());

async function send(method, path, body) {
  const headers = { authorization: service, "content-type": "application/json" };
  const answer = await fetch(`${shared.server.url}/api/v1${path}`, { method, headers, ...(body && { body: JSON.stringify(body) }) });
  assert.equal(answer.status, 200, await answer.text());
}

const publish = (path, body) => send("POST", path, body);
const secondsAgo = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
const credentials = (sub, roles = ["admin"]) => token({ sub, name: `Name of ${sub}`, roles });

/** Opens the trading page in Chromium. */
async function open(t, sub, { roles, ...options } = {}) {
  const visitor = await Visitor.open(t, shared.browser, shared.server.url, { path: "/#/trading", viewport: WIDE, ...options });
  await visitor.giveToken(credentials(sub, roles));
  await visitor.page.locator(".status[data-state=online]").waitFor();
  await section(visitor, "Trades").getByText("No trades yet.").waitFor();
  return visitor;
}

const section = ({ page }, name) => page.getByRole("region", { name });
/** The cells of a position: its quantity, average price, price, value, and profit or loss. */
const cells = ({ page }, symbol) => page.locator(`tr[data-symbol="${symbol}"] td`);

async function fill(visitor, quantity, symbol) {
  const order = section(visitor, "Order");
  await order.getByRole("textbox", { name: "Quantity" }).fill(quantity);
  await order.getByRole("textbox", { name: "Symbol" }).fill(symbol);
  return order;
}

/** Counts the orders of a page, in the frames of its connection. */
function watchRequests({ page }) {
  const sent = [];
  page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => sent.push(String(payload))));
  return (event) => sent.filter((frame) => frame.includes(`"${event}"`));
}

// The same steps in both browsers, which share only the evaluation of expressions.
const browsers = {
  async Chromium(t, sub) {
    const visitor = await open(t, sub);
    const { page } = visitor;
    return {
      visitor,
      evaluate: (expression) => page.evaluate(expression),
      type: async (selector, text) => page.locator(selector).pressSequentially(text),
      click: (selector) => page.locator(selector).click(),
      press: (key) => page.keyboard.press(key),
      screenshot: (name) => visitor.screenshot(name),
    };
  },
  async Firefox(t, sub) {
    const visitor = await FirefoxVisitor.open(t, firefox, shared.server.url, WIDE);
    await visitor.signIn(credentials(sub));
    await visitor.evaluate("void (location.hash = '#/trading')");
    return {
      visitor,
      evaluate: (expression) => visitor.evaluate(expression),
      type: async (selector, text) => {
        await visitor.focus(selector);
        await visitor.type(text);
      },
      click: (selector) => visitor.click(selector, ""),
      press: (key) => visitor.type(key),
      screenshot: (name) => visitor.screenshot(name),
    };
  },
};

for (const [name, start] of Object.entries(browsers)) {
  test(`an order shows price and value before and after it, in ${name}`, async (t) => {
    const sub = `journey-${name}`;
    const symbol = `JOURNEY-${name}`;
    await publish("/prices", { symbol, price: 190.1, timestamp: secondsAgo(20) });
    const person = await start(t, sub);
    const text = (selector) => person.evaluate(`document.querySelector(${JSON.stringify(selector)})?.textContent ?? ""`);
    const reads = (selector, part) => until(async () => (await text(selector)).includes(part), `${selector}: ${part}`, 60_000);

    await reads(".card-portfolio", "There is no portfolio yet.");
    await person.type("#order-quantity", "3");
    await person.type("#order-symbol", symbol);
    await reads(".order .estimate", "190.1 ");
    await reads(".order .estimate", " ago");
    await reads(".order .estimate", "Estimated value570.30");
    await person.click(".order button[type=submit]");
    await reads(".order-confirm", `Buy 3 ${symbol} now`);
    await reads(".order-confirm .estimate", "Estimated value570.30");

    // The changed price is shown, and the order is confirmed again.
    await publish("/prices", { symbol, price: 190.3 });
    await reads(".order-confirm .estimate", "Estimated value570.90");
    await reads(".order-note", "The price has changed since your review. It was 190.1.");
    await person.click(".order-confirm .button-primary");
    await reads(".order-note", "The price has changed from 190.1 to 190.3. Confirm again to order.");
    await person.screenshot(`prices-journey-${name}`);
    // A second click could count as a double click, which does not confirm.
    await person.press("Enter");
    await reads(".outcome", `Buy 3 ${symbol}: executed at 190.3.`);

    // The service publishes the new position, whose value follows the price.
    await publish("/portfolios", { userId: sub, totalValue: 570.9, cash: 0, positions: [{ symbol, quantity: 3, avgPrice: 190.3 }] });
    const values = async () => {
      const texts = await person.evaluate(`[...document.querySelectorAll("tr[data-symbol] td")].map((cell) => cell.textContent)`);
      return texts.slice(3).map((text) => text.replace("\u00a0", " "));
    };
    const shows = (...expected) => until(async () => JSON.stringify(await values()) === JSON.stringify(expected), expected.join(" "), 60_000);
    await shows("570.90", "0.00 (0.00 %)");
    await publish("/prices", { symbol, price: 195 });
    await shows("585.00", "+14.10 (+2.47 %)");
    await publish("/prices", { symbol, price: 0.1 });
    await shows("0.30", "-570.60 (-99.95 %)");
    await person.screenshot(`prices-position-${name}`);
    noComplaints(person.visitor);
  });
}

test("an old price is marked, and a missing one does not prevent an order", async (t) => {
  const sub = "ages";
  await publish("/prices", { symbol: "AGED", price: 7, timestamp: secondsAgo(59) });
  await publish("/prices", { symbol: "STALE", price: 8, timestamp: secondsAgo(3 * 3600) });
  const positions = ["AGED", "STALE", "BARE"].map((symbol) => ({ symbol, quantity: -2, avgPrice: symbol === "STALE" ? 0 : 5 }));
  await publish("/portfolios", { userId: sub, totalValue: 1, cash: 1, positions });
  const ada = await open(t, sub);
  await cells(ada, "STALE").getByText("3 h ago").waitFor();
  await cells(ada, "STALE").getByText("old", { exact: true }).waitFor();
  // Its cost is unknown, and a short position loses if the price rises.
  assert.deepEqual((await cells(ada, "STALE").allTextContents()).filter((_, index) => index !== 2), ["-2", "unknown", "-16.00", "unknown"]);
  await cells(ada, "AGED").getByText("-4.00 (-40.00 %)").waitFor();
  await cells(ada, "AGED").getByText("old", { exact: true }).waitFor();
  await cells(ada, "BARE").getByText("no price yet").waitFor();
  await checkLookEverywhere(ada, "prices-positions");

  const order = await fill(ada, "2", "BARE");
  await order.getByText("no price yet").waitFor();
  await order.getByRole("button", { name: "Review" }).click();
  await order.getByText("You can order without a price.").waitFor();
  const confirm = order.getByRole("button", { name: "Buy 2 BARE now" });
  assert.equal(await confirm.evaluate((button) => button === document.activeElement), true);
  await checkLookEverywhere(ada, "prices-review-without");
  await confirm.press("Enter");
  await order.getByText("BARE: not executed. The server has no price for it.").waitFor();

  // A price that arrives, and one that is withdrawn.
  await publish("/prices", { symbol: "BARE", price: 5 });
  await cells(ada, "BARE").getByText("-10.00", { exact: true }).waitFor();
  await send("DELETE", "/prices/BARE");
  await cells(ada, "BARE").getByText("no price yet").waitFor();
  noComplaints(ada);
});

test("the page follows only what it shows, until the user leaves it", async (t) => {
  const sub = "bounded";
  const symbols = Array.from({ length: 230 }, (_, index) => `BOUND-${index}`);
  await publish("/portfolios", { userId: sub, totalValue: 1, cash: 1, positions: symbols.map((symbol) => ({ symbol, quantity: 1, avgPrice: 1 })) });
  await publish("/prices", { prices: symbols.map((symbol) => ({ symbol, price: 2 })) });
  await publish("/prices", { symbol: "TYPED", price: 3 });
  const ada = await open(t, sub, { path: "/?transport=websocket#/trading" });
  const requests = watchRequests(ada);
  await ada.page.reload();
  await cells(ada, "BOUND-0").getByText("+1.00 (+100.00 %)").waitFor();
  await section(ada, "Portfolio").getByText("Prices are shown for the first 199 symbols.").waitFor();
  await section(ada, "Portfolio").getByRole("button", { name: "Show all 230" }).click();
  await cells(ada, "BOUND-198").getByText("2.00", { exact: true }).waitFor();
  assert.equal(await cells(ada, "BOUND-199").nth(3).textContent(), "unknown");
  assert.equal(requests("subscribe:prices").length, 2);
  const order = section(ada, "Order");
  await order.getByRole("textbox", { name: "Quantity" }).fill("2");
  await order.getByRole("textbox", { name: "Symbol" }).pressSequentially("TYPED");
  await order.getByText("6.00").waitFor();
  // A few at most, however long the word is.
  assert.ok(requests("subscribe:prices").length <= 7);
  assert.equal(requests("unsubscribe:prices").length, requests("subscribe:prices").length - 3);

  await ada.page.getByRole("link", { name: "Lobby" }).click();
  await ada.scroller.waitFor();
  await until(() => requests("unsubscribe:prices").length === requests("subscribe:prices").length, "the end of all subscriptions");
  await ada.page.getByRole("link", { name: "Trading" }).click();
  await cells(ada, "BOUND-0").getByText("+1.00 (+100.00 %)").waitFor();
  noComplaints(ada);
});

test("prices are followed again after a network outage", async (t) => {
  const sub = "outage";
  await publish("/portfolios", { userId: sub, totalValue: 1, cash: 1, positions: [{ symbol: "OUTAGE", quantity: 2, avgPrice: 1 }] });
  await publish("/prices", { symbol: "OUTAGE", price: 2 });
  const ada = await open(t, sub);
  await cells(ada, "OUTAGE").getByText("4.00", { exact: true }).waitFor();
  ada.link.cut();
  await ada.page.getByText("Not connected. What you see may be out of date.").waitFor();
  await publish("/prices", { symbol: "OUTAGE", price: 3 });
  ada.link.restore();
  await cells(ada, "OUTAGE").getByText("6.00", { exact: true }).waitFor();
  await publish("/prices", { symbol: "OUTAGE", price: 4 });
  await cells(ada, "OUTAGE").getByText("8.00", { exact: true }).waitFor();
  noComplaints(ada);
});

test("screen readers hear of a changing price once", async (t) => {
  await publish("/prices", { symbol: "FLOOD", price: 100 });
  const ada = await open(t, "flood");
  const order = await fill(ada, "1", "FLOOD");
  await order.getByText("100.00").waitFor();
  await order.getByRole("button", { name: "Review" }).click();
  await order.getByRole("button", { name: "Buy 1 FLOOD now" }).waitFor();
  const summary = ada.page.locator("#order-summary");
  assert.equal(await summary.textContent(), "Estimated value 100.00, at the price 100.");
  await ada.page.evaluate(() => {
    globalThis.announced = [];
    const observer = new MutationObserver((changes) => {
      for (const { target } of changes) {
        const region = (target instanceof Element ? target : target.parentElement)?.closest("[role=status], [role=log], [aria-live], #order-summary");
        if (region) globalThis.announced.push(region.textContent);
      }
    });
    observer.observe(document.querySelector(".trading"), { subtree: true, childList: true, characterData: true });
  });
  for (let price = 101; price <= 110; price += 1) {
    await publish("/prices", { symbol: "FLOOD", price });
    await order.getByText(`${price}.00`).waitFor();
  }
  assert.deepEqual(await ada.page.evaluate(() => globalThis.announced), ["The price has changed since your review. It was 100."]);
  const confirm = order.getByRole("button", { name: "Buy 1 FLOOD now" });
  await confirm.click();
  await order.getByText("The price has changed from 100 to 110. Confirm again to order.").waitFor();
  assert.equal(await summary.textContent(), "Estimated value 110.00, at the price 110.");
  await ada.page.keyboard.press("Enter");
  await order.getByText("Buy 1 FLOOD: executed at 110.").waitFor();
  noComplaints(ada);
});

test("a double click or a held key does not confirm an order", async (t) => {
  await publish("/prices", { symbol: "HASTE", price: 10 });
  const ada = await open(t, "haste");
  const order = await fill(ada, "1", "HASTE");
  const confirm = order.getByRole("button", { name: "Buy 1 HASTE now" });
  await order.getByText("10.00").waitFor();
  await order.getByRole("textbox", { name: "Symbol" }).focus();
  await ada.page.keyboard.down("Enter");
  await confirm.waitFor();
  await ada.page.keyboard.down("Enter");
  await ada.page.keyboard.up("Enter");
  await confirm.dispatchEvent("click", { detail: 2 });
  // An order would have been executed before this price.
  await publish("/prices", { symbol: "HASTE", price: 20 });
  await order.locator(".order-confirm strong").getByText("20.00").waitFor();
  await section(ada, "Trades").getByText("No trades yet.").waitFor();
  await confirm.click();
  await order.getByText("Confirm again to order.").waitFor();
  await ada.page.keyboard.press("Enter");
  await order.getByText("Buy 1 HASTE: executed at 20.").waitFor();
  noComplaints(ada);
});

test("the cards fill a wide page, and are one column on a phone", async (t) => {
  const ada = await open(t, "layout");
  const boxes = async () => {
    const all = await Promise.all(["Portfolio", "Order", "Trades", "Signals"].map((name) => section(ada, name).boundingBox()));
    return all.map(({ x, y, width, height }) => ({ left: x, top: y, right: x + width, bottom: y + height, area: width * height }));
  };
  const main = await ada.page.locator(".trading").boundingBox();
  const [portfolio, order, trades, signals] = await boxes();
  assert.ok(portfolio.right < order.left && trades.right < signals.left && signals.right < order.left, "three columns");
  const used = [portfolio, order, trades, signals].reduce((total, { area }) => total + area, 0) / (main.width * main.height);
  assert.ok(used > 0.85, `${used} of the page is used`);
  // Every empty list names the next step.
  await section(ada, "Signals").getByText("They appear here, without a reload,").waitFor();
  await section(ada, "Portfolio").getByText("It appears here, without a reload,").waitFor();
  await section(ada, "Trades").getByRole("button", { name: "Write an order" }).click();
  assert.equal(await ada.page.evaluate(() => document.activeElement.id), "order-quantity");
  await publish("/portfolios", { userId: "layout", totalValue: 1, cash: 1, positions: [] });
  await section(ada, "Portfolio").getByText("No positions.").waitFor();
  await section(ada, "Portfolio").getByRole("button", { name: "Write an order" }).waitFor();
  await checkLook(ada, "prices-wide");
  await ada.page.setViewportSize(PHONE);
  const column = await boxes();
  assert.ok(column.every(({ left, right }) => left === column[0].left && right === column[0].right), "one column");
  await checkLook(ada, "prices-phone");
  const targets = ada.page.locator(".trading :is(button, input:not([type=radio]), .sides label)");
  const small = await targets.evaluateAll((nodes) => nodes.map((node) => [node.textContent || node.id, node.getBoundingClientRect().height]));
  assert.deepEqual(small.filter(([, height]) => height < 44), []);
  noComplaints(ada);
});

test("without the permission, empty lists do not lead to an order", async (t) => {
  const open = await startServer({ ROOMCAST_AUTH__JWT__SECRET: SECRET, ROOMCAST_MARKET__PAGE: "true" });
  t.after(() => open.stop());
  const bob = await Visitor.open(t, shared.browser, open.url, { path: "/#/trading", viewport: DESK });
  await bob.giveToken(credentials("bob", []));
  await section(bob, "Trades").getByText("No trades yet. They appear here as soon as a service publishes them.").waitFor();
  assert.equal(await bob.page.getByRole("button", { name: "Write an order" }).count(), 0);
  await checkLook(bob, "prices-without-order");
  noComplaints(bob);
});
