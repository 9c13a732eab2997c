// Clients with the official MessagePack parser: the same server with another packet format.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import parser from "socket.io-msgpack-parser";
import { ask, clients, connect, next, open, startExample, within } from "./support.mjs";

let server, url;
before(async () => {
  server = await startExample("interop");
  url = server.url.replace(/\d+$/, (port) => Number(port) + 1);
});
after(() => server.stop());

const pattern = (size) => Buffer.from(Array.from({ length: size }, (_, i) => i % 256));
const sum = (bytes) => bytes.reduce((total, byte) => total + byte, 0);

/** Returns a generator that repeats the same numbers in every run. */
function random(seed) {
  return (below) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
}

/** Returns some value that both sides can represent. */
function anything(pick, depth = 4) {
  switch (pick(depth > 0 ? 12 : 9)) {
    case 0: return null;
    case 1: return pick(2) === 1;
    case 2: return pick(300) - 150;
    case 3: return (pick(2 ** 32) - 2 ** 31) * 2 ** pick(21);
    case 4: return (pick(2 ** 32) - 2 ** 31) / 7;
    case 5: return "aé€😀".repeat(pick(12));
    case 6: return "x".repeat(pick(400));
    case 7: return pattern(pick(400));
    case 8: return new Date(pick(2 ** 32) * 1000);
    case 9: return Array.from({ length: pick(20) }, () => anything(pick, depth - 1));
    default: return Object.fromEntries(Array.from({ length: pick(18) }, (_, i) => [`k${i}`, anything(pick, depth - 1)]));
  }
}

for (const [client, io] of clients) {
  describe(client, () => {
    for (const transport of ["polling", "websocket"]) {
      const options = { parser, transports: [transport] };

      test(`gets every value back over ${transport}`, async (t) => {
        const socket = await connect(t, io, url, options);
        // Integers beyond 64 bits are not included: the official parser encodes them as something
        // else.
        const values = [
          0, 127, 128, 255, 256, 65_535, 65_536, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER,
          -1, -32, -33, -128, -129, -32_768, -32_769, -(2 ** 31), -(2 ** 31) - 1, Number.MIN_SAFE_INTEGER,
          0.1, -1.5, 5e-324, Infinity, -Infinity, NaN,
          "", "text", "é".repeat(40), "x".repeat(70_000), true, false, null,
          [], [1, [2, [3]]], {}, { a: { b: [null, { c: 1 }] } }, Array.from({ length: 70_000 }, (_, i) => i % 3),
          Buffer.alloc(0), pattern(300), pattern(70_000), new Date(0), new Date(-1), new Date(951_827_696_789),
        ];
        for (const value of values) assert.deepEqual(await ask(socket, "echo", value), value);
        assert.deepEqual(await ask(socket, "echo", ...values), values);
        const echoed = next(socket, "echo");
        socket.emit("echo", ...values);
        assert.deepEqual(await echoed, values);
      });

      test(`binary is understood at any position over ${transport}`, async (t) => {
        const socket = await connect(t, io, url, options);
        const seen = await ask(socket, "inspect", pattern(300), { deep: [{ er: Buffer.of(1, 2) }] }, new Uint8Array([7]).buffer, "é€", 1.5);
        assert.deepEqual(seen, [
          { t: "bin", n: 300, sum: sum(pattern(300)) },
          { t: "obj", v: { deep: { t: "arr", v: [{ t: "obj", v: { er: { t: "bin", n: 2, sum: 3 } } }] } } },
          { t: "bin", n: 1, sum: 7 },
          { t: "str", n: 5, sum: 0xe9 + 0x20ac },
          { t: "num", v: 1.5 },
        ]);
        for (const size of [0, 1, 255, 256, 65_535, 65_536, 700_000]) {
          assert.deepEqual(await ask(socket, "bin", size), pattern(size));
        }
        assert.equal((await ask(socket, "echo", Array.from({ length: 50 }, () => Buffer.of(1)))).length, 50);
      });

      test(`acknowledgements go both ways over ${transport}`, async (t) => {
        const socket = await connect(t, io, url, options);
        socket.on("sum", (a, b, answer) => answer(a + b, { of: pattern(3) }));
        assert.deepEqual(await ask(socket, "ask", "sum", 2, 3), [5, { of: pattern(3) }]);
        assert.equal(await ask(socket, "echo"), undefined);
        const answers = await Promise.all(Array.from({ length: 300 }, (_, i) => ask(socket, "echo", i)));
        assert.deepEqual(answers, Array.from({ length: 300 }, (_, i) => i));
        assert.equal(await ask(socket, "ask-timeout", "silence", 50), "timeout");
      });

      test(`rooms and broadcasts reach the right clients over ${transport}`, async (t) => {
        const members = await Promise.all([1, 2, 3].map(() => connect(t, io, url, options)));
        const room = `r-${client}-${transport}`;
        assert.deepEqual(await ask(members[0], "join", room), [room]);
        assert.deepEqual(await ask(members[1], "join", room), [room]);
        const received = members.map(() => []);
        members.forEach((member, i) => member.on("said", (...args) => received[i].push(args)));
        members[0].emit("to", room, "said", "to", pattern(9));
        members[0].emit("in", room, "said", "in", { n: 1 });
        members[0].emit("except", room, "said", "except");
        await Promise.all(members.map((member) => ask(member, "echo", 1)));
        await ask(members[0], "echo", 1);
        for (const member of members) await ask(member, "echo", 2);
        assert.deepEqual(received[0], [["in", { n: 1 }]]);
        assert.deepEqual(received[1], [["to", pattern(9)], ["in", { n: 1 }]]);
        assert.ok(received[2].some(([kind]) => kind === "except"));
        for (const [i, member] of members.entries()) member.on("vote", (question, answer) => answer(`${question}${i}`));
        const [complete, answers] = await ask(members[2], "bcast-ack", room, 20_000, "vote", "v");
        assert.equal(complete, true);
        assert.deepEqual(answers.sort(), ["v0", "v1"]);
      });
    }

    test("values that only JavaScript has are read as their JSON", async (t) => {
      const socket = await connect(t, io, url, { parser });
      const date = "2000-02-29T12:34:56.789Z";
      const seen = await ask(socket, "inspect", new Date(date), undefined, { gone: undefined, here: 1 }, new Date(NaN));
      const letters = [...date].reduce((total, letter) => total + letter.codePointAt(0), 0);
      assert.deepEqual(seen.slice(0, 3), [
        { t: "str", n: date.length, sum: letters },
        { t: "null" },
        { t: "obj", v: { here: { t: "num", v: 1 } } },
      ]);
      const echoed = await ask(socket, "echo", undefined, { gone: undefined, here: 1 });
      assert.deepEqual(echoed, [undefined, { gone: undefined, here: 1 }]);
    });

    test("half a surrogate pair does no harm in any encoding", async (t) => {
      const socket = await connect(t, io, url, { parser, transports: ["websocket"] });
      for (const text of ["\ud800", "a\udc00b", "x".repeat(40) + "\ud800", "一".repeat(11) + "\ud800"]) {
        // Clients write a different text, or invalid bytes that end in contents of their memory.
        const answer = await ask(socket, "echo", text);
        if (typeof answer !== "string") assert.equal(answer.error.code, "INVALID_PAYLOAD", JSON.stringify(answer));
      }
    });

    test("any values return unchanged", async (t) => {
      const socket = await connect(t, io, url, { parser, transports: ["websocket"] });
      const pick = random(4);
      for (let i = 0; i < 300; i += 1) {
        const value = anything(pick);
        assert.deepEqual(await ask(socket, "echo", value), value);
      }
    });

    test("namespaces admit and refuse, with the reason's data", async (t) => {
      const good = await connect(t, io, `${url}/auth`, { parser, auth: { token: "good", bytes: Buffer.of(1) } });
      const who = await ask(good, "whoami");
      assert.deepEqual([who.id, who.nsp, who.auth.token], [good.id, "/auth", "good"]);
      const bad = open(t, io, `${url}/auth`, { parser, auth: { token: "bad" } });
      const [error] = await next(bad, "connect_error");
      assert.equal(error.message, "not authorized");
      assert.deepEqual(error.data, { code: "E_AUTH", retry: 5 });
      const [missing] = await next(open(t, io, `${url}/nowhere`, { parser }), "connect_error");
      assert.equal(missing.message, "Invalid namespace");
      await connect(t, io, `${url}/dyn-7`, { parser });
    });

    test("both sides can leave", async (t) => {
      const kicked = await connect(t, io, url, { parser });
      const left = next(kicked, "disconnect");
      kicked.emit("kick", false);
      assert.deepEqual((await left)[0], "io server disconnect");
      const [watcher, leaver] = await Promise.all([1, 2].map(() => connect(t, io, url, { parser })));
      const { id } = leaver;
      leaver.disconnect();
      await reason(watcher, id, "client namespace disconnect");
    });

    test("continues over WebSocket after the upgrade", async (t) => {
      const socket = await connect(t, io, url, { parser, transports: ["polling", "websocket"] });
      if (socket.io.engine.transport.name !== "websocket") await next(socket.io.engine, "upgrade");
      assert.deepEqual(await ask(socket, "echo", pattern(5)), pattern(5));
      assert.equal((await ask(socket, "whoami")).transport, "websocket");
    });
  });
}

/** Waits until the socket `id` is disconnected, and checks the reason. */
async function reason(watcher, id, expected) {
  const until = async () => {
    for (;;) {
      const found = await ask(watcher, "last-reason", id);
      if (found !== null) return found;
    }
  };
  assert.equal(await within(until(), "the reason"), expected);
}

describe("invalid packets", () => {
  const hex = (text) => Buffer.from(text.replaceAll(" ", ""), "hex");
  const bad = {
    "nothing": Buffer.alloc(0),
    "a number": hex("07"),
    "an unknown kind": hex("82 a474797065 07 a36e7370 a12f"),
    "an unknown extension": hex("83 a474797065 02 a36e7370 a12f a464617461 92 a178 c70105 00"),
    "a length beyond the message": hex("83 a474797065 02 a36e7370 a12f a464617461 dd ffffffff"),
    "trailing bytes": hex("82 a474797065 00 a36e7370 a12f c0"),
    "endless depth": Buffer.concat([hex("83 a474797065 02 a36e7370 a12f a464617461"), Buffer.alloc(500_000, 0x91), hex("c0")]),
    "text": '2["echo",1]',
  };
  const io = clients[0][1];
  for (const transport of ["polling", "websocket"]) {
    for (const [what, bytes] of Object.entries(bad)) {
      test(`${what} closes that session with a parse error over ${transport}`, async (t) => {
        const watcher = await connect(t, io, url, { parser });
        const socket = await connect(t, io, url, { parser, transports: [transport] });
        const { id } = socket;
        const closed = next(socket, "disconnect");
        socket.io.engine.write(bytes);
        await closed;
        await reason(watcher, id, "parse error");
      });
    }
  }

  test("a client that sends JSON is refused", async (t) => {
    const socket = open(t, io, url, { transports: ["websocket"] });
    await within(new Promise((done) => socket.io.once("close", done)), "the end of the connection");
    assert.equal(socket.connected, false);
  });
});
