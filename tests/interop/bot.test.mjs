// The example of a bot, written with the Rust client, among stock clients of the chat.
import assert from "node:assert/strict";
import { test } from "node:test";
import { io } from "socket.io-client";
import { launch } from "./processes.mjs";
import { ask, example, next, open, startServer } from "./support.mjs";

const LOBBY = "00000000-0000-4000-8000-000000000001";

test("the bot answers !ping and stops on SIGINT", async (t) => {
  const server = await startServer();
  t.after(() => server.stop());
  const bot = launch(example("bot"), [server.url]);
  t.after(() => bot.kill());
  assert.equal(await bot.line(), "in the Lobby");
  const ada = open(t, io, server.url, { auth: { name: "Ada" } });
  await next(ada, "session");
  assert.equal((await ask(ada, "join_conversation", LOBBY)).success, true);
  const received = next(ada, "message");
  assert.equal((await ask(ada, "message", { conversationId: LOBBY, content: "!ping" })).success, true);
  const [message] = await received;
  assert.deepEqual([message.userName, message.content], ["Bot", "pong"]);
  assert.equal(await bot.stop("SIGINT"), 0);
});
