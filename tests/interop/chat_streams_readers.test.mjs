// How growing texts reach their readers: how many events they are, what a reader gets that did not
// read for a while, and how a server closes a gap.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { gathered, postgres, startServers, whatIsThere } from "./chat_servers.mjs";
import { startLink } from "./link.mjs";
import { server } from "./people.mjs";
import { ask, metricIs, until } from "./support.mjs";
import { token } from "./tokens.mjs";

const INTERVAL = "ROOMCAST_CHAT__STREAMS__INTERVAL";

/** Begins a message. Returns its id, and a function that adds text to it. */
async function writing(author, conversationId) {
  const { message } = await author.must("begin_message", { conversationId, clientMessageId: randomUUID() });
  let length = 0;
  const add = async (text) => {
    const answer = await author.must("append_message", { messageId: message.id, offset: length, text });
    length = answer.offset;
    return answer;
  };
  return { id: message.id, add, length: () => length };
}

/** Returns the texts of a reader's events. Each continues the one before. */
function pieces(events, from = 0) {
  let end = from;
  return events.map(({ offset, text }) => {
    assert.equal(offset, end);
    end += [...text].length;
    return text;
  });
}

test("a text is at most one event in each interval", async (t) => {
  const started = await server(t, { [INTERVAL]: "200ms" });
  const { people: [ada, bob], conversationId } = await gathered(t, [started], ["ada", "bob"]);
  const text = await writing(ada, conversationId);
  const since = performance.now();
  let whole = "";
  for (let n = 0; n < 45; n += 1) {
    await text.add(`${n} `);
    whole += `${n} `;
  }
  const read = () => pieces(bob.all("message_appended"));
  await until(() => read().join("") === whole, "the whole text");
  // One at the beginning, and one at the end of each interval since.
  const most = 1 + Math.ceil((performance.now() - since) / 200);
  assert.ok(read().length >= 2 && read().length <= most, `${read().length} events, at most ${most}`);
});

test("without an interval, text is sent at once", async (t) => {
  const started = await server(t, { [INTERVAL]: "0s" });
  const { people: [ada, bob], conversationId } = await gathered(t, [started], ["ada", "bob"]);
  const text = await writing(ada, conversationId);
  const parts = ["one ", "two ", "three"];
  for (const [n, piece] of parts.entries()) {
    await text.add(piece);
    await ada.must("typing", { conversationId, isTyping: true });
    await ada.must("typing", { conversationId, isTyping: false });
    await until(() => bob.all("typing").length === 2 * (n + 1), "typing");
  }
  // Each piece arrives before what its author does afterwards.
  const events = bob.heard.map(([event]) => event).filter((event) => ["message_appended", "typing"].includes(event));
  const round = ["message_appended", "typing", "typing"];
  assert.deepEqual(events, [...round, ...round, ...round]);
  assert.deepEqual(pieces(bob.all("message_appended")), parts);
});

/** A reader that polls only when the test does: Socket.IO by hand. */
async function poller({ url }, name) {
  const path = `${url}/socket.io/?EIO=4&transport=polling`;
  const { sid } = JSON.parse((await (await fetch(path)).text()).slice(1));
  const target = `${path}&sid=${sid}`;
  const send = async (packet) => assert.equal(await (await fetch(target, { method: "POST", body: packet })).text(), "ok");
  const poll = async () => (await (await fetch(target)).text()).split("\x1e");
  /** Polls until there is a packet that begins so, and returns what came with it. */
  const pollFor = async (start) => {
    const packets = [];
    do packets.push(...(await poll())); while (!packets.some((packet) => packet.startsWith(start)));
    return packets;
  };
  await send(`40${JSON.stringify({ token: token({ sub: name, name }) })}`);
  await pollFor("40");
  const must = async (event, payload) => {
    await send(`421${JSON.stringify([event, payload])}`);
    const answer = (await pollFor("431")).find((packet) => packet.startsWith("431"));
    assert.equal(JSON.parse(answer.slice(3))[0].success, true, answer);
  };
  return { must, pollFor };
}

test("a reader that did not poll for a while gets one larger piece", async (t) => {
  const started = await server(t);
  const { people: [ada, bob], conversationId } = await gathered(t, [started], ["ada", "bob"]);
  const slow = await poller(started, "bob");
  await slow.must("join_conversation", { conversationId });
  const text = await writing(ada, conversationId);
  let whole = "";
  for (let n = 0; n < 40; n += 1) {
    await text.add(`${n} `);
    whole += `${n} `;
    // The other reader has it: an event of its own.
    await until(() => pieces(bob.all("message_appended")).join("") === whole, "the text");
  }
  assert.equal(bob.all("message_appended").length, 40);
  const appended = (packets) =>
    packets.filter((packet) => packet.startsWith('42["message_appended"')).map((packet) => JSON.parse(packet.slice(2))[1]);
  const events = [];
  while (events.map(({ text }) => text).join("") !== whole) {
    events.push(...appended(await slow.pollFor('42["message')));
  }
  const read = pieces(events);
  // What waited in its queue, if anything, and all else together.
  assert.ok(read.length <= 2, JSON.stringify(read));
});

test("a server that has lost pieces sends them before the next one", async (t) => {
  const link = await startLink(postgres.url);
  t.after(() => link.close());
  const url = new URL(postgres.url);
  url.port = new URL(link.url).port;
  const [here] = await startServers(t, 1, whatIsThere);
  const [there] = await startServers(t, 1, { ROOMCAST_ADAPTER__URL: `${url}` });
  const { people: [ada, bob], conversationId } = await gathered(t, [here, there], ["ada", "bob"]);
  const text = await writing(ada, conversationId);
  const read = () => pieces(bob.all("message_appended")).join("");
  await text.add("one ");
  await until(() => read() === "one ", "the first piece");
  link.cut();
  await metricIs(there.url, "roomcast_adapter_up", (up) => up === 0);
  await text.add("two ");
  await until(async () => (await text.add("")).stored === 8, "the text to be stored");
  link.restore();
  await metricIs(there.url, "roomcast_adapter_up", (up) => up === 1);
  await text.add("three");
  await until(() => read() === "one two three", "the lost piece and the next");
  assert.equal(bob.all("message_edited").length, 0);
});

test("messages in HTML cannot be sent in pieces", async (t) => {
  const started = await server(t, { ROOMCAST_CHAT__CONTENT: "html" });
  const { people: [ada, bob], conversationId } = await gathered(t, [started], ["ada", "bob"]);
  const { error } = await ask(ada.socket, "begin_message", { conversationId, clientMessageId: "one" });
  assert.equal(error?.code, "CONFLICT", JSON.stringify(error));
  // The id is not used.
  await ada.must("message", { conversationId, content: "whole", clientMessageId: "one" });
  await until(() => bob.all("message").length === 1, "the message");
});
