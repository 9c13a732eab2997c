// The HTTP API of several servers with an adapter, and the commands that query a running server,
// with stock clients.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { LOBBY, call, enter, farewell, keyed, server } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { ask, command, next, until } from "./support.mjs";
import { token } from "./tokens.mjs";

let postgres;
before(async () => (postgres = await startPostgres()));
after(() => postgres?.end());

const service = `Bearer ${token({ sub: "backend", roles: ["service"] })}`;

/** Sends a request that must have this status, and returns the body. */
async function must(url, method, path, status = 200, body) {
  const answer = await call(url, method, `/api/v1${path}`, body, service);
  assert.equal(answer.status, status, `${method} ${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** Starts two servers that know each other. */
async function pair(t) {
  const env = { ROOMCAST_STORE: postgres.url, ROOMCAST_ADAPTER__URL: postgres.url };
  const servers = await Promise.all([1, 2].map(() => server(t, env)));
  for (const { url } of servers) {
    await until(async () => (await must(url, "GET", "/nodes")).nodes.length === 2, "both to know of each other");
  }
  return servers;
}

const person = (sub) => ({ auth: { token: token({ sub }) } });

describe("the HTTP API of several servers", { concurrency: false }, () => {
  test("each server lists and counts the sockets and rooms of all servers", async (t) => {
    const [here, there] = await pair(t);
    const sockets = [];
    for (const [url, name, transports] of [
      [here.url, "ann", ["websocket"]],
      [there.url, "ann", ["websocket"]],
      [there.url, "bob", ["polling"]],
    ]) {
      const { socket } = await enter(t, url, { ...person(name), transports });
      await ask(socket, "join_conversation", LOBBY);
      sockets.push(socket);
    }
    for (const { url } of [here, there]) {
      const seen = [];
      let path = "/sockets?limit=2";
      do {
        const page = await must(url, "GET", path);
        assert.equal(page.missing, 0);
        seen.push(...page.sockets);
        path = page.cursor && `/sockets?limit=2&cursor=${page.cursor}`;
      } while (path);
      assert.deepEqual(seen.map(({ id }) => id), sockets.map(({ id }) => id).sort());
      assert.equal(new Set(seen.map(({ node }) => node)).size, 2);
      const room = await must(url, "GET", `/rooms/conversation:${LOBBY}`);
      assert.deepEqual([room.sockets, room.nodes.length, room.missing], [3, 2, 0]);
      assert.deepEqual(room.transports, { polling: 1, websocket: 2 });
      const { rooms } = await must(url, "GET", "/rooms?prefix=user:");
      assert.deepEqual(rooms, [{ room: "user:ann", sockets: 2 }, { room: "user:bob", sockets: 1 }]);
    }
    for (const { url } of [here, there]) {
      const presence = await must(url, "GET", "/users/ann/presence");
      assert.deepEqual(presence, { userId: "ann", connections: 2, conversations: [LOBBY], missing: 0 });
    }
    const [first, second, bob] = sockets;
    const disconnects = [first, second].map(farewell);
    assert.deepEqual(await must(here.url, "DELETE", "/users/ann/sockets"), { disconnected: 2, missing: 0 });
    await Promise.all(disconnects);
    const last = farewell(bob);
    await must(here.url, "DELETE", `/sockets/${bob.id}`);
    await last;
    await must(here.url, "DELETE", `/sockets/${bob.id}`, 404);
  });

  test("an event reaches clients of all servers, and their answers return", async (t) => {
    const [here, there] = await pair(t);
    const people = await Promise.all([here, there].map(({ url }, n) => enter(t, url, person(`user ${n}`))));
    for (const [n, { socket }] of people.entries()) socket.on("ready?", (value, done) => done(value + n));
    const event = { event: "ready?", args: [40], users: ["user 0", "user 1"], ackTimeout: 10_000 };
    const { acknowledged } = await must(here.url, "POST", "/emit", 200, event);
    const { expected, answered, timedOut, missing, answers } = acknowledged;
    assert.deepEqual([expected, answered, timedOut, missing], [2, 2, false, 0]);
    assert.deepEqual(answers.flatMap(({ args }) => args).sort(), [40, 41]);
  });

  test("an idempotency key used at one server is known at the other", async (t) => {
    const [here, there] = await pair(t);
    const send = async ({ url }, title) => {
      const headers = { authorization: service, "content-type": "application/json", "idempotency-key": "k" };
      const body = JSON.stringify({ title });
      const answer = await fetch(`${url}/api/v1/conversations`, { method: "POST", headers, body });
      return [answer.status, await answer.text()];
    };
    const made = await send(here, "One");
    assert.equal(made[0], 201);
    assert.deepEqual(await send(there, "One"), made);
    assert.equal((await send(there, "Two"))[0], 409);
  });

  test("events are published by the command, through a server or the adapter", async (t) => {
    const [here, there] = await pair(t);
    const { socket } = await enter(t, there.url, person("ann"));
    const run = (...args) => command(args, keyed);
    const received = () => Promise.all([next(socket, "news")]);
    let news = received();
    const emitted = run("emit", "user:ann", "news", '{"a":1}', '"b"', "--url", here.url);
    assert.equal(emitted.status, 0, emitted.stderr);
    assert.deepEqual(JSON.parse(emitted.stdout), { queued: 0 });
    assert.deepEqual(await news, [[{ a: 1 }, "b"]]);
    news = received();
    // The secret with which the servers seal is in the store.
    const stored = { ...keyed, ROOMCAST_STORE: postgres.url };
    const through = command(["emit", "*", "news", "7", "--adapter", postgres.url], stored);
    assert.equal(through.status, 0, through.stderr);
    assert.deepEqual(await news, [[7]]);
    news = received();
    const configured = command(["emit", "*", "news", "8", "--adapter"], stored);
    assert.equal(configured.status, 0, configured.stderr);
    assert.deepEqual(await news, [[8]]);
    // The command blocks this process, so the client cannot answer.
    const output = run("emit", "user:ann", "ready?", "--ack", "200", "--url", here.url);
    const { expected, answered, timedOut } = JSON.parse(output.stdout).acknowledged;
    assert.deepEqual([expected, answered, timedOut], [1, 0, true]);
    const sockets = run("sockets", "--user", "ann", "--url", here.url);
    assert.equal(JSON.parse(sockets.stdout).id, socket.id);
    assert.equal(JSON.parse(run("nodes", "--url", there.url).stdout).nodes.length, 2);
    const call = (...args) => run("call", ...args, "--url", here.url);
    const made = call("POST", "/conversations", '{"title":"By command"}', "--key", "one");
    assert.equal(made.status, 0, made.stderr);
    const { conversation } = JSON.parse(made.stdout);
    assert.equal(conversation.title, "By command");
    assert.equal(call("POST", "/conversations", '{"title":"By command"}', "--key", "one").stdout, made.stdout);
    const blocked = call("POST", "/blocks", '{"cidr":"192.0.2.0/24","seconds":60,"reason":"x"}', "--role", "admin");
    const freed = call("DELETE", `/blocks/${JSON.parse(blocked.stdout).id}`, "--role", "admin");
    assert.deepEqual([freed.status, freed.stdout], [0, ""], freed.stderr);
    for (const [args, error] of [
      [["call", "GET", "conversations", "--url", here.url], /a path begins with \//],
      [["call", "GET", "/none", "--url", here.url], /404/],
      [["call", "GET", "/blocks", "--role", "nobody", "--url", here.url], /403|no such role/],
      [["emit", "a", "message", "1", "--url", here.url], /400 Bad Request: event is one of the server's own/],
      [["emit", "a", "message", "1", "--adapter", postgres.url], /event is one of the server's own/],
      [["emit", `conversation:${LOBBY}`, "x", "--adapter", postgres.url], /the room of a conversation/],
      [["emit", "a", "x", "{", "--url", here.url], /not JSON/],
      [["emit", "a", "x", "--adapter"], /no adapter is configured/],
      [["emit", "a", "x", "--adapter", "mqtt://h"], /adapter\.url: expected .*nats:/],
      [["emit", "a", "x", "--adapter", "redis://127.0.0.1:1"], /no cluster secret is known: set adapter.secret/],
      [["emit", "a", "x", "--adapter", "redis://127.0.0.1:1", "--unsealed"], /the event was not sent: .*refused/],
      [["nodes", "--url", "http://192.0.2.1"], /use https/],
      [["nodes", "--url", here.url, "--token", "x"], /401/],
    ]) {
      const refused = run(...args);
      assert.notEqual(refused.status, 0, args.join(" "));
      assert.match(refused.stderr, error);
    }
  });
});
