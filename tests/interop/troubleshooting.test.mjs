// Symptoms of docs/troubleshooting.md that proxies cause, each with a real proxy and a stock
// client.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { nginx, scattering } from "./balancer.mjs";
import { LOBBY, enter, io, server } from "./people.mjs";
import { ask, metric, next, open, outcome, temporary, until, within } from "./support.mjs";

/** A configuration of nginx in front of one server, with these lines. */
const proxied = (url, lines) => (port) =>
  `server { listen 127.0.0.1:${port}; location / { proxy_pass ${url}; proxy_set_header Host $http_host; ${lines} } }`;

const UPGRADES = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;";

describe("troubleshooting", { concurrency: true }, () => {
  test("without sticky sessions a polling client is refused", async (t) => {
    const nodes = [await server(t), await server(t)];
    const url = await scattering(t, nodes.map((node) => node.url));
    const path = `${url}/socket.io/?EIO=4&transport=polling`;
    // Requests alternate between the servers, so one of two finds the wrong server.
    const opened = await (await fetch(path)).text();
    const { sid } = JSON.parse(opened.slice(1));
    const answers = [];
    for (let n = 0; n < 2; n++) {
      const answer = await fetch(`${path}&sid=${sid}`, { method: "POST", body: "40" });
      answers.push(`${answer.status} ${await answer.text()}`);
    }
    assert.ok(answers.includes('400 {"code":1,"message":"Session ID unknown"}'), `${answers}`);
    const counted = await Promise.all(nodes.map((node) => metric(node.url, 'roomcast_requests_rejected_total{reason="session_id_unknown"}')));
    assert.ok(counted[0] + counted[1] >= 1, `${counted}`);
  });

  test("a proxy without Upgrade headers leaves clients on polling", async (t) => {
    const { url } = await server(t);
    const proxy = await nginx(t, [], proxied(url, ""));
    // The attempt can end before the session begins.
    const socket = open(t, io, proxy, { auth: { name: "Ann" } });
    const refused = new Promise((done) => socket.io.engine.once("upgradeError", done));
    await next(socket, "session");
    await within(refused, "the failed upgrade");
    assert.equal(socket.io.engine.transport.name, "polling");
    assert.equal((await ask(socket, "join_conversation", { conversationId: LOBBY })).success, true);
    const error = await outcome(open(t, io, proxy, { auth: { name: "Bob" }, transports: ["websocket"] }));
    assert.match(error.message, /websocket error/);
  });

  test("a proxy with a short timeout ends silent connections", async (t) => {
    const { url } = await server(t);
    const proxy = await nginx(t, [], proxied(url, `${UPGRADES} proxy_read_timeout 1s;`));
    const { socket } = await enter(t, proxy, { auth: { name: "Ann" }, transports: ["websocket"], reconnection: false });
    const [reason] = await next(socket, "disconnect");
    assert.equal(reason, "transport close");
    await until(async () => (await metric(url, 'roomcast_sessions_closed_total{reason="transport_close"}')) === 1, "the reason to be counted");
  });

  test("a proxy that buffers does not delay answers with a length", async (t) => {
    const { url } = await server(t);
    const proxy = await nginx(t, [], proxied(url, "proxy_http_version 1.1; proxy_buffering on; proxy_buffers 8 64k;"));
    const { socket: ann } = await enter(t, proxy, { auth: { name: "Ann" }, transports: ["polling"] });
    const { socket: bob } = await enter(t, url, { auth: { name: "Bob" }, transports: ["websocket"] });
    for (const socket of [ann, bob]) assert.equal((await ask(socket, "join_conversation", { conversationId: LOBBY })).success, true);
    const received = next(ann, "message");
    const started = Date.now();
    assert.equal((await ask(bob, "message", { conversationId: LOBBY, content: "hello" })).success, true);
    assert.equal((await received)[0].content, "hello");
    // Far less than the time for which a poll waits.
    assert.ok(Date.now() - started < 10_000, `${Date.now() - started} ms`);
  });

  test("a proxy that delays requests delays events of polling clients", async (t) => {
    const { url } = await server(t);
    const { socket: bob } = await enter(t, url, { auth: { name: "Bob" }, transports: ["websocket"] });
    assert.equal((await ask(bob, "join_conversation", { conversationId: LOBBY })).success, true);
    const rounds = 5;
    /**
     * Returns what nginx with a limit of requests logs, and after which sums of times its clients
     * get messages.
     */
    const measure = async (exempt) => {
      const log = join(temporary(), "error.log");
      const pass = `proxy_pass ${url}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $roomcast_connection;`;
      const limited = (port) => `map $http_upgrade $roomcast_connection { default upgrade; "" ""; }
  limit_req_zone $binary_remote_addr zone=all:1m rate=1r/s;
  server { listen 127.0.0.1:${port}; error_log ${log} warn; location / { limit_req zone=all burst=100; ${pass} } ${exempt(pass)} }`;
      const proxy = await nginx(t, [], limited);
      const waited = {};
      const sockets = [];
      for (const transport of ["polling", "websocket"]) {
        const { socket } = await enter(t, proxy, { auth: { name: transport }, transports: [transport] });
        assert.equal((await ask(socket, "join_conversation", { conversationId: LOBBY })).success, true);
        sockets.push(socket);
        waited[transport] = 0;
      }
      for (let n = 0; n < rounds; n++) {
        const sent = Date.now();
        const received = sockets.map((socket) => next(socket, "message").then(() => (waited[socket.io.engine.transport.name] += Date.now() - sent)));
        assert.equal((await ask(bob, "message", { conversationId: LOBBY, content: `${n}` })).success, true);
        await Promise.all(received);
      }
      for (const socket of sockets) socket.disconnect();
      return { ...waited, log: readFileSync(log, "utf8") };
    };
    const delayed = await measure(() => "");
    // Each message needs a poll of its own, and nginx passes one request per second.
    assert.ok(delayed.polling >= (rounds - 1) * 900, `${delayed.polling} ms`);
    assert.ok(delayed.websocket < delayed.polling / 2, `${delayed.websocket} of ${delayed.polling} ms`);
    assert.match(delayed.log, /delaying request/);
    const exempted = await measure((pass) => `location /socket.io/ { ${pass} }`);
    assert.doesNotMatch(exempted.log, /delaying request/);
    assert.ok(exempted.polling < delayed.polling / 2, `${exempted.polling} of ${delayed.polling} ms`);
  });
});
