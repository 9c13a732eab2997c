// The dashboard of admins in real Chromium: a slow client, all controls by Tab alone, and 10,000
// sockets.
import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocket } from "ws";
import { NARROW, call, details, live, noFaults, search, section, shows, total, view } from "./desk.mjs";
import { DESK, LOBBY, checkLook, client, keyed, make, must } from "./page_support.mjs";
import { metricIs, startServer, until } from "./support.mjs";
import { token } from "./tokens.mjs";

const quick = { ...keyed, ROOMCAST_LIMITS__API_CALLS_PER_SECOND: "0" };
const SIZES = Object.entries({ desk: DESK, narrow: NARROW });

/** Connects a WebSocket of a user without a client library, and returns it once it is admitted. */
function enter(t, url, sub, name) {
  return new Promise((done, fail) => {
    const socket = new WebSocket(`${url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`, { perMessageDeflate: false });
    t.after(() => socket.terminate());
    socket.on("error", fail);
    socket.on("message", (data) => {
      const text = String(data);
      if (text.startsWith("0")) socket.send(`40${JSON.stringify({ token: token({ sub, name }) })}`);
      else if (text.startsWith("40")) done(socket);
      else if (text.startsWith("44")) fail(new Error(text));
      else if (text === "2") socket.send("3");
    });
  });
}

for (const [where, viewport] of SIZES) {
  test(`the queue of a slow client is shown until it reads again, at ${where}`, async (t) => {
    const server = await startServer({ ...quick, ROOMCAST_ENGINE__SEND_BUFFER_BYTES: "16384", ROOMCAST_ENGINE__WRITE_TIMEOUT: "10m" });
    t.after(() => server.stop());
    const slow = await enter(t, server.url, "ann", "Ann");
    let received = 0;
    slow.on("message", (data) => (received += String(data).startsWith('42["news"') ? 1 : 0));
    slow._socket.pause();
    const root = await live(t, { url: server.url, viewport });
    await view(root, "Sockets");
    await search(root, "ann", "Ann");
    await details(root);
    const queue = root.page.locator('[data-fact="Queue"] dd');
    await queue.getByText("0 B", { exact: true }).waitFor();
    const { sockets } = await call(server.url, "GET", "/sockets?userId=ann");
    const queued = async () => (await call(server.url, "GET", `/sockets/${sockets[0].id}`)).queuedBytes;
    let sent = 0;
    // The kernel's buffers of both sides are full first.
    while ((await queued()) < 300_000) {
      assert.ok(sent < 2_000, `${sent} events are not queued`);
      await call(server.url, "POST", "/emit", { event: "news", args: ["x".repeat(30_000)], users: ["ann"] });
      sent += 1;
    }
    await queue.getByText(/^[34]\d\d(\.\d)? KiB$/).or(queue.getByText(/^29\d(\.\d)? KiB$/)).waitFor();
    await checkLook(root, `dashboard-slow-${where}`);
    await view(root, "Overview");
    await total(root, "Waiting to be sent").getByText(/^\d+(\.\d)? KiB$/).waitFor();
    await view(root, "Sockets");
    await search(root, "ann", "Ann");
    await details(root);
    slow._socket.resume();
    await until(() => received === sent, () => `${received} of ${sent} events`);
    await queue.getByText("0 B", { exact: true }).waitFor();
    noFaults(root);
  });
}

/**
 * Presses Tab from the beginning of the document to its end. Every control must be next in the
 * order of the document, with a visible outline, within the window and not covered. Returns the
 * names of the controls.
 */
async function walk({ page }) {
  const controls = 'a[href], button, input, select, textarea, summary, [tabindex="0"]';
  await page.evaluate(() => {
    document.activeElement.blur();
    document.body.tabIndex = -1;
    document.body.focus();
  });
  const names = [];
  for (;;) {
    await page.keyboard.press("Tab");
    const step = await page.evaluate((controls) => {
      const active = document.activeElement;
      if (active === document.body || active === null) return undefined;
      const all = [...document.querySelectorAll(controls)].filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility() && one.closest("[inert]") === null);
      const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(active);
      const { left, top, right, bottom } = active.getBoundingClientRect();
      const [x, y] = [(Math.max(left, 0) + Math.min(right, innerWidth)) / 2, (Math.max(top, 0) + Math.min(bottom, innerHeight)) / 2];
      const at = document.elementFromPoint(x, y);
      return {
        name: active.ariaLabel ?? (active.labels?.[0] ?? active).textContent.trim().slice(0, 60),
        place: all.indexOf(active),
        count: all.length,
        isOutlined: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && outlineColor !== "rgba(0, 0, 0, 0)",
        isSeen: at !== null && (active.contains(at) || at.contains(active)),
      };
    }, controls);
    if (step === undefined) return names;
    const { name, place, count, ...seen } = step;
    // The browser itself has no controls, so Tab may lead from the last one to the first.
    if (place === 0 && names.length > 0) return names;
    assert.equal(place, names.length, `${name} after ${names.at(-1)}`);
    assert.deepEqual(seen, { isOutlined: true, isSeen: true }, name);
    assert.ok(place < count, name);
    names.push(name);
    names.count = count;
  }
}

for (const [where, viewport] of SIZES) {
  test(`Tab reaches every control of every view in order, with visible focus, at ${where}`, async (t) => {
    const server = await startServer(quick);
    t.after(() => server.stop());
    const ann = await client(t, "ann", "Ann", server.url);
    await make(ann, "Plans", [], "hello");
    await must(ann, "join_conversation", LOBBY);
    await call(server.url, "POST", "/blocks", { cidr: "192.0.2.0/24", reason: "a flood", seconds: 3_600 });
    const root = await live(t, { url: server.url, viewport });
    const { page } = root;
    const reached = async (name, ...expected) => {
      const names = await walk(root);
      t.diagnostic(`${name}: ${names.join(" | ")}`);
      assert.equal(names.length, names.count, `${name}: all controls`);
      const views = ["Overview", "Activity", "Sockets", "Rooms", "Blocks", "Alerts"];
      for (const control of [...views, "Sign out", ...expected]) assert.ok(names.includes(control), `${name}: ${control} in ${names}`);
    };
    await section(root, "Rooms").getByText(`conversation:${LOBBY}`).waitFor();
    await reached("Overview");
    await view(root, "Sockets");
    await search(root, "ann", "Ann");
    const card = await details(root);
    await card.getByRole("button", { name: "Watch events" }).press("Enter");
    await metricIs(server.url, "roomcast_tracers", (count) => count === 1);
    const actions = ["Close this connection", "Disconnect this user", "Back to the list", "Room to join", "Join", "Stop watching"];
    await reached("Sockets", ...actions, "Search sockets");
    await view(root, "Rooms");
    await page.getByRole("button", { name: "Show the members of Plans" }).press("Enter");
    await page.locator("[data-room-details]").getByText("ann", { exact: true }).first().waitFor();
    await reached("Rooms", "Title of conversations", "Show the members of Plans");
    await view(root, "Blocks");
    await page.locator('[data-block="192.0.2.0/24"]').waitFor();
    await reached("Blocks", "Block an address", "Lift the block of 192.0.2.0/24");
    await view(root, "Alerts");
    await section(root, "Alerts of seven days").getByText("Nothing has failed in the last seven days.").waitFor();
    await reached("Alerts", "Refresh alerts");
    noFaults(root);
  });
}

/**
 * Runs in the page before its scripts: notes when the first figure is shown, since the navigation.
 */
const noteFigures = () => {
  new MutationObserver((_, observer) => {
    if (!document.querySelector('[data-total="Connections"] .total-value')?.textContent) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => (globalThis.figuresAt = performance.now())));
  }).observe(document, { childList: true, subtree: true, characterData: true });
};

test("with 10,000 sockets a page is painted within a second", { timeout: 300_000 }, async (t) => {
  const COUNT = 10_000;
  const unlimited = { ROOMCAST_LIMITS__CONNECTIONS_PER_ADDRESS: "0", ROOMCAST_LIMITS__CONNECTS: "0", ROOMCAST_LIMITS__CONNECTIONS: "12000" };
  const server = await startServer({ ...quick, ...unlimited, ROOMCAST_ENGINE__PING_INTERVAL: "120s" });
  t.after(() => server.stop());
  for (let begin = 0; begin < COUNT; begin += 100) {
    await Promise.all(Array.from({ length: 100 }, (_, index) => enter(t, server.url, `user-${begin + index}`, `Person ${begin + index}`)));
  }
  for (const [where, viewport] of SIZES) {
    const root = await live(t, { url: server.url, viewport });
    const { page } = root;
    await shows(root, "Connections", (shown) => shown > COUNT);
    // The time in the page, from the key press to the painted rows.
    const list = await page.evaluate(async () => {
      const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      const begin = performance.now();
      [...document.querySelectorAll(".views button")].find(({ textContent }) => textContent === "Sockets").click();
      while (document.querySelector("[data-socket]") === null) await painted();
      await painted();
      return performance.now() - begin;
    });
    assert.ok((await page.locator("[data-socket]").count()) <= 50);
    await search(root, "person 9999", "Person 9999");
    await page.addInitScript(noteFigures);
    await page.reload();
    await total(root, "Connections").waitFor();
    // Content of the document may not be painted yet.
    const painted = await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime).then((handle) => handle.jsonValue());
    const figures = await page.waitForFunction(() => globalThis.figuresAt).then((handle) => handle.jsonValue());
    t.diagnostic(`${COUNT} sockets at ${where}: list ${list.toFixed(0)} ms; after a reload first paint ${painted.toFixed(0)} ms, figures ${figures.toFixed(0)} ms`);
    for (const [name, time] of Object.entries({ list, painted, figures })) assert.ok(time < 1_000, `${where}: ${name} ${time} ms`);
    noFaults(root);
    await root.context.close();
  }
});
