// Everything an application can observe, change or refuse, as official clients notice it.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, clients, connect, next, open, startExample, until } from "./support.mjs";
import { DEADLINE } from "./processes.mjs";

let server;
before(async () => (server = await startExample("hooks")));
after(() => server.stop());

const options = { path: "/live/" };

/** Returns the journal entries of one kind that `of` selects, when there are this many. */
async function journal(socket, kind, of, atLeast = 1) {
  const end = Date.now() + DEADLINE;
  while (Date.now() < end) {
    const entries = (await ask(socket, "journal", kind)).filter(of);
    if (entries.length >= atLeast) return entries;
  }
  throw new Error(`waited in vain for ${atLeast} entries of ${kind}`);
}

/** Numbers for names of rooms and events that no other test uses. */
let count = 0;
const fresh = (what) => `${what}-${process.pid}-${++count}`;

for (const [client, io] of clients) {
  describe(client, () => {
    const join = (t, more = {}) => connect(t, io, server.url, { ...options, ...more });

    describe("packet middleware", () => {
      for (const transport of ["polling", "websocket"]) {
        test(`stop one event, change another and keep the order over ${transport}`, async (t) => {
          const socket = await join(t, { transports: [transport] });
          let answers = 0;
          socket.emit("forbidden", () => answers++);
          const order = [];
          const ordered = ["slow", "echo", "old name"].map((name, i) =>
            ask(socket, name, i).then((answer) => order.push(answer)),
          );
          await Promise.all(ordered);
          assert.deepEqual(order, [0, 1, 2]);
          assert.equal(answers, 0);
        });
      }

      test("report a stopped event only to the server", async (t) => {
        const socket = await join(t);
        socket.emit("forbidden", 1);
        const failures = await journal(socket, "failure", ([id]) => id === socket.id);
        assert.deepEqual(failures, [[socket.id, "forbidden"]]);
        assert.ok(socket.connected);
      });
    });

    test("watchers see incoming and outgoing events, prepended ones first", async (t) => {
      const socket = await join(t);
      await ask(socket, "watch");
      const binary = Buffer.from([1, 2, 3]);
      assert.deepEqual(await ask(socket, "echo", "text", 1, { deep: [null] }), ["text", 1, { deep: [null] }]);
      const seen = await journal(socket, "any", ([id, ...what]) => id === socket.id && what.includes("echo"), 2);
      assert.deepEqual(seen, [
        [socket.id, "before", "echo"],
        [socket.id, "echo", ["text", 1, { deep: [null] }]],
      ]);
      const room = fresh("watched");
      await ask(socket, "join", [room]);
      const other = await join(t);
      const scattered = next(socket, "scattered");
      other.emit("scatter", [room], [], "to a room", binary);
      assert.deepEqual(await scattered, ["to a room", binary]);
      const sent = await journal(socket, "any outgoing", ([id]) => id === socket.id);
      assert.equal(sent.length, 1, "acknowledgements are no events");
      assert.deepEqual(sent[0].slice(1, 2), ["scattered"]);
      assert.equal(sent[0][2][0], "to a room");
    });

    test("a listener of one socket is called once, and not after its removal", async (t) => {
      const [socket, other] = await Promise.all([join(t), join(t)]);
      await ask(socket, "listen-once");
      let more = 0;
      const answer = ask(socket, "named", "Ada");
      socket.emit("named", "Bob", () => more++);
      socket.emit("gone", () => more++);
      other.emit("named", "Eve", () => more++);
      assert.equal(await answer, "hello Ada");
      await ask(other, "echo", 0);
      await ask(socket, "echo", 0);
      assert.equal(more, 0);
    });

    for (const [how, leave, reason] of [
      ["leaves", (socket) => socket.disconnect(), "client namespace disconnect"],
      ["loses its transport", (socket) => socket.io.engine.close(), "transport close"],
      ["is sent away", (socket) => socket.emit("expel", socket.id, true), "server namespace disconnect"],
    ]) {
      test(`a socket that ${how} is in its rooms until it has disconnected`, async (t) => {
        const [leaving, staying] = await Promise.all([join(t), join(t)]);
        const [both, mine] = [fresh("both"), fresh("mine")];
        await ask(leaving, "join", [both, mine]);
        await ask(staying, "join", [both]);
        const left = next(staying, "left");
        const { id } = leaving;
        leave(leaving);
        const [who, rooms] = await left;
        assert.equal(who, id);
        assert.deepEqual(rooms.sort(), [both, mine].sort());
        const ended = await journal(staying, "lifecycle", (entry) => entry[0] === "disconnected" && entry[1] === id);
        assert.deepEqual(ended, [["disconnected", id, reason]]);
        assert.deepEqual(await ask(staying, "fetch", mine), []);
      });
    }

    test("rooms report their creation, joins, leaves and deletion", async (t) => {
      const [one, two] = await Promise.all([join(t), join(t)]);
      const room = fresh("told");
      await ask(one, "join", [room]);
      await ask(two, "join", [room]);
      await ask(one, "dismiss", room, room);
      const recorded = await journal(one, "lifecycle", (entry) => entry[1] === room, 6);
      assert.deepEqual(recorded.slice(0, 3), [
        ["create-room", room],
        ["join-room", room, one.id],
        ["join-room", room, two.id],
      ]);
      assert.deepEqual(recorded.slice(3, 5).map(([what]) => what), ["leave-room", "leave-room"]);
      assert.deepEqual(recorded[5], ["delete-room", room]);
    });

    test("on-demand namespaces admit permitted clients and end with the last one", async (t) => {
      const main = await join(t);
      const name = `/${fresh("tenant")}`;
      const refused = open(t, io, server.url + name, { ...options, auth: { tenant: "/another" } });
      const [error] = await next(refused, "connect_error");
      assert.equal(error.message, "Invalid namespace");
      const auth = { tenant: name };
      const [one, two] = await Promise.all([1, 2].map(() => connect(t, io, server.url + name, { ...options, auth })));
      assert.ok((await ask(main, "namespaces")).includes(name));
      const received = next(one, "scattered");
      two.emit("scatter", [], [], "within");
      assert.deepEqual(await received, ["within"]);
      one.disconnect();
      assert.deepEqual(await ask(two, "echo", "still there"), "still there");
      two.disconnect();
      const recorded = await journal(main, "lifecycle", (entry) => entry[1] === name, 2);
      assert.deepEqual(recorded, [["created", name], ["removed", name]]);
      assert.ok(!(await ask(main, "namespaces")).includes(name));
      const again = await connect(t, io, server.url + name, { ...options, auth });
      assert.deepEqual(await ask(again, "echo", 1), 1);
    });

    test("a refusal by middleware has its code and its data", async (t) => {
      const refused = open(t, io, `${server.url}/strict`, options);
      const [error] = await next(refused, "connect_error");
      assert.equal(error.message, "not in the beta");
      assert.deepEqual(error.data, { code: "NO_BETA", retry: 5 });
      const welcome = open(t, io, `${server.url}/strict`, { ...options, query: { beta: "1" } });
      await next(welcome, "connect");
    });

    test("several rooms are reached once, and exceptions count", async (t) => {
      const sockets = await Promise.all([1, 2, 3, 4, 5].map(() => join(t)));
      const [sender, a, both, muted, outside] = sockets;
      const [first, second, quiet, silent] = ["first", "second", "quiet", "silent"].map(fresh);
      await ask(sender, "join", [first, second]);
      await ask(a, "join", [first]);
      await ask(both, "join", [first, second]);
      await ask(muted, "join", [second, quiet]);
      await ask(outside, "join", [silent]);
      const received = sockets.map((socket) => {
        const list = [];
        socket.on("scattered", (text) => list.push(text));
        return list;
      });
      sender.emit("scatter", [first, second], [quiet, silent], "rooms");
      sender.emit("scatter", [], [first, silent], "all but");
      sender.emit("scatter", [first], [first], "nobody");
      for (const socket of [...sockets, ...sockets]) await ask(socket, "echo", 0);
      assert.deepEqual(received, [[], ["rooms"], ["rooms"], ["all but"], []]);
    });

    test("flags combine in any order", async (t) => {
      const [sender, one] = await Promise.all([join(t), join(t)]);
      const room = fresh("flags");
      await Promise.all([sender, one].map((socket) => ask(socket, "join", [room])));
      const received = [[], []];
      sender.on("flags", (...args) => received[0].push(args));
      one.on("flags", (...args) => received[1].push(args));
      const args = ["text", Buffer.from("bytes")];
      let emitted = 0;
      // The volatile event is lost if another is still in flight, which clients cannot know.
      await until(async () => {
        sender.emit("flags", room, ...args);
        emitted += 1;
        for (const socket of [sender, one, sender, one]) await ask(socket, "echo", 0);
        return received[0].length > 0 && received[1].length > emitted;
      }, "what may be lost");
      for (const got of received.flat()) assert.deepEqual(got, args);
      assert.ok(received[0].length <= emitted && received[1].length <= 2 * emitted, `${emitted}: ${received.map(({ length }) => length)}`);
    });

    test("sockets are found, moved and disconnected by the server", async (t) => {
      const [boss, one, two] = await Promise.all([
        join(t),
        join(t, { auth: { name: "one" }, query: { kind: "x" } }),
        join(t, { transports: ["polling"] }),
      ]);
      const [room, other] = [fresh("room"), fresh("other")];
      await ask(one, "join", [room]);
      await ask(two, "join", [room]);
      await ask(boss, "enroll", room, other);
      const found = await ask(boss, "fetch", other);
      assert.deepEqual(found.map(({ id }) => id).sort(), [one.id, two.id].sort());
      const { rooms, data, query } = found.find(({ id }) => id === one.id);
      assert.deepEqual([rooms.sort(), data, query], [[other, room].sort(), { name: "one" }, "x"]);
      await ask(boss, "dismiss", room, room);
      assert.deepEqual(await ask(boss, "fetch", room), []);
      const away = [one, two].map((socket) => next(socket, "disconnect"));
      await ask(boss, "expel", other, false);
      assert.deepEqual(await Promise.all(away).then((all) => all.map(([reason]) => reason)), [
        "io server disconnect",
        "io server disconnect",
      ]);
      assert.deepEqual(await ask(boss, "fetch", other), []);
      assert.ok(boss.connected);
    });

    test("closing the connection of a socket ends its other namespaces", async (t) => {
      const auth = { tenant: `/${fresh("tenant")}` };
      const main = await join(t);
      const second = main.io.socket(auth.tenant, { auth });
      await next(second, "connect");
      const ended = [main, second].map((socket) => next(socket, "disconnect"));
      const boss = await join(t);
      await ask(boss, "expel", main.id, true);
      await Promise.all(ended);
    });

    test("events of the connection below the sockets are reported", async (t) => {
      const socket = await join(t, { upgrade: false, transports: ["polling", "websocket"] });
      await ask(socket, "watch-connection");
      assert.deepEqual(await ask(socket, "echo", "seen"), "seen");
      const of = (kind, text = "") => ([id, [what, data]]) =>
        id === socket.id && what === kind && (data ?? "").includes(text);
      const [[, [, packet]]] = await journal(socket, "conn", of("packet", "seen"));
      assert.match(packet, /^2\d+\["echo","seen"\]$/);
      const [[, [, answer]]] = await journal(socket, "conn", of("packetCreate", "seen"));
      assert.match(answer, /^43\d+\["seen"\]$/);
      await journal(socket, "conn", of("drain"));
      await journal(socket, "conn", of("heartbeat"));
      const { id } = socket;
      socket.disconnect();
      const other = await join(t);
      await journal(other, "conn", ([who, [what]]) => who === id && what === "close");
    });

    test("an upgrade is reported", async (t) => {
      // Watched from the connection on, which is before the end of its upgrade.
      const socket = await join(t, { query: { kind: "watched" } });
      const recorded = await journal(socket, "conn", ([id, [what]]) => id === socket.id && what === "upgrade");
      assert.deepEqual(recorded, [[socket.id, ["upgrade", "websocket"]]]);
      assert.equal(socket.io.engine.transport.name, "websocket");
    });

    test("session ids come from the application and differ from socket ids", async (t) => {
      const socket = await join(t, { query: { kind: "mine" } });
      assert.match(socket.io.engine.id, /^mine_{6}\d{10}$/);
      assert.notEqual(socket.id, socket.io.engine.id);
      assert.ok((await ask(socket, "clients")) >= 1);
    });

    test("the path needs no trailing slash", async (t) => {
      const bare = await connect(t, io, server.url, { path: "/live", addTrailingSlash: false });
      assert.equal(await ask(bare, "echo", "bare"), "bare");
      const slash = await connect(t, io, server.url, { path: "/live" });
      assert.equal(await ask(slash, "echo", "slash"), "slash");
    });

    test("a client that enters no namespace is closed in time", async (t) => {
      const { io: manager } = io(server.url, { ...options, forceNew: true, autoConnect: false, reconnection: false });
      t.after(() => manager.engine?.close());
      manager.open();
      const [reason] = await next(manager, "close");
      assert.match(reason, /^transport (close|error)$/);
    });

    for (const transport of ["polling", "websocket"]) {
      test(`a refused request is reported with its code and context over ${transport}`, async (t) => {
        const who = fresh("who");
        const query = { unwanted: "because I say so", who };
        const refused = open(t, io, server.url, { ...options, transports: [transport], query });
        const [error] = await next(refused, "connect_error");
        assert.equal(error.type, "TransportError");
        const watcher = await join(t);
        const recorded = await journal(watcher, "connection_error", (entry) => entry[0] === who);
        const context = { name: "FORBIDDEN", message: "because I say so" };
        assert.deepEqual(recorded, [[who, 4, "Forbidden", context]]);
      });
    }
  });
}

const [[, io]] = clients;

test("headers are added to the first response and to all responses", async () => {
  const url = `${server.url}/live/?EIO=4&transport=polling`;
  const first = await fetch(url);
  assert.equal(first.headers.get("x-first"), "yes");
  assert.equal(first.headers.get("x-every"), "yes");
  const { sid } = JSON.parse((await first.text()).slice(1));
  assert.match(first.headers.get("set-cookie"), new RegExp(`^io=${sid}; Path=/; HttpOnly; SameSite=Lax$`));
  const entering = await fetch(`${url}&sid=${sid}`, { method: "POST", body: "40" });
  assert.equal(entering.headers.get("x-first"), null);
  assert.equal(entering.headers.get("x-every"), "yes");
  await fetch(`${url}&sid=${sid}`, { method: "POST", body: "1" });
});

test("a client that keeps cookies returns the session cookie", async (t) => {
  const socket = await connect(t, io, server.url, { ...options, withCredentials: true });
  const sid = socket.io.engine.id;
  const cookies = await journal(socket, "cookie", ([of]) => of === sid);
  assert.deepEqual(cookies[0], [sid, `io=${sid}`]);
});

test("invalid requests are reported with their fault", async (t) => {
  const socket = await connect(t, io, server.url, options);
  const cases = [
    ["?transport=polling", 5, { name: "UNSUPPORTED_PROTOCOL_VERSION", protocol: "" }],
    ["?EIO=4&transport=pigeon", 0, { name: "UNKNOWN_TRANSPORT", transport: "pigeon" }],
    ["?EIO=4&transport=polling&sid=nobody", 1, { name: "UNKNOWN_SID", sid: "nobody" }],
    ["?EIO=4&transport=websocket", 3, { name: "TRANSPORT_HANDSHAKE_ERROR" }],
  ];
  for (const [query, code, context] of cases) {
    const who = fresh("who");
    const answer = await fetch(`${server.url}/live/${query}&who=${who}`);
    assert.equal(answer.status, 400);
    const body = await answer.json();
    assert.equal(body.code, code);
    const recorded = await journal(socket, "connection_error", (entry) => entry[0] === who);
    assert.deepEqual(recorded, [[who, code, body.message, context]]);
  }
});
