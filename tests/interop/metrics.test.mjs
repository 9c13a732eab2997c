// The metrics of real servers, read by Prometheus' own tool.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { enter, keyed, LOBBY, server } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { startRedis } from "./redis.mjs";
import { ask, metricsOf } from "./support.mjs";

/** Returns what `promtool check metrics` reports of a text. */
function promtool(text) {
  const run = spawnSync("promtool", ["check", "metrics"], { input: text, encoding: "utf8" });
  return { status: run.status, output: `${run.stdout}${run.stderr}` };
}

describe("metrics", () => {
  let postgres;
  let redis;
  before(async () => {
    postgres = await startPostgres();
    redis = await startRedis();
  });
  after(async () => {
    await postgres?.end();
    redis?.end();
  });

  test("pass promtool with a help for each family, alone and in a cluster", async (t) => {
    const cluster = { ROOMCAST_STORE: postgres.url, ROOMCAST_ADAPTER__URL: `redis://${redis.address}` };
    for (const env of [{}, { ...cluster, ROOMCAST_RECOVERY__ENABLED: "true", ROOMCAST_WEBHOOKS__EVENTS: "message" }]) {
      const { url } = await server(t, { ...keyed, ...env });
      const { socket } = await enter(t, url, { auth: { name: "Ann" } });
      await ask(socket, "join_conversation", { conversationId: LOBBY });
      await ask(socket, "message", { conversationId: LOBBY, content: "hello" });
      const text = await metricsOf(url);
      assert.deepEqual(promtool(text), { status: 0, output: "" });
      const families = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
      assert.ok(families.length > 80, `${families.length} families`);
      for (const name of families) assert.match(text, new RegExp(`^# HELP ${name} [A-Z0-9].*\\.$`, "m"));
    }
    // A family without a help is reported.
    assert.notEqual(promtool("# TYPE x counter\nx 1\n").status, 0);
  });
});
