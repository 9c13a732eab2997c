// Acknowledgements in both directions, with time limits, from one client and from many.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, clients, connect, next, startExample, within } from "./support.mjs";

const [[, v4]] = clients;

let server;
before(async () => (server = await startExample("interop")));
after(() => server.stop());

const values = [0, -1.5, 1e21, "", "text", true, false, null, [], [1, [2, [3]]], {}, { a: { b: [null, { c: 1 }] } }];

for (const [client, io] of clients) {
  describe(client, () => {
    for (const transport of ["polling", "websocket"]) {
      test(`gets every JSON value back over ${transport}`, async (t) => {
        const socket = await connect(t, io, server.url, { transports: [transport] });
        for (const value of values) assert.deepEqual(await ask(socket, "echo", value), value);
        assert.deepEqual(await ask(socket, "echo", ...values), values);
      });

      test(`answers the server's request over ${transport}`, async (t) => {
        const socket = await connect(t, io, server.url, { transports: [transport] });
        socket.on("sum", (a, b, answer) => answer(a + b, [a, b]));
        assert.deepEqual(await ask(socket, "ask", "sum", 2, 3), [5, [2, 3]]);
      });
    }

    test("an acknowledgement without arguments is accepted", async (t) => {
      const socket = await connect(t, io, server.url);
      assert.equal(await ask(socket, "echo"), undefined);
    });

    test("500 concurrent requests each get their own answer", async (t) => {
      const socket = await connect(t, io, server.url);
      const answers = await Promise.all(Array.from({ length: 500 }, (_, i) => ask(socket, "echo", i)));
      assert.deepEqual(answers, Array.from({ length: 500 }, (_, i) => i));
    });

    test("a request times out if no answer arrives", async (t) => {
      const socket = await connect(t, io, server.url);
      const request = next(socket, "silence");
      const outcome = ask(socket, "ask-timeout", "silence", 100);
      await request;
      assert.equal(await outcome, "timeout");
      socket.on("reply", (answer) => answer());
      assert.equal(await ask(socket, "ask-timeout", "reply", 20_000), "answered");
    });

    test("an answer after the timeout is ignored", async (t) => {
      const socket = await connect(t, io, server.url);
      const late = next(socket, "slow");
      assert.equal(await ask(socket, "ask-timeout", "slow", 50), "timeout");
      const [answer] = await late;
      answer("too late");
      assert.equal(await ask(socket, "echo", "fine"), "fine");
    });

    test("a broadcast collects one answer from each member", async (t) => {
      const members = await Promise.all([1, 2, 3].map(() => connect(t, io, server.url)));
      for (const [i, member] of members.entries()) {
        await ask(member, "join", "voters");
        member.on("vote", (question, answer) => answer(`${question}${i}`));
      }
      const [complete, answers] = await ask(members[0], "bcast-ack", "voters", 20_000, "vote", "v");
      assert.equal(complete, true);
      assert.deepEqual(answers.sort(), ["v0", "v1", "v2"]);
    });

    test("a broadcast returns partial answers if one member is silent", async (t) => {
      const [first, second] = await Promise.all([1, 2].map(() => connect(t, io, server.url)));
      await ask(first, "join", "half");
      await ask(second, "join", "half");
      first.on("vote", (answer) => answer("yes"));
      second.on("vote", () => {});
      assert.deepEqual(await ask(first, "bcast-ack", "half", 10_000, "vote"), [false, ["yes"]]);
    });

    test("unknown events are ignored and never answered", async (t) => {
      const socket = await connect(t, io, server.url);
      let answered = false;
      socket.emit("no such event", () => (answered = true));
      assert.equal(await within(ask(socket, "echo", 1), "echo"), 1);
      assert.equal(answered, false);
    });
  });
}

test("a client with retries continues after an event that gets no answer", async (t) => {
  const socket = await connect(t, v4, server.url, { retries: 2 });
  const sent = [];
  socket.onAnyOutgoing((name) => sent.push(name));
  const outcome = (name, ms) => within(new Promise((done) => socket.timeout(ms).emit(name, 1, (...all) => done(all))), name);
  const outcomes = await Promise.all([outcome("echo", 20_000), outcome("no such event", 100), outcome("echo", 20_000)]);
  assert.deepEqual(outcomes[0], [null, 1]);
  assert.match(outcomes[1][0].message, /timed out/);
  assert.deepEqual(outcomes[2], [null, 1]);
  assert.deepEqual(sent, ["echo", "no such event", "no such event", "no such event", "echo"]);
});
