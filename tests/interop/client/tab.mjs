// Browser tabs with the client package, without the chat page: a site that has nothing else.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { until, within } from "../support.mjs";
import { LOBBY, assertFollow } from "./chatter.mjs";

const require = createRequire(import.meta.url);
const official = join(dirname(require.resolve("socket.io-client/package.json")), "dist/socket.io.esm.min.js");
const client = join(dirname(fileURLToPath(import.meta.url)), "../../../web/packages/client/dist");

const PAGE = `<!doctype html><title>tab</title><link rel="icon" href="data:,">
<script type="importmap">{"imports":{"socket.io-client":"/official.js"}}</script>
<script type="module">
  import * as client from "/client/index.js";
  import { channel } from "/client/channels.js";
  import { shareConnection } from "/client/share.js";
  Object.assign(window, { client, channel });
  window.chat = (url, { share: name, ...options }, auth) => {
    const share = name && shareConnection(name);
    const manager = new client.SocketManager(url, { ...options, share, auth: (reason) => window.give?.(reason) ?? window.auth });
    const conversation = manager.conversation("${LOBBY}");
    const seen = { states: [], contents: [], seqs: [], entries: [] };
    const add = ({ content, seq }) => (seen.contents.push(content), seen.seqs.push(seq));
    manager.watch("status", ({ state }) => seen.states.at(-1) === state || seen.states.push(state));
    conversation.on("reset", (messages) => ((seen.contents = []), (seen.seqs = []), messages.forEach(add)));
    conversation.on("messages", (messages) => messages.forEach(add));
    Object.assign(window, { manager, conversation, seen, auth });
    manager.open();
  };
</script>`;

/** Returns the state of a tab, for diagnosing failures. */
async function diagnosis() {
  const { held, pending } = await navigator.locks.query();
  const database = await new Promise((done) => {
    const opening = indexedDB.open("roomcast");
    opening.onsuccess = () => done(opening.result);
  });
  const stored = await new Promise((done) => {
    const request = database.transaction("queue").objectStore("queue").getAll();
    request.onsuccess = () => done(request.result.map(({ owner, tab, order }) => [owner, tab, order].join(" ")));
  });
  const names = (locks) => locks.map(({ name, clientId }) => `${name} ${clientId}`);
  return { seen, entries: manager.queue.entries, log: manager.log, stored, held: names(held), pending: names(pending) };
}

/** Starts a site with the package; its port gives it its own origin. */
export async function startSite() {
  const served = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://site");
    const file = pathname === "/official.js" ? official : pathname.startsWith("/client/") && join(client, pathname.slice(8));
    response.setHeader("content-type", file ? "text/javascript" : "text/html");
    response.end(file ? readFileSync(file) : PAGE);
  });
  await new Promise((done) => served.listen(0, "127.0.0.1", done));
  return { url: `http://127.0.0.1:${served.address().port}`, close: () => served.close() };
}

export class Tab {
  /** The Engine.IO sessions of the tab, as seen in its network traffic. */
  sessions = new Set();

  constructor(page) {
    this.page = page;
    const note = (traffic) => {
      const session = new URL(traffic.url()).searchParams.get("sid");
      if (session !== null) this.sessions.add(session);
    };
    page.on("request", note);
    page.on("websocket", note);
  }

  /** Opens the site and connects. */
  static async open(context, site, url, auth, options = {}) {
    const tab = new Tab(await context.newPage());
    tab.page.on("pageerror", (error) => console.error(error));
    await tab.visit(site, url, auth, options);
    return tab;
  }

  async visit(site, url, auth, options = {}) {
    await this.page.goto(site);
    await this.page.waitForFunction(() => "chat" in window);
    await this.page.evaluate(([url, options, auth]) => chat(url, options, auth), [url, options, auth]);
  }

  say(...texts) {
    return this.page.evaluate((texts) => texts.forEach((text) => conversation.send(text)), texts);
  }

  seen() {
    return this.page.evaluate(() => seen);
  }

  /** Evaluates an expression until it is true. */
  async is(expression) {
    await until(() => this.page.evaluate(expression), expression, 60_000).catch(async (error) => {
      error.message += `\n${JSON.stringify(await this.page.evaluate(diagnosis), null, 1)}`;
      throw error;
    });
  }

  /** Suspends all scripts of the tab, and returns a function that resumes them. */
  async stop() {
    const debug = await this.page.context().newCDPSession(this.page);
    await debug.send("Debugger.enable");
    const paused = new Promise((done) => debug.once("Debugger.paused", done));
    const stopped = this.page.evaluate(() => {
      debugger;
    });
    await within(paused, "the debugger");
    return async () => {
      await debug.send("Debugger.resume");
      await stopped;
      await debug.detach();
    };
  }

  /** Returns the states of the connection without attempts, some of which may have failed. */
  async settled() {
    const states = (await this.seen()).states.filter((state) => state !== "connecting");
    return states.filter((state, n) => state !== states[n - 1]);
  }

  /**
   * Checks the states shown by a tab whose network was not cut, whatever else has happened to it.
   * The tab is online in the end, and a connection counts as lost only if another has followed. A
   * tab without its own connection has lost none.
   */
  async hasShownTheTruth({ isShared = false } = {}) {
    await this.hasState("online");
    const { states } = await this.seen();
    assertFollow(states, isShared);
    assert.equal(states.at(-1), "online");
    assert.ok(states.every((state) => ["connecting", "online", "unresponsive", "offline"].includes(state)), `${states}`);
    const lost = states.filter((state) => state === "offline").length;
    assert.ok(lost <= Math.max(0, this.sessions.size - 1), `${this.sessions.size} connections, and ${states}`);
  }

  hasState(state) {
    return this.is(`manager.status.state === ${JSON.stringify(state)}`);
  }

  entered() {
    return this.is(`conversation.stage === "entered"`);
  }

  /** Returns all texts with a prefix, when the queue is empty and there are this many. */
  async contents(count, prefix = "") {
    await this.is(`manager.queue.entries.length === 0 && seen.contents.filter((text) => text.startsWith(${JSON.stringify(prefix)})).length >= ${count}`);
    const { contents, seqs } = await this.seen();
    if (seqs.some((seq, index) => seq !== seqs[0] + index)) throw new Error(`a hole or another order: ${seqs}`);
    return contents.filter((text) => text.startsWith(prefix));
  }
}
