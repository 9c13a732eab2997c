// Real proxies in front of the server: nginx and HAProxy, with stock clients behind them. A
// client's address is one of 127.0.0.0/8, and the address that the server derives is in its log.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { runProxy } from "./balancer.mjs";
import { ask, clients, lastingPort, next, startServer, until } from "./support.mjs";

const LOBBY = "00000000-0000-4000-8000-000000000001";
const OPEN = "/socket.io/?EIO=4&transport=polling";
/**
 * The clients' address. The proxies are at 127.0.0.1, a proxy in front of them at the other
 * address.
 */
const CLIENT = "127.0.0.5";
const OUTER = "127.0.0.9";
const guarded = { ROOMCAST_LIMITS__EXEMPT_LOOPBACK: "false", ROOMCAST_LIMITS__CONNECTS: "0" };
const trusting = { ...guarded, ROOMCAST_SERVER__TRUSTED_PROXIES: `127.0.0.1,${OUTER}` };
const folder = mkdtempSync(join(tmpdir(), "roomcast-proxies-"));
const [[, io]] = clients;
const running = [];

/** Runs a proxy until the tests have ended. */
async function run(command, args, ports) {
  running.push(await runProxy(command, args, ports));
}

const proxies = {};
let plain; // The server behind proxies that write headers.
let headed; // The server behind proxies that use the PROXY protocol.

before(async () => {
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  execFileSync("openssl", ["req", "-x509", ...kind, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
  const both = join(folder, "both.pem");
  writeFileSync(both, readFileSync(cert, "utf8") + readFileSync(key, "utf8"));

  plain = await startServer(trusting);
  headed = await startServer({ ...trusting, ROOMCAST_SERVER__PROXY_PROTOCOL: "true" });
  const [behind, behindHeader] = [plain, headed].map(({ url }) => url.replace("http://", ""));
  const names = ["nginx", "nginxTls", "haproxy", "haproxyForwarded", "haproxyV1", "haproxyV2", "haproxyTls"];
  for (const name of names) proxies[name] = await lastingPort();

  const pages = ["body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => {
    mkdirSync(join(folder, name));
    const directive = name === "body" ? "client_body_temp_path" : `${name}_temp_path`;
    return `${directive} ${join(folder, name)};`;
  });
  const pass = `location / {
      proxy_pass http://${behind};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_buffering off;
    }`;
  const nginx = join(folder, "nginx.conf");
  writeFileSync(
    nginx,
    `daemon off; worker_processes 1; pid ${join(folder, "nginx.pid")}; error_log stderr;
events { worker_connections 256; }
http {
  access_log off; ${pages.join(" ")}
  map $http_upgrade $connection_upgrade { default upgrade; '' close; }
  server { listen 127.0.0.1:${proxies.nginx}; ${pass} }
  server {
    listen 127.0.0.1:${proxies.nginxTls} ssl; ssl_certificate ${cert}; ssl_certificate_key ${key};
    ${pass}
  }
}\n`,
  );
  await run("nginx", ["-e", "stderr", "-p", folder, "-c", nginx], [proxies.nginx, proxies.nginxTls]);

  const haproxy = join(folder, "haproxy.cfg");
  const forwarded = `http-request set-header Forwarded "for=%[src];proto=http"`;
  const front = (name, mode, bind, lines) => `
listen ${name}
  mode ${mode}
  bind 127.0.0.1:${proxies[name]} ${bind}
  ${lines.join("\n  ")}`;
  writeFileSync(
    haproxy,
    `global
  maxconn 256
defaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 60s
${front("haproxy", "http", "", ["option forwardfor", `server s ${behind}`])}
${front("haproxyForwarded", "http", "", [forwarded, `server s ${behind}`])}
${front("haproxyV1", "tcp", "", [`server s ${behindHeader} send-proxy`])}
${front("haproxyV2", "tcp", "", [`server s ${behindHeader} send-proxy-v2`])}
${front("haproxyTls", "tcp", `ssl crt ${both}`, [`server s ${behindHeader} send-proxy-v2`])}\n`,
  );
  const ports = names.filter((name) => name.startsWith("haproxy")).map((name) => proxies[name]);
  await run("haproxy", ["-db", "-f", haproxy], ports);
});

after(async () => {
  for (const stop of running) await stop();
  for (const server of [plain, headed]) assert.equal(await server.stop(), 0);
  rmSync(folder, { recursive: true });
});

/** Waits until a server has logged a user's connection, and returns the logged address. */
async function addressOf(server, name) {
  const line = () => server.output().split("\n").find((text) => text.includes("connected") && text.includes(name));
  await until(line, () => `the connection of ${name} in\n${server.output()}`);
  return /address=\[?([0-9a-f.:]+?)\]?:\d+ /.exec(line())[1];
}

let count = 0;

/** Connects a stock client from this address, and returns the address that the server derived. */
async function comesFrom(t, server, url, { local = CLIENT, transports, headers } = {}) {
  const agent = new (url.startsWith("https") ? https : http).Agent({ localAddress: local, rejectUnauthorized: false });
  const guestKey = `guest-key-${String(++count).padStart(12, "0")}`;
  const options = { transports, extraHeaders: headers, agent, rejectUnauthorized: false };
  const socket = io(url, { forceNew: true, reconnection: false, auth: { name: "Ann", guestKey }, ...options });
  t.after(() => {
    socket.disconnect();
    agent.destroy();
  });
  const failed = new Promise((_, fail) => socket.once("connect_error", fail));
  const [session] = await Promise.race([next(socket, "session"), failed]);
  const { engine } = socket.io;
  if (engine.transport.name !== transports.at(-1)) await next(engine, "upgrade");
  assert.equal((await ask(socket, "join_conversation", LOBBY)).success, true);
  const sent = await ask(socket, "message", { conversationId: LOBBY, content: "x".repeat(9000) });
  assert.equal(sent.success, true);
  return addressOf(server, session.userId);
}

const KINDS = [["polling"], ["websocket"], ["polling", "websocket"]];
const FRONTS = [
  ["nginx with X-Forwarded-For", "nginx", "http", () => plain],
  ["nginx that ends TLS", "nginxTls", "https", () => plain],
  ["HAProxy with X-Forwarded-For", "haproxy", "http", () => plain],
  ["HAProxy with Forwarded", "haproxyForwarded", "http", () => plain],
  ["HAProxy with the PROXY protocol 1", "haproxyV1", "http", () => headed],
  ["HAProxy with the PROXY protocol 2", "haproxyV2", "http", () => headed],
  ["HAProxy that ends TLS, with the PROXY protocol 2", "haproxyTls", "https", () => headed],
];

for (const [title, name, scheme, server] of FRONTS) {
  describe(title, () => {
    for (const transports of KINDS) {
      test(`the client is the peer of the proxy, by ${transports.join(" and ")}`, async (t) => {
        const url = `${scheme}://127.0.0.1:${proxies[name]}`;
        assert.equal(await comesFrom(t, server(), url, { transports }), CLIENT);
      });
    }
  });
}

describe("forged headers", () => {
  test("entries that a client adds before the proxy's own entry are ignored", async (t) => {
    const headers = { "x-forwarded-for": "6.6.6.6, 127.0.0.1" };
    for (const name of ["nginx", "haproxy"]) {
      const url = `http://127.0.0.1:${proxies[name]}`;
      assert.equal(await comesFrom(t, plain, url, { transports: ["websocket"], headers }), CLIENT);
      assert.equal(await comesFrom(t, plain, url, { transports: ["polling"], headers }), CLIENT);
    }
    const url = `http://127.0.0.1:${proxies.haproxyForwarded}`;
    const forwarded = { forwarded: "for=6.6.6.6" };
    assert.equal(await comesFrom(t, plain, url, { transports: ["websocket"], headers: forwarded }), CLIENT);
  });

  test("a header that the proxy forwards does not change the client's address", async (t) => {
    // nginx does not process Forwarded. The two headers disagree, so the client counts as the
    // proxy.
    const url = `http://127.0.0.1:${proxies.nginx}`;
    const headers = { forwarded: "for=6.6.6.6" };
    assert.equal(await comesFrom(t, plain, url, { transports: ["websocket"], headers }), "127.0.0.1");
  });

  test("with the PROXY protocol headers are neither needed nor trusted", async (t) => {
    const url = `http://127.0.0.1:${proxies.haproxyV2}`;
    const headers = { "x-forwarded-for": "6.6.6.6", forwarded: "for=6.6.6.6" };
    assert.equal(await comesFrom(t, headed, url, { transports: ["websocket"], headers }), CLIENT);
  });

  test("headers of a peer that is not a proxy are ignored", async (t) => {
    const headers = { "x-forwarded-for": "6.6.6.6", forwarded: "for=6.6.6.6", "x-real-ip": "6.6.6.6" };
    for (const transports of KINDS) {
      assert.equal(await comesFrom(t, plain, plain.url, { transports, headers }), CLIENT);
    }
  });
});

describe("a chain of proxies", () => {
  /** Sends a handshake that the outer proxy forwards for a client to the proxy at this port. */
  function handshake(port, client) {
    return new Promise((done, fail) => {
      const headers = { "x-forwarded-for": client };
      const options = { host: "127.0.0.1", port, path: OPEN, localAddress: OUTER, headers };
      http.get(options, (answer) => answer.resume().on("end", () => done(answer.statusCode))).on("error", fail);
    });
  }

  test("the first address that is no proxy counts, for IPv6 its subscriber", async (t) => {
    const url = `http://127.0.0.1:${proxies.nginx}`;
    const headers = { "x-forwarded-for": "6.6.6.6, 2001:db8::5" };
    const options = { local: OUTER, transports: ["websocket"], headers };
    assert.equal(await comesFrom(t, plain, url, options), "2001:db8::5");
  });

  test("limits apply to the client behind all proxies", async (t) => {
    const strict = await startServer({ ...trusting, ROOMCAST_LIMITS__CONNECTS: "5" });
    t.after(() => strict.stop());
    const relay = await lastingPort();
    const config = join(folder, "strict.cfg");
    const listen = `listen relay\n  mode http\n  bind 127.0.0.1:${relay}\n  option forwardfor\n  server s ${strict.url.slice(7)}\n`;
    const times = "  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n";
    writeFileSync(config, `global\n  maxconn 64\ndefaults\n${times}${listen}`);
    await run("haproxy", ["-db", "-f", config], [relay]);
    for (let n = 1; n <= 5; n++) assert.equal(await handshake(relay, `2001:db8::${n}`), 200);
    assert.equal(await handshake(relay, "2001:db8::ffff"), 429);
    assert.equal(await handshake(relay, "2001:db8:0:1::1"), 200);
    for (let n = 1; n <= 5; n++) assert.equal(await handshake(relay, `6.6.6.${n}, 203.0.113.1`), 200);
    assert.equal(await handshake(relay, "6.6.6.6, 203.0.113.1"), 429);
    assert.equal(await handshake(relay, "203.0.113.2"), 200);
  });
});
