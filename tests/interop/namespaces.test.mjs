// Namespaces: joined, refused with data, created on demand, left; several over one connection.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, clients, connect, next, open, startExample } from "./support.mjs";

let server;
/** A server with slow middleware, so that the rest happens before it, also on a busy machine. */
let late;
before(async () => {
  [server, late] = await Promise.all([startExample("interop"), startExample("interop", { SLOW_MS: "5000" })]);
});
after(() => Promise.all([server.stop(), late.stop()]));

for (const [client, io] of clients) {
  describe(client, () => {
    test("several namespaces share a connection and have ids of their own", async (t) => {
      const main = await connect(t, io, server.url);
      const chat = main.io.socket("/chat");
      await next(chat, "connect");
      assert.notEqual(main.id, chat.id);
      assert.equal((await ask(chat, "whoami")).nsp, "/chat");
      assert.equal((await ask(chat, "whoami")).id, chat.id);
      assert.equal((await ask(main, "whoami")).nsp, "/");
    });

    test("an event in one namespace is not seen in another", async (t) => {
      const main = await connect(t, io, server.url);
      const chat = main.io.socket("/chat");
      await next(chat, "connect");
      main.on("echo", () => assert.fail("crossed over"));
      const echoed = next(chat, "echo");
      chat.emit("echo", "only here");
      assert.deepEqual(await echoed, ["only here"]);
      assert.equal(await ask(main, "echo", 1), 1);
    });

    test("the payload of CONNECT and the query are given to the server", async (t) => {
      const auth = { token: "good", list: [1, { a: null }] };
      const socket = await connect(t, io, `${server.url}/auth`, { auth, query: { "&a": "&=?a b", n: 1 } });
      const me = await ask(socket, "whoami");
      assert.deepEqual(me.auth, auth);
      assert.equal(me.query["&a"], "&=?a b");
      assert.equal(me.query.n, "1");
      assert.equal(me.query.EIO, "4");
      assert.equal(me.query.token, undefined);
    });

    test("a refusal has a message and data, and other namespaces stay connected", async (t) => {
      const main = await connect(t, io, server.url);
      const auth = open(t, main.io.socket.bind(main.io), "/auth", { auth: { token: "bad" } });
      const [error] = await next(auth, "connect_error");
      assert.equal(error.message, "not authorized");
      assert.deepEqual(error.data, { code: "E_AUTH", retry: 5 });
      assert.equal(await ask(main, "echo", 1), 1);
    });

    test("an unknown namespace is refused", async (t) => {
      const socket = open(t, io, `${server.url}/nowhere`);
      const [error] = await next(socket, "connect_error");
      assert.equal(error.message, "Invalid namespace");
    });

    test("namespaces are created on demand for matching names", async (t) => {
      const first = await connect(t, io, `${server.url}/dyn-101`);
      const second = await connect(t, io, `${server.url}/dyn-102`);
      assert.equal((await ask(first, "whoami")).nsp, "/dyn-101");
      first.on("hello", () => assert.fail("another namespace"));
      const received = next(second, "hello");
      second.emit("in", second.id, "hello");
      await received;
      const wrong = open(t, io, `${server.url}/dyn-abc`);
      assert.equal((await next(wrong, "connect_error"))[0].message, "Invalid namespace");
    });

    test("slow middleware does not delay other clients", async (t) => {
      const main = await connect(t, io, late.url);
      const slow = main.io.socket("/slow");
      let connected = false;
      slow.once("connect", () => (connected = true));
      assert.equal(await ask(main, "echo", 1), 1);
      assert.equal(connected, false);
      if (!slow.connected) await next(slow, "connect");
      assert.equal((await ask(slow, "whoami")).nsp, "/slow");
    });

    test("leaving one namespace keeps the others, and it can be entered again", async (t) => {
      const main = await connect(t, io, server.url);
      const chat = main.io.socket("/chat");
      await next(chat, "connect");
      const before = chat.id;
      chat.disconnect();
      assert.equal(await ask(main, "echo", 1), 1);
      chat.connect();
      await next(chat, "connect");
      assert.notEqual(chat.id, before);
      assert.equal(await ask(chat, "echo", 2), 2);
    });

    test("the server can end a namespace, or the whole connection", async (t) => {
      const main = await connect(t, io, server.url);
      const chat = main.io.socket("/chat");
      await next(chat, "connect");
      const left = next(chat, "disconnect");
      chat.emit("kick", false);
      assert.equal((await left)[0], "io server disconnect");
      assert.equal(await ask(main, "echo", 1), 1);
      const closed = next(main, "disconnect");
      main.emit("kick", true);
      assert.equal((await closed)[0], "io server disconnect");
    });
  });
}
