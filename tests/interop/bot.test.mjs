// The example of a bot, written with the Rust client, among stock clients of the chat.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { io } from "socket.io-client";
import { ask, example, next, open, startServer, within } from "./support.mjs";

const LOBBY = "00000000-0000-4000-8000-000000000001";

/** Starts the bot and reads its next line of output. */
function startBot(t, url) {
  const bot = spawn(example("bot"), [url], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => bot.kill("SIGKILL"));
  const lines = createInterface({ input: bot.stdout })[Symbol.asyncIterator]();
  const line = async () => (await within(lines.next(), "a line of the bot")).value;
  return { bot, line };
}

test("the bot answers !ping and stops on SIGINT", async (t) => {
  const server = await startServer();
  t.after(() => server.stop());
  const { bot, line } = startBot(t, server.url);
  assert.equal(await line(), "in the Lobby");
  const ada = open(t, io, server.url, { auth: { name: "Ada" } });
  await next(ada, "session");
  assert.equal((await ask(ada, "join_conversation", LOBBY)).success, true);
  const heard = next(ada, "message");
  assert.equal((await ask(ada, "message", { conversationId: LOBBY, content: "!ping" })).success, true);
  const [message] = await heard;
  assert.deepEqual([message.userName, message.content], ["Bot", "pong"]);
  const ended = new Promise((done) => bot.once("exit", (code) => done(code)));
  bot.kill("SIGINT");
  assert.equal(await within(ended, "the bot to stop"), 0);
});
