// The dashboard of admins in real Chromium lists the channels of an application, and shows the
// followers and live events of each.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { NARROW, call, live, noFaults, section, view, watch } from "./desk.mjs";
import { DESK, checkLook, client, keyed, must } from "./page_support.mjs";
import { metricIs, startServer, temporary, until } from "./support.mjs";
import { token } from "./tokens.mjs";

const KINDS = `
[channels.orders]
pattern = "orders:{customer}:{order}"
follow = ["users"]

[channels.games]
pattern = "games:{n}"
follow = ["users"]
history = "none"

[auth.roles.desk]
permissions = ["admin", "api:metrics"]
`;
const ORDER = "orders:7:42";
const BUSY = "orders:7:43";
const GAME = "games:1";

async function start(t) {
  const config = join(temporary(), "roomcast.toml");
  writeFileSync(config, KINDS);
  const server = await startServer({ ...keyed, ROOMCAST_LIMITS__API_CALLS_PER_SECOND: "0", ROOMCAST_CONFIG: config });
  t.after(() => server.stop());
  return server.url;
}

const publish = (url, channel, id, data) => call(url, "POST", `/channels/${channel}/events`, { event: "order_updated", data, id });
const names = ({ page }) => page.locator("[data-channel]").evaluateAll((rows) => rows.map((row) => row.dataset.channel));

/** Sorts the list by a column, by keyboard, and waits for this order. */
async function sort(root, column, expected) {
  await section(root, "Channels").getByRole("button", { name: new RegExp(`^${column}`) }).press("Enter");
  let shown;
  await until(async () => String((shown = await names(root))) === String(expected), () => `${column}: ${shown}`);
}

for (const [where, viewport] of Object.entries({ desk: DESK, narrow: NARROW })) {
  for (const colorScheme of ["light", "dark"]) {
    test(`channels, their followers and live events are shown, at ${where} in ${colorScheme}`, async (t) => {
      const url = await start(t);
      for (const [sub, followed] of [["ann", [ORDER, GAME]], ["bob", [ORDER]]]) {
        const socket = await client(t, sub, sub.toUpperCase(), url);
        for (const channel of followed) await must(socket, "channel:subscribe", { channel });
      }
      await publish(url, ORDER, "1", { note: "x".repeat(5_000) });
      for (const id of ["1", "2", "3"]) await publish(url, GAME, id, { id });
      for (const id of ["1", "2"]) await publish(url, BUSY, id, { id });
      const root = await live(t, { url, viewport, colorScheme });
      const { page } = root;
      await view(root, "Channels");
      const list = section(root, "Channels");
      await until(async () => String(await names(root)) === String([ORDER, GAME, BUSY]), "the channels by followers");
      assert.match(await page.locator(`[data-channel="${ORDER}"]`).innerText(), /^orders:7:42\s+orders\s+2\s+\S+\s+4\.9 KiB\s+1$/);
      await checkLook(root, `channels-${where}-${colorScheme}-list`);
      await sort(root, "Events/s", [GAME, BUSY, ORDER]);
      await sort(root, "History", [ORDER, BUSY, GAME]);
      await sort(root, "Followers", [ORDER, GAME, BUSY]);
      await list.getByRole("button", { name: `Show the followers of ${ORDER}` }).press("Enter");
      const card = page.locator(`[data-channel-details="${ORDER}"]`);
      for (const name of ["ANN", "BOB"]) await card.locator("[data-socket]").getByText(name, { exact: true }).waitFor();
      await card.getByRole("button", { name: "Watch events" }).press("Enter");
      await metricIs(url, "roomcast_tracers", (count) => count === 1);
      await publish(url, BUSY, "3", { id: "not shown" });
      await publish(url, ORDER, "2", { status: "shipped", apiToken: "hidden" });
      await card.getByText(/^event order_updated, data \{"apiToken":"\*\*\*","status":"shipped"\}, /).waitFor();
      assert.equal(await card.getByText("not shown").count(), 0);
      await checkLook(root, `channels-${where}-${colorScheme}-events`);
      await card.getByRole("button", { name: "Stop watching" }).press("Enter");
      await metricIs(url, "roomcast_tracers", (count) => count === 0);
      // The focus returns to the button that opened the channel.
      await card.getByRole("button", { name: "Back to the list" }).press("Enter");
      const focused = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
      assert.equal(focused, `Show the followers of ${ORDER}`);
      noFaults(root);
    });
  }
}

test("an admin without the permission sees no channel", async (t) => {
  const url = await start(t);
  await publish(url, ORDER, "1", {});
  const root = await watch(t, token({ sub: "desk", roles: ["desk"] }), { url });
  await view(root, "Channels");
  await section(root, "Channels").getByText("Your role does not permit this (channels:read).").waitFor();
  assert.deepEqual(await names(root), []);
  assert.doesNotMatch(await root.page.content(), /orders:7/);
});

test("an empty list says so, and is refreshed", async (t) => {
  const url = await start(t);
  const root = await live(t, { url });
  await view(root, "Channels");
  const list = section(root, "Channels");
  await list.getByText("No channel has followers, or events in the last minute.").waitFor();
  await publish(url, GAME, "1", {});
  await list.getByRole("button", { name: "Refresh channels" }).press("Enter");
  await root.page.locator(`[data-channel="${GAME}"]`).waitFor();
  noFaults(root);
});
