// Channels of the client package in real Chromium tabs: reloaded, of two users in one profile, and
// with one connection for several tabs.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startServer, until } from "../support.mjs";
import { SECRET, token } from "../tokens.mjs";
import { launch } from "../visitor.mjs";
import { ORDER, numbers, publish, withOrders } from "./orders.mjs";
import { Tab, startSite } from "./tab.mjs";

let browser;
let site;
before(async () => {
  site = await startSite();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  site?.close();
});

/** Starts a server of its own, and a browser profile whose tabs follow a channel. */
async function profile(t) {
  const server = await startServer(withOrders({ ALLOWED_ORIGINS: site.url, ROOMCAST_AUTH__JWT__SECRET: SECRET }));
  t.after(() => server.stop());
  const context = await browser.newContext();
  t.after(() => context.close());
  const auth = (user) => ({ token: token({ sub: user, roles: ["user"] }) });
  return {
    url: server.url,
    open: (options) => Tab.open(context, site.url, server.url, auth("7"), options),
    visit: (tab, user = "7", options = {}) => tab.visit(site.url, server.url, auth(user), options),
  };
}

/** Follows the channel in a tab, and records what the listeners receive. */
async function follow(tab, options = {}) {
  await tab.page.evaluate(
    ([name, options]) => {
      const [followed, got] = [channel(manager, name, options), []];
      followed.on("order:updated", ({ n }) => got.push(n));
      followed.watch("reset", (newest) => got.push(`reset ${newest.length}`));
      Object.assign(window, { followed, got });
    },
    [ORDER, options],
  );
}

/** Waits until a tab has received as many as are expected, and compares them. */
async function has(tab, expected) {
  await tab.is(`followed.isFollowing && got.length >= ${expected.length}`);
  assert.deepEqual(await tab.page.evaluate(() => got), expected);
}

const isLeader = (tab) => tab.page.evaluate(() => manager.isLeader && manager.isReady);

describe("channels in Chromium", { concurrency: true }, () => {
  test("a reloaded page continues, and another user starts with a reset", async (t) => {
    const { url, open, visit } = await profile(t);
    const tab = await open();
    await follow(tab);
    await publish(url, [1, 2]);
    await tab.is(`got.at(-1) === 2 && localStorage.length > 0`);
    await tab.page.reload();
    await publish(url, [3]);
    await visit(tab);
    await follow(tab);
    await publish(url, [4]);
    await has(tab, [3, 4]);
    await visit(tab, "8");
    await follow(tab, { token: token({ sub: "8", channel: { follow: ORDER } }) });
    await has(tab, ["reset 4", 1, 2, 3, 4]);
    await visit(tab);
    await follow(tab, { storage: false });
    await has(tab, ["reset 4", 1, 2, 3, 4]);
  });

  test("tabs on one connection miss nothing while one of them reads pages", async (t) => {
    const { url, open } = await profile(t);
    const first = await open({ share: "orders" });
    await follow(first);
    await has(first, ["reset 0"]);
    const [start] = await publish(url, [1]);
    await publish(url, numbers(2, 500));
    await has(first, ["reset 0", ...numbers(1, 500)]);
    const second = await open({ share: "orders" });
    await second.is("manager.isReady");
    await second.page.evaluate(([name, start]) => localStorage.setItem(`roomcast:channel:${name}`, JSON.stringify(["7", start])), [ORDER, start]);
    await follow(second);
    for (let n = 501; n <= 530; n += 1) await publish(url, [n]);
    await has(first, ["reset 0", ...numbers(1, 530)]);
    await has(second, numbers(2, 530));
    // Without the leader, the other tab continues on a connection of its own.
    await until(async () => (await isLeader(first)) !== (await isLeader(second)), "one leader");
    const [leader, follower] = (await isLeader(first)) ? [first, second] : [second, first];
    await leader.page.close();
    await publish(url, numbers(531, 540));
    await follower.is("got.at(-1) === 540 && followed.isFollowing");
    const got = await follower.page.evaluate(() => got);
    assert.deepEqual(got.slice(-540).filter((one) => typeof one === "number").slice(-500), numbers(41, 540));
  });
});
