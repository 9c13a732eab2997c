// The programs in examples/feed, run as a user would, against the real server.
import assert from "node:assert/strict";
import { cpSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { keyed, server } from "./people.mjs";
import { lastingPort, launch, until } from "./processes.mjs";
import { startServer, temporary } from "./support.mjs";
import { token } from "./tokens.mjs";

const feed = fileURLToPath(new URL("../../examples/feed", import.meta.url));
const modules = fileURLToPath(new URL("node_modules", import.meta.url));

/** Creates a folder with the programs, as after `npm install`. */
function installed(t) {
  const folder = temporary();
  cpSync(feed, folder, { recursive: true });
  symlinkSync(modules, join(folder, "node_modules"));
  return folder;
}

/** Runs one of the programs, and returns its output and exit. */
function run(t, folder, args, claims, input) {
  const program = launch(process.execPath, args, { cwd: folder, env: { TOKEN: token(claims) }, input });
  t.after(() => program.kill());
  return { ...program, lines: () => program.output().trim().split("\n") };
}

const desk = { sub: "desk", roles: ["service"] };

test("the follower shows all publications once in order, also earlier ones", async (t) => {
  const folder = installed(t);
  const signals = readFileSync(join(folder, "signals.jsonl"), "utf8");
  const port = await lastingPort();
  const store = `sqlite:${join(folder, "chat.db")}`;
  const env = { ...keyed, ROOMCAST_LISTEN: `127.0.0.1:${port}`, ROOMCAST_STORE: store };
  const url = `http://127.0.0.1:${port}`;
  // The server is not running yet: the publisher retries.
  const first = run(t, folder, ["publish.mjs", url], desk, signals);
  await until(() => first.lines().some((line) => /trying again/.test(line)), "a failure");
  const started = await startServer(env);
  assert.equal(await first.ended, 0);
  const published = first.lines().filter((line) => line.startsWith("published"));
  assert.deepEqual(published.map((line) => line.split(" ")[1]), ["2026-001", "2026-002", "2026-003"]);

  const watching = run(t, folder, ["watch.mjs", url, "gold"], { sub: "ann" });
  const shown = () => watching.lines().filter((line) => /^\d\d:\d\d:\d\d /.test(line)).map((line) => line.slice(9));
  const before = [
    "#gold Desk: BUY XAU/USD at 2650.5 stop 2630 target 2700 (80 %)",
    "#gold Desk: HOLD XAU/USD (60 %)",
  ];
  await until(() => shown().length === 2, "what there was");
  assert.deepEqual(shown(), before);

  // The server is another process now; the watcher reconnects by itself and shows nothing twice.
  await started.stop();
  const again = await startServer(env);
  t.after(() => again.stop());
  const more = `${signals}{"signalId":"2026-004","channelId":"gold","providerId":"desk","providerName":"Desk","symbol":"XAU/USD","action":"sell","entryPrice":2690,"confidence":70}\n`;
  const second = run(t, folder, ["publish.mjs", url], desk, more);
  assert.equal(await second.ended, 0);
  await until(() => shown().length === 3, "what came");
  assert.deepEqual(shown(), [...before, "#gold Desk: SELL XAU/USD at 2690 (70 %)"]);
});

test("an invalid signal is reported, and publishing requires the permission", async (t) => {
  const folder = installed(t);
  const { url } = await server(t);
  const [good] = readFileSync(join(folder, "signals.jsonl"), "utf8").split("\n");
  const bad = JSON.stringify({ ...JSON.parse(good), signalId: "bad", confidence: 101 });
  const publisher = run(t, folder, ["publish.mjs", url], desk, `${bad}\n${good}\n`);
  assert.equal(await publisher.ended, 1);
  assert.match(publisher.lines().join("\n"), /bad: .*confidence must be from 0 to 100[^]*published 2026-001/);
  const guest = run(t, folder, ["publish.mjs", url], { sub: "ann" }, `${good}\n`);
  assert.equal(await guest.ended, 1);
});
