// The dashboard of admins in real Chromium finds clients and rooms that cause trouble: one that
// reconnects all the time, one that reads too slowly, and a room that floods.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { io } from "socket.io-client";
import { call, live, noFaults, search, section, view } from "./desk.mjs";
import { DESK, LOBBY, PHONE, checkLook, client, keyed, make, must, tokenOf } from "./page_support.mjs";
import { ask, connect, next, open, startServer, until } from "./support.mjs";
import { token } from "./tokens.mjs";

const quick = { ...keyed, ROOMCAST_LIMITS__API_CALLS_PER_SECOND: "0" };
/** The time in which a fault must be visible. */
const MINUTE = 60_000;

async function start(t, env = {}) {
  const server = await startServer({ ...quick, ...env });
  t.after(() => server.stop());
  return server;
}

/** Repeats an act until the returned function is called, or the test has failed. */
function repeat(t, act) {
  let isOver = false;
  const acting = (async () => {
    while (!isOver) await act();
  })();
  // After a failure, the server has stopped before this.
  t.after(() => (isOver = true));
  acting.catch(() => {});
  return () => {
    isOver = true;
    return acting;
  };
}

const top = ({ page }, measure, subject, name) => page.locator(`[data-top="${measure} ${subject}"][data-name="${name}"]`);
const first = ({ page }, measure, column) => page.locator(`[data-most="${measure}"] td`).nth(column);

/** Reads the diagnosis as a caller with these roles. */
async function diagnosis(url, roles = ["admin"]) {
  const answer = await fetch(`${url}/api/v1/diagnosis`, { headers: { authorization: `Bearer ${token({ sub: "reader", roles })}` } });
  assert.equal(answer.status, 200);
  return answer.json();
}

test("a client that reconnects all the time is found, and its history", async (t) => {
  const server = await start(t);
  const connects = async () => {
    const socket = io(server.url, { auth: { token: tokenOf("flapper", "Flap Per") }, transports: ["websocket"], forceNew: true, reconnection: false });
    await next(socket, "connect");
    socket.disconnect();
    await sleep(400);
  };
  const stop = repeat(t, connects);
  const root = await live(t, { url: server.url });
  const { page } = root;
  await first(root, "connects", 0).getByText("flapper").waitFor({ timeout: MINUTE });
  await first(root, "connects", 1).getByText("127.0.0.1").waitFor();
  // A reload keeps the history of the servers.
  const chart = (line) => page.getByRole("img", { name: new RegExp(`^The last hour: .*${line} \\S+ now, at most (0\\.[1-9]|[1-9])`) });
  await chart("accepted").waitFor({ timeout: MINUTE });
  await page.reload();
  await chart("accepted").waitFor();
  await chart("client namespace disconnect").waitFor();
  // The values of a step are shown at the pointer, and by arrow keys.
  const figure = section(root, "Connects in the last hour");
  const slider = figure.getByRole("slider", { name: "Values of Connects a second" });
  await slider.scrollIntoViewIfNeeded();
  const { x, y, width, height } = await slider.boundingBox();
  await page.mouse.move(x + width - 1, y + height / 2);
  await figure.locator(".readout").getByText(/\d+:\d+.*: accepted [\d.]+, refused 0$/).waitFor();
  await page.mouse.move(0, 0);
  assert.equal(await figure.locator(".readout").textContent(), "");
  await slider.press("ArrowLeft");
  assert.match(await slider.getAttribute("aria-valuetext"), /: accepted [\d.]+, refused 0$/);
  // The list leads to its sockets. Between two connections, it is found as well.
  await view(root, "Activity");
  await top(root, "connects", "user", "flapper").getByRole("button").press("Enter");
  assert.equal(await page.getByLabel("Search sockets").inputValue(), "flapper");
  await page.locator('[data-seen="flapper"]').getByText("client namespace disconnect").waitFor();
  noFaults(root);
  await stop();
});

test("a client that reads too slowly is found before and after its cut", async (t) => {
  const server = await start(t, { ROOMCAST_ENGINE__SEND_BUFFER_BYTES: "16384", ROOMCAST_ENGINE__OUTBOX_BYTES: "400000" });
  const slow = io(server.url, { auth: { token: tokenOf("sloth", "Slo Th") }, transports: ["websocket"], reconnection: false });
  t.after(() => slow.disconnect());
  await next(slow, "connect");
  await must(slow, "join_conversation", LOBBY);
  slow.io.engine.transport.ws._socket.pause();
  const root = await live(t, { url: server.url });
  const { page } = root;
  const send = (event) => call(server.url, "POST", "/emit", { event, args: ["x".repeat(30_000)], users: ["sloth"] });
  const queued = async () => (await call(server.url, "GET", "/sockets?userId=sloth")).sockets[0]?.queuedBytes ?? Infinity;
  while ((await queued()) < 200_000) await send("news");
  await view(root, "Activity");
  await top(root, "queuedBytes", "user", "sloth").getByText(/KiB$/).waitFor({ timeout: MINUTE });
  await top(root, "queuedBytes", "room", `conversation:${LOBBY}`).getByText("Lobby").waitFor();
  while ((await queued()) !== Infinity) await send("news");
  await view(root, "Overview");
  const cut = page.locator('[data-incident="cut"]');
  await cut.getByText("cut off: slow client").waitFor({ timeout: MINUTE });
  await cut.getByRole("button", { name: "Sockets of 127.0.0.1" }).waitFor();
  await page.reload();
  await cut.getByRole("button", { name: "Sockets of sloth" }).press("Enter");
  await page.locator('[data-seen="sloth"]').getByText("overflow").waitFor();
  await page.getByText("No socket begins with that.").waitFor();
  noFaults(root);
});

test("a room that floods is found by its title, and leads to its sockets", async (t) => {
  const server = await start(t);
  const ann = await client(t, "ann", "Ann", server.url);
  const id = await make(ann, "The loud room", [], "hello");
  await must(ann, "join_conversation", id);
  const stop = repeat(t, async () => {
    await ask(ann, "message", { conversationId: id, content: "again" });
    await sleep(20);
  });
  const root = await live(t, { url: server.url });
  const { page } = root;
  await first(root, "events", 0).getByText("ann").waitFor({ timeout: MINUTE });
  await first(root, "events", 2).getByText("The loud room").waitFor({ timeout: MINUTE });
  await page.getByRole("button", { name: "The top ten of each" }).press("Enter");
  const row = top(root, "events", "room", `conversation:${id}`);
  assert.ok(Number(await row.locator("td").textContent()) > 0);
  await row.getByRole("button", { name: "Sockets of The loud room" }).press("Enter");
  await page.locator("[data-room-details]").getByRole("row", { name: /^Ann ann/ }).waitFor();
  noFaults(root);
  await stop();
});

test("refusals are shown with user, address and reason, also after a reload", async (t) => {
  const server = await start(t, { ROOMCAST_AUTH__ROLES__WATCHER__PERMISSIONS: "api:metrics" });
  const ann = await client(t, "ann", "Ann", server.url);
  for (let n = 0; n < 3; n += 1) assert.equal((await ask(ann, "edit_message", { messageId: LOBBY, content: "x" })).success, false);
  const stranger = open(t, io, server.url, { auth: { token: "a.b.c" }, reconnection: false });
  await next(stranger, "connect_error");
  const root = await live(t, { url: server.url });
  const { page } = root;
  const card = section(root, "Refused and cut off");
  for (let round = 0; round < 2; round += 1) {
    await card.getByRole("row", { name: /refused: request edit_message: .* Sockets of ann Sockets of 127\.0\.0\.1 \S+ 3$/ }).waitFor();
    await card.getByRole("row", { name: /refused: authentication .* – Sockets of 127\.0\.0\.1 \S+ 1$/ }).waitFor();
    await page.reload();
  }
  // Without the permission that lists sockets, no user and no address is in the answer.
  const seen = JSON.stringify(await diagnosis(server.url));
  assert.ok(seen.includes('"ann"') && seen.includes("127.0.0.1"));
  const masked = await diagnosis(server.url, ["watcher"]);
  assert.deepEqual(masked.top, []);
  assert.ok(masked.incidents.length > 1);
  assert.doesNotMatch(JSON.stringify(masked), /"ann"|127\.0\.0\.1/);
  // A user who is erased disappears.
  await call(server.url, "DELETE", "/users/ann?messages=remove");
  await until(async () => !JSON.stringify(await diagnosis(server.url)).includes('"ann"'), "ann is forgotten");
  assert.deepEqual((await call(server.url, "GET", "/diagnosis/clients?search=ann")).clients, []);
  noFaults(root);
});

test("rooms have titles and groups, and are sorted by each column", async (t) => {
  const server = await start(t);
  const people = [];
  for (const name of ["ann", "bob", "cat"]) people.push(await client(t, name, name, server.url));
  const [ann] = people;
  for (const socket of people) await must(socket, "join_conversation", LOBBY);
  for (const title of ["Alpha", "Zulu"]) await must(ann, "join_conversation", await make(ann, title, [], "hello"));
  const root = await live(t, { url: server.url });
  const { page } = root;
  await view(root, "Rooms");
  const card = section(root, "Largest rooms");
  const names = async () => (await card.locator("[data-room]:visible button").allTextContents()).join();
  await until(async () => (await names()).startsWith("Lobby,") && (await names()).length === "Lobby,Alpha,Zulu".length, "three rooms");
  const sort = (name) => card.getByRole("button", { name, exact: true }).first().press("Enter");
  await sort("Room");
  assert.equal(await names(), "Alpha,Lobby,Zulu");
  await sort("Room");
  assert.equal(await names(), "Zulu,Lobby,Alpha");
  assert.equal(await card.getByRole("columnheader", { name: "Room" }).first().getAttribute("aria-sort"), "descending");
  await sort("Sockets");
  assert.match(await names(), /^Lobby,/);
  await card.getByText("3 rooms of users and subscriptions").press("Enter");
  await card.getByRole("row", { name: /user:bob 1/ }).waitFor();
  await card.getByRole("button", { name: "Show the members of Alpha" }).press("Enter");
  await page.locator("[data-room-details]").getByText("ann", { exact: true }).first().waitFor();
  // The overview leads to the same room.
  await view(root, "Overview");
  await section(root, "Rooms").getByRole("button", { name: "Show the members of Lobby" }).press("Enter");
  await page.locator(`[data-room-details="conversation:${LOBBY}"]`).waitFor();
  noFaults(root);
});

test("a user who is not connected is found by name and by address", async (t) => {
  const server = await start(t);
  const gone = await connect(t, io, server.url, { auth: { token: tokenOf("gone-user", "Grace Gone") }, reconnection: false });
  gone.disconnect();
  const root = await live(t, { url: server.url });
  const { page } = root;
  await view(root, "Sockets");
  for (const text of ["gone-u", "grace", "127.0"]) {
    await search(root, text);
    await page.locator('[data-seen="gone-user"]').getByText("Grace Gone").waitFor();
  }
  await search(root, "unknown");
  await page.getByText("No such client disconnected or was refused.").waitFor();
  noFaults(root);
});

for (const [where, viewport] of Object.entries({ desk: DESK, phone: PHONE })) {
  for (const colorScheme of ["light", "dark"]) {
    test(`the activity is accessible and fits, at a ${where} in ${colorScheme}`, async (t) => {
      const server = await start(t);
      const ann = await client(t, "ann", "Ann", server.url);
      await must(ann, "join_conversation", await make(ann, "Plans for the week", [], "hello"));
      await ask(ann, "edit_message", { messageId: LOBBY, content: "x" });
      const root = await live(t, { url: server.url, viewport, colorScheme });
      await first(root, "events", 2).getByText("Plans for the week").waitFor();
      await checkLook(root, `diagnosis-${where}-${colorScheme}-overview`);
      await view(root, "Activity");
      await top(root, "connects", "user", "ann").getByRole("button").waitFor();
      await checkLook(root, `diagnosis-${where}-${colorScheme}-activity`);
      await view(root, "Rooms");
      await section(root, "Largest rooms").locator("summary").press("Enter");
      await checkLook(root, `diagnosis-${where}-${colorScheme}-rooms`);
      noFaults(root);
    });
  }
}
