// The events that the official client's own tests expect of their server: every event of the
// `client_suite` server.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Manager, io } from "socket.io-client";
import { startLink } from "./link.mjs";
import { ask, connect, next, open, startExample, within } from "./support.mjs";

let server;
before(async () => (server = await startExample("client_suite")));
after(() => server.stop());

/** Returns the arguments without the offset of a recoverable session. */
const nextArgs = async (socket, name) => {
  const args = await next(socket, name);
  assert.equal(typeof args.pop(), "string");
  return args;
};

for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
  describe(`over ${transports.join(" and ")}`, () => {
    const join = (t, path = "", more = {}) => connect(t, io, server.url + path, { transports, ...more });

    test("requests get their answers", async (t) => {
      const socket = await join(t);
      assert.equal(await ask(socket, "getId"), socket.id);
      assert.notEqual(socket.id, socket.io.engine.id);
      for (const value of [null, 123, "text", false, { a: [1] }]) {
        assert.deepEqual(await ask(socket, "echo", value), value);
      }
      assert.equal(new Date(await ask(socket, "getAckDate", { any: 1 })).getFullYear() > 2000, true);
      socket.emit("echo", "nobody asks");
      assert.equal(await ask(socket, "echo", 1), 1);
    });

    test("events are answered with events", async (t) => {
      const socket = await join(t);
      const answer = (name, reply, ...args) => {
        const event = nextArgs(socket, reply);
        socket.emit(name, ...args);
        return event;
      };
      assert.deepEqual(await answer("hi", "hi"), []);
      assert.deepEqual(await answer("false", "false"), [false]);
      assert.match((await answer("getDate", "takeDate"))[0], /^\d{4}-\d\d-\d\dT/);
      assert.match((await answer("getDateObj", "takeDateObj"))[0].date, /^\d{4}-\d\d-\d\dT/);
      for (const [name, reply] of [["doge", "doge"], ["getbin", "takebin"]]) {
        assert.deepEqual(await answer(name, reply), [Buffer.from("asdfasdf")]);
      }
      const texts = [];
      socket.on("takeUtf8", (text) => texts.push(text));
      socket.emit("getUtf8");
      await ask(socket, "echo", 0);
      assert.deepEqual(texts, ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"]);
    });

    test("the server's own request can be answered", async (t) => {
      const socket = await join(t);
      socket.on("ack", (answer) => answer(5, { test: true }));
      const got = nextArgs(socket, "got it");
      socket.emit("ack", () => assert.fail("this one is never answered"));
      await got;
      socket.off("ack");
      socket.on("ack", (answer) => answer(6));
      socket.once("got it", () => assert.fail("that was the wrong answer"));
      const request = next(socket, "ack");
      socket.emit("ack");
      await request;
      await ask(socket, "echo", 0);
    });

    test("binary is distinguished from text and stored for each socket", async (t) => {
      const [socket, other] = await Promise.all([join(t), join(t)]);
      const replies = [];
      socket.onAny((name) => replies.push(name));
      other.onAny((name) => assert.fail(`${name} was for another`));
      const bytes = Buffer.from([1, 2]);
      const wrong = [
        ["buffa", "text"],
        ["jsonbuff", { hello: "lol", message: "text", goodbye: "gotcha" }],
        ["jsonbuff", { hello: "lul", message: bytes, goodbye: "gotcha" }],
        ["abuff2", "too early"],
        ["blob", "text"],
        ["blob2", "second"],
        ["blob3", bytes],
      ];
      for (const args of wrong) socket.emit(...args);
      await ask(socket, "echo", 0);
      assert.deepEqual(replies, []);
      const right = [
        ["buffa", bytes],
        ["jsonbuff", { hello: "lol", message: bytes, goodbye: "gotcha" }],
        ["jsonblob", { hello: "lol", message: bytes, goodbye: "gotcha" }],
        ["abuff1", bytes],
        ["abuff2", "second"],
        ["blob", bytes],
        ["blob1", bytes],
        ["blob2", "second"],
        ["blob3", bytes],
      ];
      for (const args of right) socket.emit(...args);
      other.emit("abuff2", "second");
      await Promise.all([ask(socket, "echo", 0), ask(other, "echo", 0)]);
      const expected = ["buffack", "jsonbuff-ack", "jsonblob-ack", "abuff2-ack", "back", "blob3-ack"];
      assert.deepEqual(replies, expected);
    });

    test("the handshake is reported as it was made", async (t) => {
      const more = { query: { "&a": "&=?a", e: "f" }, auth: { a: "b" }, extraHeaders: { origin: "http://x.example" } };
      const seen = [await ask(await join(t, "", more), "getHandshake")];
      const abc = open(t, io, `${server.url}/abc`, { transports, ...more });
      seen.push((await nextArgs(abc, "handshake"))[0]);
      for (const handshake of seen) {
        assert.equal(handshake.query["&a"], "&=?a");
        assert.equal(handshake.query.e, "f");
        assert.equal(handshake.query.a, undefined);
        assert.equal(handshake.query.EIO, "4");
        assert.deepEqual(handshake.auth, { a: "b" });
        assert.equal(handshake.xdomain, true);
        assert.equal(handshake.secure, false);
        assert.equal(handshake.headers.origin, "http://x.example");
        assert.equal(handshake.address, "127.0.0.1");
        assert.ok(handshake.issued > 1_600_000_000_000);
        assert.equal(typeof handshake.time, "string");
        assert.match(handshake.url, /^\/socket\.io\/\?/);
      }
      assert.deepEqual((await ask(await join(t), "getHandshake")).auth, {});
    });

    test("a refused client gets the reason, and no other client is delayed", async (t) => {
      const refusal = async (path, more = {}) => {
        const [error] = await next(open(t, io, server.url + path, { transports, ...more }), "connect_error");
        return error.message;
      };
      assert.equal(await refusal("/no"), "Auth failed (custom namespace)");
      assert.equal(await refusal("/", { query: { fail: "1" } }), "Auth failed (main namespace)");
      for (const path of ["/bar", "/invalid", "/timeout"]) assert.equal(await refusal(path), "Invalid namespace");
      for (const path of ["/foo", "/timeout_socket", "/valid", "/asd", "/abc"]) {
        assert.ok((await join(t, path, { query: { fail: "1" } })).connected);
      }
      await join(t, "/", { query: { fail: "" } });
      const foo = await join(t, "/foo");
      assert.equal(await ask(foo, "getId"), foo.id);
    });

    test("a disconnected client resumes its socket if it received anything", async (t) => {
      const more = { reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 20 };
      const [silent, informed] = await Promise.all([join(t, "", more), join(t, "", more)]);
      const ids = [silent.id, informed.id];
      const event = nextArgs(informed, "hi");
      informed.emit("hi");
      await event;
      const back = [silent, informed].map((socket) => next(socket, "connect"));
      silent.io.engine.close();
      informed.io.engine.close();
      await Promise.all(back);
      assert.deepEqual([silent.recovered, informed.recovered], [false, true]);
      assert.notEqual(silent.id, ids[0]);
      assert.equal(informed.id, ids[1]);
    });

    test("packets pass once each way, and unacknowledged ones are sent again", async (t) => {
      const socket = open(t, io, server.url, { transports, retries: 3, ackTimeout: 10_000 });
      const [sent, received] = [[], []];
      socket.io.engine.on("packetCreate", ({ type, data }) => type === "message" && sent.push(data));
      socket.io.engine.on("packet", ({ type, data }) => type === "message" && received.push(data));
      const answered = new Promise((done) => socket.once("connect", () => socket.emit("echo", null, done)));
      assert.equal(await within(answered, "the answer"), null);
      assert.equal(received.length, 2);
      assert.deepEqual(sent, ["0", '20["echo",null]']);
      assert.equal(received[1], "30[null]");
      const again = await join(t, "", { retries: 2 });
      let count = 0;
      again.on("ack", () => count++);
      const failed = new Promise((done) => again.timeout(50).emit("ack", done));
      assert.match((await within(failed, "the failure")).message, /timed out/);
      const echoed = new Promise((done) => again.timeout(20_000).emit("echo", 0, (error) => done(error)));
      assert.equal(await within(echoed, "echo"), null);
      assert.equal(count, 3);
    });

    test("namespaces open and close, and the connection ends with the last one", async (t) => {
      const manager = new Manager(server.url, { transports, reconnection: false });
      t.after(() => manager._close());
      const [main, foo] = [manager.socket("/"), manager.socket("/foo")];
      await Promise.all([next(main, "connect"), next(foo, "connect")]);
      foo.disconnect();
      assert.equal(await ask(main, "echo", "still here"), "still here");
      foo.connect();
      await next(foo, "connect");
      main.disconnect();
      const closed = next(manager, "close");
      foo.disconnect();
      await closed;
      main.disconnect().connect();
      await next(main, "connect");
      assert.equal(await ask(main, "echo", "back"), "back");
    });
  });
}

test("no session opens without a delay", async (t) => {
  // A session opens within the millisecond that Node waits for, unless the network is slow.
  const link = await startLink(server.url);
  t.after(() => link.close());
  link.slow(100);
  for (const transport of ["polling", "websocket"]) {
    const hasty = open(t, io, link.url, { transports: [transport], timeout: 0 });
    const [error] = await next(hasty, "connect_error");
    assert.equal(error.message, "timeout");
  }
});
