// Publications by a backend in its own transactions, as in docs/publications.md, with the official
// clients. A client that reconnects by itself receives everything once, also while its server is
// restarted.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import pg from "pg";
import { io, server } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { ask, connect, lastingPort, next, startServer, temporary, until } from "./support.mjs";
import { token } from "./tokens.mjs";

const page = readFileSync(new URL("../../docs/publications.md", import.meta.url), "utf8");

/** Returns the publishing example of the page as a function of what it uses. */
function example() {
  const blocks = [...page.matchAll(/```js\n(.*?)```/gs)].map(([, code]) => code);
  const code = blocks.find((code) => code.includes("BEGIN"));
  const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
  return new AsyncFunction("client", "user", "order", code);
}

/** Opens a connection of the backend, and creates its table. */
async function backend(t, postgres) {
  const client = new pg.Client({ connectionString: postgres.url });
  // The database may end before the connection does.
  client.on("error", () => {});
  await client.connect();
  t.after(() => client.end());
  await client.query("CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY, state text)");
  await client.query("INSERT INTO orders SELECT n, 'new' FROM generate_series(1, 100) n ON CONFLICT DO NOTHING");
  return client;
}

test("the documented publication reaches a user's tabs at two servers once", async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.end());
  const alone = { ROOMCAST_STORE: postgres.url, ROOMCAST_ADAPTER__URL: "none" };
  const servers = [await server(t, alone), await server(t, alone)];
  const received = [];
  const enter = async (sub, { url }, transports) => {
    const socket = await connect(t, io, url, { auth: { token: token({ sub }) }, transports });
    socket.on("order:shipped", ({ order }) => received.push(`${sub} ${order}`));
    return socket;
  };
  await enter("ann", servers[0], ["polling"]);
  await enter("ann", servers[1], ["websocket"]);
  const bob = await enter("bob", servers[1], ["websocket"]);
  const client = await backend(t, postgres);
  await example()(client, "ann", 7);
  // It can safely be retried.
  await example()(client, "ann", 7);
  const end = next(bob, "end");
  await client.query("SELECT roomcast_publish_to_everyone('end')");
  assert.deepEqual(await end, []);
  await until(() => received.length >= 2, "both tabs");
  assert.deepEqual(received, ["ann 7", "ann 7"]);
});

test("a client of a restarted server gets missed publications once in order", async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.end());
  const port = await lastingPort();
  const env = {
    ROOMCAST_STORE: postgres.url,
    ROOMCAST_LISTEN: `127.0.0.1:${port}`,
    ROOMCAST_NODE__ID: "a",
  };
  const options = { auth: { name: "ann" }, reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 500 };
  let running = await startServer(env);
  t.after(() => running.stop("SIGKILL"));
  const socket = await connect(t, io, `http://127.0.0.1:${port}`, options);
  const received = [];
  socket.on("n", (n) => received.push(n));
  const client = await backend(t, postgres);
  const publish = (n) => client.query("SELECT roomcast_publish_to_everyone('n', to_jsonb($1::int))", [n]);
  for (let n = 0; n < 10; n++) await publish(n);
  await until(() => received.length === 10, "those before");
  const disconnected = next(socket, "disconnect");
  await running.stop("SIGKILL");
  await disconnected;
  for (let n = 10; n < 20; n++) await publish(n);
  running = await startServer(env);
  for (let n = 20; n < 30; n++) await publish(n);
  await until(() => received.length >= 30, "those after");
  assert.deepEqual(received, Array.from({ length: 30 }, (_, n) => n));
});

test("event for a channel is stored once, also while no server runs", async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.end());
  const config = join(temporary(), "roomcast.toml");
  writeFileSync(config, '[channels.orders]\npattern = "orders:{order}"\nfollow = ["anyone"]\nmax_stored_events = 3\n[channels.own]\npattern = "own:{user}"\nfollow = ["users"]\npublish = ["followers"]\n[channels.live]\npattern = "live"\nfollow = ["anyone"]\nhistory = "none"\n');
  const env = { ROOMCAST_CONFIG: config, ROOMCAST_STORE: postgres.url, ROOMCAST_ADAPTER__URL: "none" };
  const channel = "orders:7";
  const follow = async ({ url }) => {
    const socket = await connect(t, io, url, { auth: { name: "ann" } });
    const received = [];
    socket.on("shipped", (data, { id }) => received.push([data, id]));
    const { events } = await ask(socket, "channel:subscribe", { channel });
    return { received, stored: events.map(({ data, id }) => [data, id]) };
  };
  let servers = [await startServer(env), await startServer(env)];
  const followers = await Promise.all(servers.map(follow));
  const client = await backend(t, postgres);
  const publish = async (data, id, to = channel) => {
    const { rows } = await client.query("SELECT roomcast_publish_channel($1, 'shipped', $2, $3) AS row", [to, JSON.stringify(data), id]);
    return rows[0].row;
  };
  await client.query("BEGIN");
  await publish({ n: 0 }, "rolled back");
  await client.query("ROLLBACK");
  await client.query("BEGIN");
  assert.notEqual(await publish({ n: 1 }, "1"), null);
  assert.notEqual(await publish({ n: 1 }, "1", "orders:8"), null);
  await client.query("COMMIT");
  assert.equal(await publish({ n: 1 }, "1"), null);
  await publish(null, "2");
  const first = [[{ n: 1 }, "1"], [null, "2"]];
  await until(() => followers.every(({ received }) => received.length >= 2), () => JSON.stringify(followers));
  for (const { received } of followers) assert.deepEqual(received, first);
  for (const server of servers) await server.stop("SIGKILL");
  const wrong = [await publish(1, "3", "unknown"), await publish(1, "3", "own:ann"), await publish(1, "\n"), await publish(1, "3", "live")];
  await publish({ n: 4 }, "4");
  await publish({ n: 5 }, "5");
  servers = [await startServer(env), await startServer(env)];
  for (const server of servers) t.after(() => server.stop("SIGKILL"));
  // Transactions are committed, so what they publish is stored although the history is full then.
  const all = [...first, [{ n: 4 }, "4"], [{ n: 5 }, "5"]];
  await until(async () => (await follow(servers[1])).stored.length >= all.length, "what was published meanwhile");
  for (const server of servers) assert.deepEqual((await follow(server)).stored, all);
  const refused = async () => (await client.query("SELECT refused FROM publications WHERE id = ANY ($1) ORDER BY id", [wrong])).rows;
  await until(async () => (await refused()).every(({ refused }) => refused !== null), "the reasons");
  assert.deepEqual((await refused()).map(({ refused }) => refused), [
    "no such channel", "may not publish to this channel", "id must have 1 to 128 characters, none of them control", "the channel stores no events",
  ]);
});
