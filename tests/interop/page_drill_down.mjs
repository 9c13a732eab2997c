// The dashboard of admins in real Chromium, in depth: old data beside a dead server, several
// servers, one socket, rooms, blocks and alerts.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { io } from "socket.io-client";
import { NARROW, call, details, live, noFaults, search, section, shows, total, view } from "./desk.mjs";
import { DESK, LOBBY, checkLook, client, keyed, make, must, shared, tokenOf } from "./page_support.mjs";
import { startPostgres } from "./postgres.mjs";
import { connect, lastingPort, metricIs, next, startServer, temporary, until } from "./support.mjs";

const quick = { ...keyed, ROOMCAST_LIMITS__API_CALLS_PER_SECOND: "0" };

for (const [where, viewport] of Object.entries({ desk: DESK, narrow: NARROW })) {
  for (const colorScheme of ["light", "dark"]) {
    test(`all views are accessible and fit, at ${where} in ${colorScheme}`, async (t) => {
      const server = await startServer(quick);
      t.after(() => server.stop());
      const ann = await client(t, "ann", "Ann", server.url);
      const bob = await client(t, "bob", "Bob", server.url);
      await make(ann, "Plans for the week", ["bob"], "hello");
      for (const socket of [ann, bob]) await must(socket, "join_conversation", LOBBY);
      await call(server.url, "POST", "/blocks", { cidr: "192.0.2.0/24", reason: "a flood", seconds: 3_600 });
      const root = await live(t, { url: server.url, viewport, colorScheme });
      const { page } = root;
      const look = (name) => checkLook(root, `drill-down-${where}-${colorScheme}-${name}`);
      await view(root, "Sockets");
      await search(root, "an", "Ann");
      const card = await details(root);
      await card.getByRole("button", { name: "Watch events" }).press("Enter");
      await metricIs(server.url, "roomcast_tracers", (count) => count === 1);
      await must(ann, "conversations", {});
      await card.getByText("received", { exact: true }).first().waitFor();
      await look("socket");
      await view(root, "Rooms");
      await section(root, "Largest rooms").getByText("Lobby").waitFor();
      await page.getByLabel("Title of conversations").fill("week");
      await page.getByLabel("Title of conversations").press("Enter");
      await section(root, "Conversations").getByText("Plans for the week").waitFor();
      await until(async () => (await page.locator("[data-conversation]").count()) === 1, "the conversation alone");
      await page.getByRole("button", { name: "Show the members of Plans for the week" }).press("Enter");
      const room = page.locator("[data-room-details]");
      for (const member of ["ann", "bob"]) await room.getByRole("list", { name: "Members" }).getByText(member, { exact: true }).waitFor();
      await look("room");
      await view(root, "Blocks");
      await page.locator('[data-block="192.0.2.0/24"]').waitFor();
      await look("blocks");
      await view(root, "Alerts");
      await section(root, "Alerts of seven days").getByText("Nothing has failed in the last seven days.").waitFor();
      await look("alerts");
      noFaults(root);
    });
  }
}

test("beside a killed server every figure is old, with its age", async (t) => {
  const port = await lastingPort();
  const listen = { ...quick, ROOMCAST_LISTEN: `127.0.0.1:${port}` };
  const server = await startServer(listen);
  const root = await live(t, { url: server.url });
  const { page } = root;
  await page.locator('[data-total="Store"]').getByText("ok", { exact: true }).waitFor();
  await section(root, "Rooms").getByText("No socket is in a room.").waitFor();
  assert.equal(await page.locator(".card.is-old").count(), 0);
  server.kill();
  await page.locator("[data-state=old]").getByText(/^Not connected since \S.*The figures are from/).waitFor();
  // No figure is left that could be taken for a current one.
  await until(async () => (await page.locator(".card:not(.is-old)").count()) === 0, "all cards old");
  for (const name of ["Store", "Adapter"]) assert.match(await total(root, name).textContent(), /^was (ok|none)$/);
  const ages = async () => (await page.locator(".total .total-more").allTextContents()).map((text) => /^(?:(\d+) min )?(\d+) s old$/.exec(text)?.[2]);
  const [first] = await ages();
  assert.ok((await ages()).every((age) => age !== undefined), String(await ages()));
  await until(async () => Number((await ages())[0]) > Number(first), "ages grow");
  await checkLook(root, "drill-down-dead");
  await page.emulateMedia({ colorScheme: "dark" });
  await checkLook(root, "drill-down-dead-dark");
  const again = await startServer(listen);
  t.after(() => again.stop());
  await page.locator("[data-state=live]").waitFor();
  await until(async () => (await page.locator(".card.is-old").count()) === 0, "current again");
});

test("a server that stops answering is shown as old without a disconnect", async (t) => {
  const server = await startServer({ ...quick, ROOMCAST_ENGINE__PING_INTERVAL: "60s", ROOMCAST_ENGINE__PING_TIMEOUT: "60s" });
  t.after(() => server.stop());
  const root = await live(t, { url: server.url });
  await server.pause();
  t.after(() => server.resume());
  await root.page.locator("[data-state=old]").waitFor();
  await until(async () => (await root.page.locator(".total.is-old").count()) === 8, "all totals old");
  server.resume();
  await root.page.locator("[data-state=live]").waitFor();
});

test("figures of all servers are merged, and a silent server is named", async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.end());
  const start = async (id) => {
    const server = await startServer({ ...quick, ROOMCAST_STORE: postgres.url, ROOMCAST_NODE__ID: id });
    t.after(() => server.stop());
    return server;
  };
  const [one, two] = await Promise.all([start("one"), start("two")]);
  for (const { url } of [one, two]) await metricIs(url, "roomcast_adapter_up", (up) => up === 1);
  await client(t, "ann", "Ann", one.url);
  await client(t, "bob", "Bob", two.url);
  await client(t, "cat", "Cat", two.url);
  const root = await live(t, { url: one.url });
  const { page } = root;
  await shows(root, "Connections", (shown) => shown === 4);
  await page.getByText("Figures of 2 servers").waitFor();
  const servers = section(root, "Servers");
  await servers.locator("[data-node-total]").getByText("Total of 2 servers").waitFor();
  await until(async () => (await servers.locator('[data-node="two"] td').nth(3).textContent()) === "2", "two clients of the second server");
  await section(root, "Parts of the servers").locator('[data-parts="two"]').getByText(/behind/).waitFor();
  for (const window of ["1 min", "5 min", "60 min", "since the start"]) await page.locator(`[data-time=processing][data-window="${window}"]`).waitFor();
  // A socket of the other server.
  await view(root, "Sockets");
  await search(root, "bob", "Bob");
  const card = await details(root);
  await card.locator('[data-fact="Server"]').getByText("two", { exact: true }).waitFor();
  await view(root, "Overview");
  await two.pause();
  t.after(() => two.resume());
  await page.locator("[data-state=partial]").getByText("No answer from two. The totals do not include it.").waitFor();
  await servers.locator('[data-node="two"]').getByText("does not answer").waitFor();
  await shows(root, "Connections", (shown) => shown === 2);
  await checkLook(root, "drill-down-silent");
  two.resume();
  await page.locator("[data-state=live]").waitFor();
  await shows(root, "Connections", (shown) => shown === 4);
  noFaults(root);
});

test("a socket joins and leaves a room, and its connection is closed", async (t) => {
  const ann = await connect(t, io, shared.server.url, { auth: { token: tokenOf("ann-moved", "Ann Moved") }, reconnection: false });
  const root = await live(t);
  const { page } = root;
  await view(root, "Sockets");
  await search(root, "ann-mo", "Ann Moved");
  const card = await details(root);
  await card.getByLabel("Room to join").fill("vip");
  await card.getByLabel("Room to join").press("Enter");
  await card.getByText("The socket is now in the room vip.").waitFor();
  const leave = card.getByRole("button", { name: "Leave the room vip" });
  await leave.waitFor();
  assert.equal(await card.getByRole("button", { name: /^Leave the room/ }).count(), 1, "rooms of the server cannot be left");
  const offer = next(ann, "offer");
  await call(shared.server.url, "POST", "/emit", { event: "offer", args: [1], rooms: ["vip"] });
  await offer;
  await leave.press("Enter");
  await card.getByText("The socket has left the room vip.").waitFor();
  await card.getByLabel("Room to join").fill("user:someone");
  await card.getByLabel("Room to join").press("Enter");
  await card.getByText("The room user:someone follows from memberships or subscriptions, and cannot be joined here.").waitFor();
  const closed = next(ann, "disconnect");
  await card.getByRole("button", { name: "Close this connection" }).press("Enter");
  await page.getByRole("dialog", { name: "Close a connection" }).getByRole("button", { name: "Close", exact: true }).last().press("Enter");
  await closed;
  await card.getByText("This socket is no longer connected.").waitFor();
  const { entries } = await call(shared.server.url, "GET", "/audit?operation=joinRoom&limit=1");
  assert.equal(entries[0].userId, "root");
  noFaults(root);
});

test("sockets are found by the beginning of a word of their agent", async (t) => {
  const [trader, desk] = ["Trader/2.1 (Pixel 8)", "Desk/1.0"];
  for (const [sub, name, agent] of [["agent-t", "Tessa", trader], ["agent-d", "Dora", desk]]) {
    await connect(t, io, shared.server.url, { auth: { token: tokenOf(sub, name) }, transports: ["websocket"], extraHeaders: { "user-agent": agent } });
  }
  const root = await live(t);
  await view(root, "Sockets");
  await search(root, "trad", "Tessa");
  await search(root, "pixel", "Tessa");
  await search(root, "desk/1", "Dora");
});

for (const [days, isMarked] of [[5, true], [80, false]]) {
  test(`a certificate that ends in ${days} days has its day${isMarked ? ", and is marked" : ""}`, async (t) => {
    const folder = temporary();
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", `${days}`];
    execFileSync("openssl", ["req", "-x509", ...kind, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
    const server = await startServer({ ...quick, ROOMCAST_SERVER__TLS__CERT_FILE: cert, ROOMCAST_SERVER__TLS__KEY_FILE: key });
    t.after(() => server.stop());
    const root = await live(t, { url: server.url.replace("http:", "https:"), ignoreHTTPSErrors: true });
    const { page } = root;
    const end = new Date(new X509Certificate(readFileSync(cert)).validTo);
    const day = await page.evaluate((time) => {
      const [, month, day, year] = new Date(time).toDateString().split(" ");
      return [Number(day), month, ...(Number(year) === new Date().getFullYear() ? [] : [year])].join(" ");
    }, end.getTime());
    const cell = page.locator("[data-parts] td").last();
    await cell.getByText(day, { exact: true }).waitFor();
    assert.equal(await page.locator("[data-parts] td.is-bad").count(), isMarked ? 1 : 0);
  });
}

test("events of a socket are traced only while they are looked at", async (t) => {
  const server = await startServer(quick);
  t.after(() => server.stop());
  const ann = await client(t, "ann", "Ann", server.url);
  const root = await live(t, { url: server.url });
  const { page } = root;
  const tracers = (count) => metricIs(server.url, "roomcast_tracers", (found) => found === count);
  await view(root, "Sockets");
  await search(root, "ann", "Ann");
  const card = await details(root);
  await tracers(0);
  await card.getByRole("button", { name: "Watch events" }).press("Enter");
  await tracers(1);
  for (let index = 0; index < 60; index += 1) await must(ann, "conversations", {});
  const events = card.getByRole("list", { name: "The latest, 100 at most" });
  await until(async () => (await events.locator("li").count()) === 100, "100 events");
  const watchAgain = async () => {
    await view(root, "Sockets");
    await search(root, "ann", "Ann");
    await (await details(root)).getByRole("button", { name: "Watch events" }).press("Enter");
    await tracers(1);
  };
  await view(root, "Overview");
  await tracers(0);
  await watchAgain();
  await page.getByRole("button", { name: "Back to the list" }).press("Enter");
  await tracers(0);
  // The focus returns to the button that has opened the details.
  assert.match(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), /^Details of socket/);
  await watchAgain();
  await page.evaluate(() => {
    Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
    Object.defineProperty(document, "visibilityState", { value: "visible", configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await tracers(0);
  await watchAgain();
  await page.getByRole("button", { name: "Sign out" }).press("Enter");
  await tracers(0);
  const text = await page.evaluate(() => document.documentElement.outerHTML);
  assert.doesNotMatch(text, /Ann|127\.0\.0\.1/);
  noFaults(root);
});

test("a block is added and lifted", async (t) => {
  const server = await startServer({ ...quick, ROOMCAST_SERVER__TRUSTED_PROXIES: "127.0.0.1" });
  t.after(() => server.stop());
  const root = await live(t, { url: server.url });
  const { page } = root;
  await view(root, "Blocks");
  await section(root, "Blocks").getByText("No address is blocked.").waitFor();
  await page.getByRole("button", { name: "Block an address" }).press("Enter");
  const dialog = page.getByRole("dialog", { name: "Block an address" });
  await dialog.getByLabel("Reason").fill("a flood");
  await dialog.getByLabel("Reason").press("Enter");
  await dialog.getByText("Enter an address or a network.").waitFor();
  await dialog.getByLabel("Address or network").fill("192.0.2.0/24");
  await checkLook(root, "drill-down-block");
  await dialog.getByLabel("Reason").press("Enter");
  const row = page.locator('[data-block="192.0.2.0/24"]');
  await row.getByText("an admin", { exact: true }).waitFor();
  await row.getByRole("button", { name: "Lift the block of 192.0.2.0/24" }).press("Enter");
  await page.getByRole("dialog", { name: "Lift a block" }).getByRole("button", { name: "Lift", exact: true }).press("Enter");
  await page.getByRole("status").getByText("192.0.2.0/24 is no longer blocked.").waitFor();
  await row.waitFor({ state: "detached" });
  const far = { "x-forwarded-for": "192.0.2.7" };
  await connect(t, io, server.url, { auth: { token: tokenOf("mallory", "Mallory") }, transports: ["websocket"], extraHeaders: far });
  noFaults(root);
});

test("alerts of earlier processes are listed with begin and duration", async (t) => {
  const store = { ...quick, ROOMCAST_STORE: `sqlite:${temporary()}/chat.db` };
  const first = await startServer(store);
  // It has recorded its start before it serves an admin.
  await live(t, { url: first.url });
  first.kill("SIGKILL");
  await first.ended;
  const server = await startServer(store);
  t.after(() => server.stop());
  const root = await live(t, { url: server.url });
  await view(root, "Alerts");
  await until(async () => {
    await root.page.getByRole("button", { name: "Refresh alerts" }).press("Enter");
    return (await root.page.locator("[data-alert]").getByText("works again").count()) === 1;
  }, "the alert of the killed process");
  await root.page.locator("[data-alert]").getByText("server", { exact: true }).waitFor();
  await checkLook(root, "drill-down-alerts");
  noFaults(root);
});
