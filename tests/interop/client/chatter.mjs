// Programs that chat through the client package, and assertions about what they must have seen in
// the end.
import assert from "node:assert/strict";
import { join } from "node:path";
import { io } from "socket.io-client";
import { SocketManager } from "../../../web/packages/client/dist/index.js";
import { ask, connect, lastingPort, startServer, temporary, until, within } from "../support.mjs";
import { SECRET } from "../tokens.mjs";

export const LOBBY = "00000000-0000-4000-8000-000000000001";

/**
 * A server that can be killed and restarted at the same address, with everything that it has
 * stored.
 */
export async function lasting(t, env = {}) {
  const variables = {
    ROOMCAST_LISTEN: `127.0.0.1:${await lastingPort()}`,
    ROOMCAST_STORE: `sqlite:${join(temporary(), "chat.db")}`,
    ROOMCAST_AUTH__JWT__SECRET: SECRET,
    ROOMCAST_AUTH__GUESTS: "true",
    ...env,
  };
  let running = await startServer(variables);
  t.after(() => running.stop("SIGKILL"));
  return {
    url: running.url,
    kill: () => running.stop("SIGKILL"),
    start: async (changed = {}) => (running = await startServer({ ...variables, ...changed })),
    pause: () => running.pause(),
    resume: () => running.resume(),
  };
}

/** Creates a manager that ends with the test. */
export function manager(t, url, options = {}) {
  const made = new SocketManager(url, options);
  t.after(() => made.leave());
  return made;
}

/** Returns the states of a manager's connection in order, as they are shown. */
export function shownBy(manager) {
  const states = [];
  manager.watch("status", ({ state }) => state === states.at(-1) || states.push(state));
  return states;
}

/** The states that may follow each state; see docs/clients.md. */
const NEXT = {
  connecting: ["online", "offline", "refused", "idle"],
  online: ["unresponsive", "offline", "closed", "idle"],
  unresponsive: ["online", "offline", "closed", "idle"],
  offline: ["connecting", "online", "refused", "idle"],
  refused: ["connecting", "idle"],
  closed: ["connecting", "idle"],
  idle: ["connecting"],
};

/**
 * Checks that each state may follow the one before, beginning with the first attempt, where the
 * order of events is not determined. If a connection is shared, a tab changes to the next
 * connection with another attempt.
 */
export function assertFollow(states, isShared = false) {
  assert.equal(states[0], "connecting", `${states}`);
  for (const [index, state] of states.entries()) {
    const before = states[index - 1];
    const mayFollow = before === undefined || NEXT[before].includes(state) || (isShared && before !== "connecting" && state === "connecting");
    assert.ok(mayFollow, `${state} after ${before} in ${states}`);
  }
}

/** A user in the Lobby who records what the package reports. */
export class Chatter {
  /** The states of the connection, in order. */
  states;
  /** The number of states that were awaited. */
  #awaited = 0;
  /** The messages of the conversation, in the order of delivery. */
  messages = [];
  /** Number of resets of the conversation. */
  resets = 0;

  constructor(t, url, options) {
    this.manager = manager(t, url, options);
    this.states = shownBy(this.manager);
    this.conversation = this.manager.conversation(LOBBY);
    this.conversation.on("reset", (messages) => {
      this.resets += 1;
      this.messages = [...messages];
    });
    this.conversation.on("messages", (messages) => this.messages.push(...messages));
    this.manager.open();
  }

  get contents() {
    return this.messages.map(({ content }) => content);
  }

  say(...contents) {
    return contents.map((content) => this.conversation.send(content));
  }

  /**
   * Waits for a state after the last awaited state. It may be over by then: a client that
   * reconnects immediately is offline for a moment.
   */
  async is(state) {
    await until(() => this.states.includes(state, this.#awaited), () => `the state ${state} (${this.states})`, 90_000);
    this.#awaited = this.states.indexOf(state, this.#awaited) + 1;
  }

  /**
   * Waits until the conversation is entered. The states of the connection until then count as
   * awaited.
   */
  async entered() {
    await until(() => this.conversation.stage === "entered", () => `to enter (${this.states})`, 90_000);
    this.#awaited = Math.max(this.#awaited, this.states.indexOf("online") + 1);
    return this;
  }

  /** Waits until all of these were seen, and expects each once, in this order, without gaps. */
  async has(expected) {
    const isThere = () => this.messages.length >= expected.length && this.manager.queue.entries.length === 0;
    const missing = () => {
      const log = this.manager.log.map(({ at, what, detail }) => `${at} ${what} ${detail}`);
      return ["the messages", JSON.stringify(this.contents), JSON.stringify(this.manager.queue.entries), ...log].join("\n");
    };
    await until(isThere, missing, 90_000);
    assert.deepEqual(this.contents, expected);
    const [first] = this.messages;
    assert.deepEqual(this.messages.map(({ seq }) => seq), this.messages.map((_, index) => first.seq + index));
  }
}

/** Returns the messages of the Lobby, read by a stock client. */
export async function stored(t, url, auth = { name: "Reader" }) {
  const reader = await connect(t, io, url, { auth });
  const messages = [];
  for (let hasMore = true; hasMore; ) {
    const page = await ask(reader, "message_history", { conversationId: LOBBY, afterSeq: messages.at(-1)?.seq ?? 0, limit: 200 });
    assert.equal(page.success, true, JSON.stringify(page));
    messages.push(...page.messages);
    ({ hasMore } = page);
  }
  reader.disconnect();
  return messages.map(({ content }) => content);
}

/** Returns numbered texts. */
export const texts = (prefix, count) => Array.from({ length: count }, (_, index) => `${prefix} ${index + 1}`);

export { until, within };
