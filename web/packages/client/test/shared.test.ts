import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { SharedLine } from "../src/line/shared.ts";
import type { SocketLine } from "../src/line/socket.ts";

const LOOK = 2_000;

/** Channels of one name hear each other at once. */
class Channel {
  static readonly all = new Set<Channel>();
  onmessage: ((event: { data: unknown }) => void) | undefined;

  constructor() {
    Channel.all.add(this);
  }

  postMessage(data: unknown): void {
    for (const other of Channel.all) if (other !== this) other.onmessage?.({ data });
  }

  close(): void {
    Channel.all.delete(this);
  }
}

/** A tab beside a leader that the test speaks for. */
function follow(t: TestContext) {
  t.mock.timers.enable({ apis: ["setInterval"] });
  let time = 0;
  t.mock.method(performance, "now", () => time);
  let taken = 0;
  const request = (name: string, ...rest: unknown[]): Promise<unknown> => {
    const { steal = false } = (rest.length > 1 ? rest[0] : {}) as LockOptions;
    // The leader has its lock; those of tabs are free.
    if (name.startsWith("roomcast:leader:") && !steal) return new Promise(() => {});
    taken += Number(steal);
    return (rest.at(-1) as (lock: object) => Promise<unknown>)({});
  };
  const globals = { navigator: { locks: { request } }, BroadcastChannel: Channel };
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    t.after(() => (before === undefined ? Reflect.deleteProperty(globalThis, name) : Object.defineProperty(globalThis, name, before)));
  }
  const own = { status: { state: "connecting" }, session: undefined, isReady: false, onAny: () => {}, watch: () => {}, open: () => {}, close: () => {} };
  const line = new SharedLine("test", () => own as unknown as SocketLine, () => {});
  line.open();
  t.after(() => line.close());
  const leader = new Channel();
  t.after(() => leader.close());
  return {
    line,
    taken: () => taken,
    /** The leader says how it is doing. */
    say: () => leader.postMessage({ kind: "state", from: "leader", status: { state: "online", transport: "websocket" }, session: undefined, isReady: true }),
    /** So much time passes, and the timer comes once, as it does after a tab stood still. */
    pass: (milliseconds: number) => {
      time += milliseconds;
      t.mock.timers.tick(LOOK);
    },
  };
}

test("a tab that stood still does not take the connection from a leader that is well", (t) => {
  const { line, taken, say, pass } = follow(t);
  say();
  assert.equal(line.isReady, true);
  for (let times = 0; times < 5; times += 1) {
    // What the leader has said meanwhile comes behind the timer.
    pass(3_600_000);
    say();
  }
  assert.deepEqual([taken(), line.isLeader, line.isReady], [0, false, true]);
});

test("a tab takes the connection from a leader that says nothing while it looks three times", (t) => {
  const { line, taken, say, pass } = follow(t);
  say();
  pass(LOOK);
  pass(LOOK);
  assert.deepEqual([taken(), line.isLeader], [0, false]);
  pass(LOOK);
  assert.deepEqual([taken(), line.isLeader], [1, true]);
});
