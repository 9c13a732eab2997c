// A stock client whose process is suspended, among others that continue.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";
import { launch } from "./processes.mjs";
import { ask, connect, startExample, until } from "./support.mjs";

const program = join(dirname(fileURLToPath(import.meta.url)), "frozen.mjs");

describe("a client that does not read", () => {
  let server;
  before(async () => {
    const config = { outbox_bytes: 300_000, ping_interval: "60s" };
    server = await startExample("hostile", { CONFIG: JSON.stringify(config) });
  });
  after(() => server.stop());

  /** Returns the value of a metric. */
  async function counted(socket, name) {
    const line = (await ask(socket, "metrics")).split("\n").find((line) => line.startsWith(`${name} `));
    return Number(line.slice(name.length));
  }

  test("is disconnected at its budget without a gap or effect on other clients", async (t) => {
    const frozen = launch(process.execPath, [program, server.url, "room"]);
    t.after(() => frozen.kill());
    assert.equal(await frozen.line(), "joined");

    const neighbour = await connect(t, io, server.url, { transports: ["websocket"] });
    await ask(neighbour, "join", "room");
    const items = [];
    neighbour.on("item", (n) => items.push(n));
    await frozen.pause();

    const cut = 'roomcast_slow_clients_disconnected_total{budget="connection"}';
    let sent = 0;
    while ((await counted(neighbour, cut)) === 0) {
      assert.ok(sent < 5000, "nobody is cut");
      // The answer follows the events, so the neighbour has them all.
      await ask(neighbour, "publish", "room", sent, 10, 10_000);
      sent += 10;
    }
    assert.deepEqual(items, [...Array(sent).keys()]);
    assert.equal(await counted(neighbour, 'roomcast_sessions_closed_total{reason="overflow"}'), 1);
    // Only the rest of a partly sent event is left of the pending data.
    assert.ok((await counted(neighbour, "roomcast_outbox_bytes")) < 20_000);

    frozen.resume();
    const { reason, got, faults } = JSON.parse(await frozen.line());
    assert.equal(reason, "transport close");
    assert.equal(faults, 0);
    assert.ok(got < sent, `${got} of ${sent}`);
    assert.ok(neighbour.connected);
  });
});

test("the budget of the contract server is the one that its environment sets", async (t) => {
  const server = await startExample("interop", { OUTBOX_BYTES: `${2 ** 20}`, PER_MESSAGE_DEFLATE: "0", PING_TIMEOUT_MS: "60000" });
  t.after(() => server.stop());
  const frozen = launch(process.execPath, [program, server.url, "room"]);
  t.after(() => frozen.kill());
  assert.equal(await frozen.line(), "joined");
  await frozen.pause();
  const sender = await connect(t, io, server.url, { transports: ["websocket"] });
  // The kernel buffers events in addition to the budget. With the default budget, the server queues
  // every event.
  const count = 100;
  for (let n = 0; n < count; n += 1) {
    sender.emit("in", "room", "item", n, "x".repeat(400_000));
    await ask(sender, "echo", n);
  }
  frozen.resume();
  const { reason, got, faults } = JSON.parse(await frozen.line());
  assert.equal(reason, "transport close");
  assert.equal(faults, 0);
  assert.ok(got < count / 2, `${got} of ${count}`);
});

test("no thread of a suspended process runs when pause returns", async (t) => {
  const program = `const { Worker } = require("node:worker_threads");
    const started = Array.from({ length: 4 }, () => new Promise((done) => new Worker("for (;;);", { eval: true }).once("online", done)));
    Promise.all(started).then(() => console.log("busy"));`;
  const busy = launch(process.execPath, ["--eval", program]);
  t.after(() => busy.kill());
  assert.equal(await busy.line(), "busy");
  const folder = `/proc/${busy.pid}/task`;
  const states = () => readdirSync(folder).map((thread) => /^State:\s+(\w)/m.exec(readFileSync(`${folder}/${thread}/status`, "utf8"))[1]);
  for (let times = 0; times < 20; times += 1) {
    await busy.pause();
    assert.deepEqual(states().filter((state) => state !== "T"), []);
    busy.resume();
    await until(() => states().includes("R"), "its threads to run again");
  }
});
