// The dashboard of admins in real Chromium: figures that follow events, refusals, a user who is
// found, disconnected and shut out, and nothing for users who are no admins.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { io } from "socket.io-client";
import { violations } from "./axe.mjs";
import { NARROW, PATH, admin, details, live, noFaults, search, section, shows, total, view, watch } from "./desk.mjs";
import { DESK, client, keyed, checkLook, must, shared, tokenOf } from "./page_support.mjs";
import { connect, next, open, startServer, until } from "./support.mjs";
import { token } from "./tokens.mjs";
import { Visitor } from "./visitor.mjs";

/** Revokes a user as a service does. */
async function revoke(userId) {
  const answer = await fetch(`${shared.server.url}/api/v1/revocations`, {
    method: "POST",
    headers: { authorization: `Bearer ${token({ sub: "backend", roles: ["service"] })}`, "content-type": "application/json" },
    body: JSON.stringify({ userId }),
  });
  assert.equal(answer.status, 200, await answer.text());
}

for (const [where, viewport] of Object.entries({ desk: DESK, narrow: NARROW })) {
  for (const colorScheme of ["light", "dark"]) {
    test(`an admin sees live figures and refusals, at ${where} in ${colorScheme}`, async (t) => {
      const self = `${where}-${colorScheme}`;
      const server = await startServer(keyed);
      t.after(() => server.stop());
      const root = await live(t, { url: server.url, viewport, colorScheme });
      const { page } = root;
      await shows(root, "Connections", (shown) => shown === 1);
      await section(root, "Alerts").getByText("Nothing has failed in the last seven days.").waitFor();
      await section(root, "Refusals").getByText("Nothing was refused since this page was opened.").waitFor();
      await section(root, "Rooms").getByText("No socket is in a room.").waitFor();
      await checkLook(root, `dashboard-${self}-empty`);

      const people = [];
      for (const name of ["ann", "bob", "bob"]) people.push(await client(t, name, name, server.url));
      await shows(root, "Connections", (shown) => shown === 4);
      await shows(root, "Users", (shown) => shown === 2);
      await page.locator('[data-total="Connections"]').getByText("WebSocket").waitFor();
      await section(root, "Rooms").getByText("2 rooms of users and subscriptions").press("Enter");
      await section(root, "Rooms").getByRole("row", { name: /user:bob 2/ }).waitFor();
      await page.getByRole("img", { name: /open 4 now, at most 4/ }).waitFor();
      const { nodes } = await (await fetch(`${server.url}/api/v1/nodes`, { headers: { authorization: `Bearer ${admin()}` } })).json();
      await section(root, "Servers").locator(`[data-node="${nodes[0].id}"]`).getByText("up", { exact: true }).waitFor();
      await section(root, "Servers").getByText(nodes[0].version, { exact: true }).waitFor();

      // Events continue during the test, so that there is a rate whenever figures are read.
      let isOver = false;
      const talking = (async () => {
        while (!isOver) await must(people[0], "conversations", {});
      })();
      t.after(() => (isOver = true));
      await shows(root, "Events in", (shown) => shown > 0.5);
      await shows(root, "Events out", (shown) => shown > 0.5);
      await page.getByRole("img", { name: /in [\d,.]+ now, at most [\d,.]+; out [\d,.]+ now/ }).waitFor();
      isOver = true;
      await talking;

      const stranger = open(t, io, server.url, { auth: { token: "a.b.c" }, reconnection: false });
      await next(stranger, "connect_error");
      await section(root, "Refusals").getByRole("row", { name: /^authentication malformed/ }).waitFor();
      await section(root, "Refusals").getByRole("list").getByText("authentication: malformed").first().waitFor();
      await checkLook(root, `dashboard-${self}-busy`);
      await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
      await root.screenshot(`dashboard-${self}-end`);
      noFaults(root);
    });
  }
}

test("a user is found by keyboard and disconnected after confirmation", async (t) => {
  const sub = "mallory-found";
  const name = `<img src=x onerror=alert(1)> <b>M</b>`;
  const clients = [];
  for (let index = 0; index < 2; index += 1) clients.push(await connect(t, io, shared.server.url, { auth: { token: tokenOf(sub, name) }, reconnection: false }));
  const root = await live(t);
  const { page } = root;
  await view(root, "Sockets");
  await search(root, "nobody-here");
  await page.getByText("No socket begins with that.").waitFor();
  await search(root, sub, name, name);
  assert.equal(await page.locator(".desk-main img, .desk-main b").count(), 0);
  const card = await details(root);
  for (const text of ["127.0.0.1", "WebSocket"]) await card.getByText(text, { exact: true }).waitFor();
  await card.getByText(`user:${sub}`, { exact: true }).waitFor();
  await checkLook(root, "dashboard-user");

  // Escape leaves everything unchanged.
  const dialog = page.getByRole("dialog", { name: "Disconnect a user" });
  await card.getByRole("button", { name: "Disconnect this user" }).press("Enter");
  await dialog.waitFor();
  await checkLook(root, "dashboard-kick");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.deepEqual(clients.map(({ connected }) => connected), [true, true]);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Disconnect this user");

  const disconnected = Promise.all(clients.map((socket) => next(socket, "disconnect")));
  await page.keyboard.press("Enter");
  await dialog.getByRole("button", { name: "Disconnect" }).press("Enter");
  await disconnected;
  await page.getByRole("status").getByText("2 connections closed.").waitFor();
  await card.getByText("This socket is no longer connected.").waitFor();
  noFaults(root);
});

test("an address is blocked with a reason after confirmation", async (t) => {
  const server = await startServer({ ...keyed, ROOMCAST_SERVER__TRUSTED_PROXIES: "127.0.0.1" });
  t.after(() => server.stop());
  const far = { "x-forwarded-for": "192.0.2.7" };
  const mallory = await connect(t, io, server.url, { auth: { token: tokenOf("mallory", "Mallory") }, reconnection: false, transports: ["websocket"], extraHeaders: far });
  for (const viewport of [NARROW, DESK]) {
    const root = await live(t, { url: server.url, viewport });
    const { page } = root;
    await view(root, "Sockets");
    await search(root, "192.0.2", "Mallory");
    await details(root);
    await page.getByRole("button", { name: "Block 192.0.2.7" }).press("Enter");
    const dialog = page.getByRole("dialog", { name: "Block an address" });
    await dialog.getByRole("button", { name: "Block" }).press("Enter");
    await dialog.getByText("Enter a reason. Other admins see it.").waitFor();
    await checkLook(root, `dashboard-block-${viewport.width}`);
    // Escape closes the window, also from a field with a text, and blocks nothing.
    await dialog.getByLabel("Reason").fill("begun");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    assert.equal(mallory.connected, true);
    await page.getByRole("button", { name: "Block 192.0.2.7" }).press("Enter");
    if (viewport === NARROW) {
      await dialog.getByRole("button", { name: "Cancel" }).press("Enter");
      assert.equal(mallory.connected, true);
      continue;
    }
    const disconnected = next(mallory, "disconnect");
    await dialog.getByLabel("Reason").fill("a flood");
    await dialog.getByLabel("For how long").selectOption("1 day");
    await dialog.getByLabel("Reason").press("Enter");
    await disconnected;
    await page.getByRole("status").getByText(/^192\.0\.2\.7(\/32)? is blocked until /).waitFor();
    const { blocks } = await (await fetch(`${server.url}/api/v1/blocks`, { headers: { authorization: `Bearer ${admin()}` } })).json();
    assert.deepEqual(blocks.map(({ reason }) => reason), ["a flood"]);
    noFaults(root);
  }
});

test("a user who is not an admin sees one sentence, and requests no figures", async (t) => {
  for (const roles of [["user"], ["service"]]) {
    const visitor = await Visitor.open(t, shared.browser, shared.server.url, { path: PATH, viewport: NARROW });
    const requests = [];
    visitor.page.on("request", (request) => requests.push(new URL(request.url()).pathname));
    await visitor.giveToken(token({ sub: `no-admin-${roles}`, roles }));
    await visitor.page.getByRole("alert").getByText("This page is for admins, and your role does not permit access.").waitFor();
    assert.equal(await visitor.page.locator(".desk, .card, table").count(), 0);
    assert.deepEqual(requests.filter((path) => path.startsWith("/api") || path.startsWith("/health")), []);
    await checkLook(visitor, `dashboard-forbidden-${roles}`);
    // The same applies to the next visit, and the chat of this tab continues with the same token.
    await visitor.page.reload();
    await visitor.page.getByRole("alert").getByText("This page is for admins").waitFor();
    await visitor.page.getByRole("button", { name: "Use another token" }).press("Enter");
    await visitor.giveToken(admin());
    await total(visitor, "Connections").waitFor();
    noFaults(visitor);
  }
});

test("a required token stays in its tab and is deleted by signing out", async (t) => {
  const secret = admin("root-token");
  const root = await Visitor.open(t, shared.browser, shared.server.url, { path: PATH, viewport: DESK });
  const { page } = root;
  const addresses = [];
  page.on("request", (request) => addresses.push(request.url()));
  await page.getByRole("heading", { name: "Dashboard" }).waitFor();
  await checkLook(root, "dashboard-entry");
  await root.giveToken("this-is-no-token");
  await page.getByRole("alert").getByText("This token is invalid or has expired.").waitFor();
  assert.deepEqual(await violations(root), []);
  await root.giveToken(secret);
  await total(root, "Connections").waitFor();
  assert.deepEqual(addresses.filter((address) => address.includes(secret)), []);
  assert.equal(page.url().endsWith(PATH), true);
  assert.equal(await page.evaluate((secret) => JSON.stringify({ ...localStorage }).includes(secret) || document.cookie.includes(secret), secret), false);
  await page.reload();
  await total(root, "Connections").waitFor();
  await page.getByRole("button", { name: "Sign out" }).press("Enter");
  await page.getByLabel("Token").waitFor();
  assert.equal(await page.evaluate(() => JSON.stringify({ ...sessionStorage })), "{}");
  assert.equal(await page.locator(".desk").count(), 0);
  noFaults(root);

  // An admin who is revoked while the page is open sees nothing more.
  const other = await watch(t, admin("root-revoked"));
  await total(other, "Connections").waitFor();
  await revoke("root-revoked");
  await other.page.getByRole("alert").getByText("Your access to this page has ended.").waitFor();
  assert.equal(await other.page.locator(".desk").count(), 0);
  noFaults(other);
});

test("no user and no address is in the document after revocation out of view", async (t) => {
  const sub = "mallory-watched";
  await connect(t, io, shared.server.url, { auth: { token: tokenOf(sub, "Mallory Watched") }, reconnection: false });
  const root = await watch(t, admin("root-hidden"));
  const { page } = root;
  await total(root, "Connections").waitFor();
  await section(root, "Rooms").locator("summary").press("Enter");
  await section(root, "Rooms").getByRole("row", { name: /user:/ }).first().waitFor();
  await view(root, "Sockets");
  await search(root, sub, "Mallory Watched");
  const card = await details(root);
  await card.getByText("127.0.0.1", { exact: true }).first().waitFor();
  await card.getByRole("button", { name: "Disconnect this user" }).press("Enter");
  await page.getByRole("dialog", { name: "Disconnect a user" }).waitFor();
  const found = async () => {
    const text = await page.evaluate(() => [document.title, document.body.outerHTML, ...[...document.querySelectorAll("input")].map(({ value }) => value)].join("\n"));
    return text.match(/mallory.watched|user:[a-z]|127\.0\.0\.1/gi) ?? [];
  };
  assert.ok((await found()).length > 0);
  // A page out of view gets no frames.
  await page.evaluate(() => (globalThis.requestAnimationFrame = () => 0));
  await revoke("root-hidden");
  await page.getByRole("alert").getByText("Your access to this page has ended.").waitFor();
  assert.deepEqual(await found(), []);
  noFaults(root);
});

test("without a connection the page shows the age of its figures and resumes", async (t) => {
  const root = await live(t);
  const { page } = root;
  await page.locator("[data-state=live]").waitFor();
  root.link.cut();
  await page.getByRole("status").getByText(/^Not connected since \S.*\. The figures are from \S.*\. Trying again…$/).waitFor();
  await checkLook(root, "dashboard-lost");
  // The earlier figures are still shown, and cannot be taken for the current ones.
  assert.ok(Number(await total(root, "Connections").textContent()) > 0);
  assert.equal(await page.locator(".total:not(.is-old)").count(), 0);
  await view(root, "Sockets");
  await checkLook(root, "dashboard-lost-sockets");
  assert.equal(await page.getByRole("button", { name: "Refresh sockets" }).isDisabled(), true);
  await view(root, "Overview");
  root.link.restore();
  await page.locator("[data-state=live]").waitFor();
  noFaults(root);
});

test("figures are polled only while the tab is visible", async (t) => {
  const root = await live(t);
  const { page } = root;
  const pulls = [];
  page.on("request", (request) => request.url().endsWith("/api/v1/nodes") && pulls.push(request));
  // Browser timers never fire early, however busy the machine is; events reported to this process
  // may be late.
  const begin = await page.evaluate(() => performance.now());
  const times = () =>
    page.evaluate((begin) => {
      const pulls = performance.getEntriesByType("resource").filter(({ name, startTime }) => name.endsWith("/api/v1/nodes") && startTime > begin);
      return pulls.map(({ startTime }) => startTime);
    }, begin);
  await until(async () => (await times()).length >= 3, "some pulls");
  const [first, , third] = await times();
  assert.ok(third - first >= 3_500, `${third - first} ms`);
  const hide = (state) =>
    page.evaluate((state) => {
      Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, state);
  const answered = page.waitForResponse((response) => response.url().endsWith("/api/v1/nodes"));
  await answered;
  await hide("hidden");
  const before = pulls.length;
  await sleep(5_000); // No request may be sent in this time.
  // One request may have been in flight when the tab was hidden.
  assert.ok(pulls.length <= before + 1, `${pulls.length - before} pulls`);
  await hide("visible");
  await until(() => pulls.length > before + 1, "pulls again");
  noFaults(root);
});

test("parts that a role does not permit show this and are requested once", async (t) => {
  const server = await startServer({ ...keyed, ROOMCAST_AUTH__ROLES__WATCHER__PERMISSIONS: "admin" });
  t.after(() => server.stop());
  const root = await watch(t, token({ sub: "watcher", roles: ["watcher"] }), { url: server.url });
  const { page } = root;
  await page.getByText("Your role does not permit figures (api:metrics).").waitFor();
  await section(root, "Servers").getByText("Your role does not permit this (api:metrics).").waitFor();
  await section(root, "Rooms").getByText("Your role does not permit this (api:rooms).").waitFor();
  await checkLook(root, "dashboard-watcher");
  for (const [name, title, permission] of [
    ["Sockets", "Sockets", "api:sockets"],
    ["Rooms", "Conversations", "api:conversations"],
    ["Blocks", "Blocks", "api:blocks"],
    ["Alerts", "Alerts of seven days", "api:metrics"],
  ]) {
    await view(root, name);
    await section(root, title).getByText(`Your role does not permit this (${permission}).`).waitFor();
  }
  await view(root, "Overview");
  const requests = [];
  page.on("request", (request) => request.url().includes("/api/") && requests.push(request.url()));
  await sleep(5_000); // No request may be sent in this time.
  assert.deepEqual(requests, []);
});
