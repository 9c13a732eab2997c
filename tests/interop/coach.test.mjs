// The coach of the examples, as people in the chat meet it: its answers grow, stop on request, and come from
// a model.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Server } from "socket.io";
import { conversation, person, present } from "./chat_servers.mjs";
import { folder, launchCoach, python, startCoach, startModel } from "./coach.mjs";
import { startLink } from "./link.mjs";
import { enter, LOBBY, server } from "./people.mjs";
import { launch } from "./processes.mjs";
import { ask as call, lastingPort, program, temporary, until, within } from "./support.mjs";

/** Lets a person talk to the coach in a conversation of the two. */
async function together(t, env = {}) {
  const started = await server(t);
  const link = await startLink(started.url);
  t.after(() => link.close());
  const ada = await person(t, started, "ada");
  const coach = await startCoach(t, link.url, env);
  // A conversation that the coach is added to while it runs.
  const conversationId = await conversation([ada, { name: "coach" }]);
  await ada.must("join_conversation", { conversationId });
  await until(async () => (await present(ada, conversationId)).includes("coach"), "the coach");
  return { started, link, ada, coach, ask: (content) => ada.must("message", { conversationId, content }) };
}

const ends = (one) => one.all("message_edited");

test("the coach answers word by word", async (t) => {
  const { ada, ask } = await together(t);
  const { message: question } = await ask("how? 😀");
  await until(() => ends(ada).length === 1, "the answer");
  const [begun] = ada.all("message");
  assert.deepEqual([begun.type, begun.streaming, begun.replyTo.id, begun.content], ["ai", true, question.id, ""]);
  const [end] = ends(ada);
  const pieces = ada.all("message_appended");
  assert.ok(pieces.length > 1, `${pieces.length} pieces`);
  // What the coach adds last may wait for the interval of the stream, and then only be in the end.
  const grown = pieces.map(({ text }) => text).join("");
  assert.ok(grown.length > 0 && end.content.startsWith(grown), grown);
  assert.match(end.content, /be\?\s*$/);
  assert.match(end.content, /^You asked: “how\? 😀”\./);
  assert.equal(end.interrupted, undefined);
});

test("the coach passes on what a model streams, stops on request, and says when the model fails", async (t) => {
  const asked = [];
  let isClosed = false;
  const model = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    asked.push({ url: request.url, key: request.headers.authorization, ...JSON.parse(body) });
    if (asked.length === 2) return void response.writeHead(500).end();
    response.writeHead(200, { "content-type": "text/event-stream" });
    const say = (delta) => `data: ${JSON.stringify({ choices: [{ delta }] })}\n\n`;
    if (asked.length === 3) {
      // An answer without an end, until nobody reads it.
      response.once("close", () => (isClosed = true));
      for (; !isClosed; await sleep(20)) response.write(say({ content: "word " })); // The pace of a model.
      return;
    }
    const bytes = Buffer.from(`${say({ role: "assistant" })}${say({ content: "Grün 😀" })}${say({ content: " and\nmore" })}data: [DONE]\n\n`);
    // In parts that end in the middle of lines and of characters.
    for (let at = 0; at < bytes.length; at += 11) {
      response.write(bytes.subarray(at, at + 11));
      await sleep(2); // The pace of a model.
    }
    response.end();
  });
  await new Promise((resolve) => model.listen(0, "127.0.0.1", resolve));
  t.after(() => model.close());
  const OPENAI_BASE_URL = `http://127.0.0.1:${model.address().port}/v1/`;
  const { ada, ask } = await together(t, { OPENAI_BASE_URL, OPENAI_API_KEY: "secret", OPENAI_MODEL: "small" });
  await ask("how?");
  await until(() => ends(ada).length === 1, "the answer");
  assert.equal(ends(ada)[0].content, "Grün 😀 and\nmore");
  const [{ url, key, model: name, stream, messages }] = asked;
  assert.deepEqual([url, key, name, stream], ["/v1/chat/completions", "Bearer secret", "small", true]);
  assert.deepEqual(messages.slice(1), [{ role: "user", content: "how?" }]);

  await ask("again?");
  await until(() => ends(ada).length === 2, "the failure");
  assert.deepEqual([ends(ada)[1].interrupted, ends(ada)[1].interruptedReason], [true, "the model failed"]);

  const known = ada.all("message_appended").length;
  await ask("and now?");
  await until(() => ada.all("message_appended").length > known, "the third answer");
  assert.deepEqual(asked[2].messages.slice(1).map(({ role }) => role), ["user", "assistant", "user", "user"]);
  await ada.must("stop_message", { messageId: ada.all("message").at(-1).id });
  await until(() => ends(ada).length === 3 && isClosed, "the end of the third answer");
  const { content, interrupted, interruptedReason } = ends(ada)[2];
  assert.deepEqual([interrupted, interruptedReason], [true, "stopped by a member"]);
  assert.match(content, /^(word )+$/);
});

test("the coach stops reading the model when its message is deleted", async (t) => {
  const model = await startModel(t);
  const { started, ada, ask } = await together(t, { OPENAI_BASE_URL: model.url });
  const coach = await person(t, started, "coach");
  await ask("how?");
  const answer = await model.asked(1);
  answer.say("word");
  await until(() => ada.all("message_appended").length === 1, "the first word");
  await coach.must("delete_message", { messageId: ada.all("message").at(-1).id });
  answer.say("more");
  await until(() => answer.isClosed, "the model to be stopped");
  await ask("again?");
  const next = await model.asked(2);
  next.say("Whole.");
  next.end();
  await until(() => ends(ada).length === 1, "the next answer");
  assert.equal(ends(ada)[0].content, "Whole.");
});

/** What ends an answer, by the reason that its message gets. */
const interruptions = {
  "stopped by a member": (_, socket) => socket.emit("message_stop_requested", { conversationId: "c", messageId: "answer", userId: "ada" }),
  async "the coach shuts down"({ program }) {
    program.kill("SIGTERM");
    await program.found((line) => /shuts down/.exec(line)?.[0], "shut down");
  },
};

for (const [reason, interrupt] of Object.entries(interruptions)) {
  for (const event of ["begin_message", "message_history"]) {
    test(`${reason} before ${event} is answered: aborted`, async (t) => {
      const http = createServer().listen(0, "127.0.0.1");
      await once(http, "listening");
      const io = new Server(http);
      t.after(() => io.close());
      const messageId = "answer";
      const asked = [];
      io.on("connection", (socket) => {
        socket.onAny(async (name, payload, answer) => {
          asked.push([name, payload]);
          if (name === event) await interrupt(coach, socket);
          const answers = { conversations: { conversations: [], hasMore: false }, begin_message: { message: { id: messageId }, offset: 0 } };
          // The history is never answered.
          if (name !== "message_history") answer({ success: true, ...answers[name] });
        });
        socket.emit("session", { userId: "coach" });
      });
      const coach = await startCoach(t, `http://127.0.0.1:${http.address().port}`);
      io.emit("message", { id: "question", conversationId: "c", seq: 1, userId: "ada", type: "user", content: "how?" });
      const expected = ["abort_message", { messageId, reason }];
      await until(() => asked.at(-1)?.[0] === expected[0], () => `the end: ${JSON.stringify(asked)}`);
      assert.deepEqual(asked.at(-1), expected);
      assert.ok(!asked.some(([name]) => name === "append_message"));
    });
  }
}

test("the coach is healthy while connected, and continues at a new server", async (t) => {
  const store = { ROOMCAST_STORE: `sqlite:${join(temporary(), "roomcast.db")}` };
  const started = await server(t, store);
  const link = await startLink(started.url);
  t.after(() => link.close());
  const model = await startModel(t);
  const ada = await person(t, started, "ada");
  const conversationId = await conversation([ada, { name: "coach" }]);
  await ada.must("join_conversation", { conversationId });
  link.cut();
  const coach = await launchCoach(t, link.url, { OPENAI_BASE_URL: model.url });
  const hasHealth = async (expected) => {
    let health;
    await until(async () => (health = await coach.health()).status === expected.status, `the status ${expected.status}`);
    assert.deepEqual(health, expected);
  };
  assert.deepEqual(await coach.health(), { status: 503, connected: false, openAnswers: 0 });
  link.restore();
  await hasHealth({ status: 200, connected: true, openAnswers: 0 });
  await until(async () => (await present(ada, conversationId)).includes("coach"), "the coach");
  await ada.must("message", { conversationId, content: "how?" });
  const answer = await model.asked(1);
  answer.say("Before");
  await until(() => ada.all("message_appended").length === 1, "the first word");
  assert.deepEqual(await coach.health(), { status: 200, connected: true, openAnswers: 1 });
  answer.say(", until then");
  await until(() => ada.all("message_appended").length === 2, "text that may not be stored yet");
  await started.stop("SIGKILL");
  link.cut();
  answer.say(", meanwhile");
  await hasHealth({ status: 503, connected: false, openAnswers: 1 });
  const next = await server(t, store);
  link.restore(next.url);
  await hasHealth({ status: 200, connected: true, openAnswers: 1 });
  answer.say(", after");
  answer.end();
  const again = await person(t, next, "ada");
  let last;
  const read = async () => (last = (await again.must("message_history", { conversationId })).messages.at(-1));
  await until(async () => (await read()).content.endsWith("after") && !last.streaming, () => `the end: ${JSON.stringify(last)}`);
  assert.deepEqual([last.content, last.interrupted], ["Before, until then, meanwhile, after", undefined]);
  await until(async () => (await coach.health()).openAnswers === 0, "no open answer");
});

test("a terminated coach aborts its answers", async (t) => {
  const model = await startModel(t);
  const { ada, coach, ask } = await together(t, { OPENAI_BASE_URL: model.url });
  await ask("how?");
  await ask("and when?");
  for (const number of [1, 2]) (await model.asked(number)).say("word");
  await until(() => ada.all("message_appended").length === 2, "the first words");
  coach.program.kill("SIGTERM");
  await within(coach.program.ended, "the coach to end");
  await until(() => ends(ada).length === 2, "both ends");
  const shown = ends(ada).map(({ content, interruptedReason }) => [content, interruptedReason]);
  assert.deepEqual(shown, Array(2).fill(["word", "the coach shuts down"]));
});

test("a terminated coach ends, even if the server does not answer", async (t) => {
  const model = await startModel(t);
  const { ada, link, coach, ask } = await together(t, { OPENAI_BASE_URL: model.url });
  await ask("how?");
  (await model.asked(1)).say("word");
  await until(() => ada.all("message_appended").length === 1, "the first word");
  link.swallow();
  coach.program.kill("SIGTERM");
  // A request without an answer fails after 30 s.
  await within(coach.program.ended, "the coach to end", 25_000);
});

test("the README's command starts server and coach, and Ctrl-C ends both", async (t) => {
  const url = `http://127.0.0.1:${await lastingPort()}`;
  const started = launch(join(folder, "start"), [], {
    detached: true,
    env: {
      PROGRAM: program,
      PYTHON: python,
      PYTHONDONTWRITEBYTECODE: "1",
      XDG_STATE_HOME: temporary(),
      ROOMCAST_STORE: "memory:",
      ROOMCAST_LISTEN: url.slice("http://".length),
      ROOMCAST_SERVER__ADMIN_LISTEN: "127.0.0.1:0",
      COACH_URL: url,
      COACH_PORT: `${await lastingPort()}`,
    },
  });
  const group = -started.pid;
  t.after(() => started.isRunning() && process.kill(group, "SIGKILL"));
  await started.found((line) => /answers as coach/.exec(line)?.[0], "start both programs");
  // Without credentials, as in a browser.
  const { socket } = await enter(t, url, { transports: ["websocket"] });
  const texts = [];
  socket.on("message_edited", ({ content }) => texts.push(content));
  assert.equal((await call(socket, "join_conversation", { conversationId: LOBBY })).success, true);
  assert.equal((await call(socket, "message", { conversationId: LOBBY, content: "@Coach how do I begin?" })).success, true);
  await until(() => texts.length === 1, "the answer");
  assert.match(texts[0], /^You asked: “@Coach how do I begin\?”\./);
  process.kill(group, "SIGINT");
  await started.ended;
  assert.throws(() => process.kill(group, 0), { code: "ESRCH" });
});
