// Every event and namespace of the `interop` server, for every client, listener and transport.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import oldest from "socket.io-client-v4-0";
import parser from "socket.io-msgpack-parser";
import { ask, clients, connect, next, open, startExample, untilReceived, within } from "./support.mjs";

let server;
before(async () => (server = await startExample("interop")));
after(() => server.stop());

const listeners = [
  ["JSON", 0, {}],
  ["MessagePack", 1, { parser }],
  ["recovery", 2, {}],
];
const ways = [["polling"], ["websocket"], ["polling", "websocket"]];
const all = [...clients, ["socket.io-client 4.0", oldest.io]];
/** Slow tests, collected to run concurrently for every client, listener and transport. */
const silent = [];

for (const [listener, offset, settings] of listeners) {
  for (const transports of ways) {
    for (const [client, io] of all) {
      describe(`${client}, ${listener}, ${transports.join(" then ")}`, () => {
        const url = () => server.url.replace(/\d+$/, (port) => Number(port) + offset);
        const options = { ...settings, transports };
        const join = (t, namespace = "", more = {}) => connect(t, io, url() + namespace, { ...options, ...more });

        /** Returns the arguments of the next event, without the offset of a recoverable session. */
        const nextArgs = async (socket, name) => {
          const args = await next(socket, name);
          if (listener === "recovery") assert.equal(typeof args.pop(), "string");
          return args;
        };

        /** Returns the reason for the disconnect of a socket. */
        const reason = async (observer, id) => {
          const wait = async () => {
            for (;;) {
              const found = await ask(observer, "last-reason", id);
              if (found !== null) return found;
            }
          };
          return within(wait(), "the reason");
        };

        const bytes = Buffer.from([0, 1, 254, 255]);
        const rest = [null, true, -1.5, "aé😀", [1, [bytes]], { deep: { bytes }, list: [] }, bytes];

        test("sent values are understood and returned", async (t) => {
          const socket = await join(t);
          assert.deepEqual(await ask(socket, "echo", ...rest), rest);
          const echoed = nextArgs(socket, "echo");
          socket.emit("echo", ...rest);
          assert.deepEqual(await echoed, rest);
          const bin = { t: "bin", n: 4, sum: 510 };
          assert.deepEqual(await ask(socket, "inspect", ...rest), [
            { t: "null" },
            { t: "bool", v: true },
            { t: "num", v: -1.5 },
            { t: "str", n: 7, sum: 97 + 233 + 0x1f600 },
            { t: "arr", v: [{ t: "num", v: 1 }, { t: "arr", v: [bin] }] },
            { t: "obj", v: { deep: { t: "obj", v: { bytes: bin } }, list: { t: "arr", v: [] } } },
            bin,
          ]);
          assert.deepEqual(await ask(socket, "inspect"), []);
          assert.deepEqual(await ask(socket, "bin", 600), Buffer.from(Array.from({ length: 600 }, (_, i) => i % 256)));
          assert.equal((await ask(socket, "bin", 0)).length, 0);
          for (const name of ["plain", "packed"]) {
            const received = nextArgs(socket, "said");
            socket.emit(name, "said", ...rest);
            assert.deepEqual(await received, rest);
          }
          // A volatile event carries no offset, and is lost if it arrives between two polls.
          assert.deepEqual(await untilReceived(socket, "said", 1, "two"), [1, "two"]);
        });

        test("server requests are answered or time out", async (t) => {
          const socket = await join(t);
          socket.on("question", (...args) => args.pop()(...args));
          socket.on("silence", () => {});
          assert.deepEqual(await ask(socket, "ask", "question", ...rest), rest);
          assert.equal(await ask(socket, "ask-timeout", "question", 20_000), "answered");
          assert.equal(await ask(socket, "ask-timeout", "silence", 20), "timeout");
          socket.emit("no such event", () => assert.fail("nobody answers"));
          assert.equal(await ask(socket, "echo", 1), 1);
        });

        test("items arrive in order and complete", async (t) => {
          const socket = await join(t);
          const items = [];
          socket.on("item", (i, text) => items.push([i, text]));
          const done = nextArgs(socket, "done");
          socket.emit("stream", 300, 10);
          assert.deepEqual(await done, [300]);
          assert.deepEqual(items, Array.from({ length: 300 }, (_, i) => [i, "xxxxxxxxxx"]));
        });

        test("rooms are joined, reached, excluded, queried and left", async (t) => {
          const [one, two, three] = await Promise.all([join(t), join(t), join(t)]);
          const room = `room of ${one.id}`;
          assert.deepEqual(await ask(one, "join", room), [room]);
          assert.deepEqual(await ask(one, "join", "a"), ["a", room]);
          assert.deepEqual(await ask(one, "leave", "a"), [room]);
          await ask(two, "join", room);
          const events = [one, two, three].map((socket) => {
            const list = [];
            socket.on("said", (what) => list.push(what));
            return list;
          });
          one.emit("to", room, "said", "to");
          one.emit("in", room, "said", "in");
          one.emit("except", room, "said", one.id);
          one.emit("to", three.id, "said", "you");
          for (const socket of [one, two, three, one, two, three]) await ask(socket, "echo", 0);
          assert.deepEqual(events, [["in"], ["to", "in"], [one.id, "you"]]);
          one.on("vote", (answer) => answer(bytes, "more"));
          two.on("vote", (answer) => answer());
          const [complete, answers] = await ask(three, "bcast-ack", room, 20_000, "vote");
          assert.equal(complete, true);
          assert.equal(answers.length, 2);
          assert.ok(answers.some((answer) => answer === null));
          assert.deepEqual(answers.find((answer) => answer !== null), bytes);
          assert.deepEqual(await ask(three, "bcast-ack", "nobody", 100, "vote"), [true, []]);
        });

        silent.push(async (t) => {
          const [one, two] = await Promise.all([join(t), join(t)]);
          const room = `room of ${one.id}`;
          for (const socket of [one, two]) await ask(socket, "join", room);
          one.on("vote", (answer) => answer(bytes, "more"));
          assert.deepEqual(await ask(two, "bcast-ack", room, 10_000, "vote"), [false, [bytes]]);
        });

        test("namespaces admit the right clients and identify them", async (t) => {
          const me = async (name, more) => {
            const socket = await join(t, name, { query: { q: "&=?a", empty: "" }, ...more });
            const found = await ask(socket, "whoami");
            assert.equal(found.id, socket.id);
            assert.equal(found.query.q, "&=?a");
            assert.equal(found.query.empty, "");
            if (transports.length === 1) assert.equal(found.transport, transports[0]);
            return [found.nsp, found.auth, found.recovered, found.eio];
          };
          assert.deepEqual(await me("/"), ["/", {}, false, 4]);
          assert.deepEqual(await me("/chat", { auth: { a: [1] } }), ["/chat", { a: [1] }, false, 4]);
          assert.deepEqual(await me("/auth", { auth: { token: "good" } }), ["/auth", { token: "good" }, false, 4]);
          assert.deepEqual(await me("/slow"), ["/slow", {}, false, 4]);
          assert.deepEqual(await me("/dyn-0123456789"), ["/dyn-0123456789", {}, false, 4]);
          const refusal = async (name, auth) => {
            const [error] = await next(open(t, io, url() + name, { ...options, auth }), "connect_error");
            return [error.message, error.data];
          };
          const data = { code: "E_AUTH", retry: 5 };
          assert.deepEqual(await refusal("/auth"), ["not authorized", data]);
          assert.deepEqual(await refusal("/auth", { token: "bad" }), ["not authorized", data]);
          for (const name of ["/dyn-abc", "/dyn-", "/nowhere"]) {
            assert.equal((await refusal(name))[0], "Invalid namespace");
          }
        });

        test("every disconnect has its reason and affects no other socket", async (t) => {
          const observer = await join(t);
          const end = async (how) => {
            const socket = await join(t);
            const chat = socket.io.socket("/chat");
            await next(chat, "connect");
            const { id } = socket;
            const disconnected = next(socket, "disconnect");
            how(socket, chat);
            const [received] = await disconnected;
            return [received, await reason(observer, id), chat.connected];
          };
          assert.deepEqual(await end((socket) => socket.disconnect()), [
            "io client disconnect",
            "client namespace disconnect",
            true,
          ]);
          assert.deepEqual(await end((socket) => socket.emit("kick", false)), [
            "io server disconnect",
            "server namespace disconnect",
            true,
          ]);
          const [received, why] = await end((socket) => socket.emit("kick", true));
          assert.deepEqual([received, why], ["io server disconnect", "server namespace disconnect"]);
          assert.deepEqual((await end((socket) => socket.emit("drop"))).slice(1), ["forced close", false]);
          assert.deepEqual((await end((socket) => socket.io.engine.close())).slice(1), ["transport close", false]);
          const broken = await end((socket) => socket.io.engine.write("x"));
          assert.deepEqual(broken.slice(1), [listener === "MessagePack" ? "parse error" : "forced close", false]);
          assert.equal(await ask(observer, "echo", "here"), "here");
        });
      });
    }
  }
}

test("clients that do not answer in time are left out", async (t) => {
  assert.equal(silent.length, listeners.length * ways.length * all.length);
  await Promise.all(silent.map((run) => run(t)));
});
