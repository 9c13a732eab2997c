import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { SharedLine } from "../src/line/shared.ts";
import type { SocketLine } from "../src/line/socket.ts";

const CHECK_INTERVAL = 2_000;

/** Channels of the same name receive each other's messages immediately. */
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

/** A tab and a leader that the test plays. */
function follow(t: TestContext) {
  t.mock.timers.enable({ apis: ["setInterval"] });
  let time = 0;
  t.mock.method(performance, "now", () => time);
  let taken = 0;
  const request = (name: string, ...rest: unknown[]): Promise<unknown> => {
    const { steal = false } = (rest.length > 1 ? rest[0] : {}) as LockOptions;
    // The leader holds its lock; the locks of tabs are free.
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
    /** The leader announces its state. */
    say: () => leader.postMessage({ kind: "state", from: "leader", status: { state: "online", transport: "websocket" }, session: undefined, isReady: true }),
    /** The time passes and the timer fires once, as in a tab that was frozen. */
    pass: (milliseconds: number) => {
      time += milliseconds;
      t.mock.timers.tick(CHECK_INTERVAL);
    },
  };
}

test("a tab that was frozen does not replace a healthy leader", (t) => {
  const { line, taken, say, pass } = follow(t);
  say();
  assert.equal(line.isReady, true);
  for (let times = 0; times < 5; times += 1) {
    // Messages of the leader from the meantime arrive after the timer.
    pass(3_600_000);
    say();
  }
  assert.deepEqual([taken(), line.isLeader, line.isReady], [0, false, true]);
});

test("a leader that is silent for three checks is replaced", (t) => {
  const { line, taken, say, pass } = follow(t);
  say();
  pass(CHECK_INTERVAL);
  pass(CHECK_INTERVAL);
  assert.deepEqual([taken(), line.isLeader], [0, false]);
  pass(CHECK_INTERVAL);
  assert.deepEqual([taken(), line.isLeader], [1, true]);
});
