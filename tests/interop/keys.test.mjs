// Sources of keys at run time: files that change, and key servers that are down, slow, huge or
// hostile.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { enter, io, logged, refused, server } from "./people.mjs";
import { command, metricIs, next, open, temporary } from "./support.mjs";
import { SECRET, pair, token } from "./tokens.mjs";

/** Creates an authority and certificates issued by it: by name, `[cert, key]`. */
function authority(folder) {
  const openssl = (...args) => execFileSync("openssl", args, { stdio: "ignore" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const file = (name) => join(folder, name);
  openssl("req", "-x509", ...key, "-days", "2", "-subj", "/CN=ca", "-keyout", file("ca.key"), "-out", file("ca.pem"));
  const certify = (name) => {
    openssl("req", ...key, "-subj", `/CN=${name}`, "-keyout", file(`${name}.key`), "-out", file(`${name}.csr`));
    writeFileSync(file("ext"), `subjectAltName=DNS:${name}\nbasicConstraints=CA:FALSE\n`);
    const by = ["-CA", file("ca.pem"), "-CAkey", file("ca.key"), "-CAcreateserial"];
    const what = ["-req", "-in", file(`${name}.csr`), "-extfile", file("ext"), "-days", "2"];
    openssl("x509", ...what, ...by, "-out", file(`${name}.pem`));
    return { cert: readFileSync(file(`${name}.pem`)), key: readFileSync(file(`${name}.key`)) };
  };
  return { file: file("ca.pem"), certify };
}

/**
 * Starts a server of key sets, which answers as `answer` currently decides; with a certificate,
 * over TLS.
 */
async function keyServer(t, certificate) {
  const state = { asked: [], answer: (response) => response.end("{}"), waiting: 0, most: 0 };
  const answer = async (_, response) => {
    state.asked.push(Date.now());
    state.waiting += 1;
    state.most = Math.max(state.most, state.waiting);
    response.once("close", () => (state.waiting -= 1));
    await state.answer(response);
  };
  const web = certificate ? createSecureServer(certificate, answer) : createServer(answer);
  await new Promise((done) => web.listen(0, "localhost", done));
  t.after(() => {
    web.closeAllConnections();
    web.close();
  });
  state.url = `http${certificate ? "s" : ""}://localhost:${web.address().port}/jwks`;
  state.serve = (...pairs) => {
    state.answer = (response) => response.end(JSON.stringify({ keys: pairs.map(({ jwk }) => jwk) }));
  };
  return state;
}

/** Starts a server that knows only fetched keys. */
function fetching(t, keys, env = {}) {
  return server(t, { ROOMCAST_AUTH__JWT__SECRET: undefined, ROOMCAST_AUTH__JWT__JWKS_URL: keys.url, ...env });
}

const lax = { REFRESH: "ROOMCAST_AUTH__JWT__JWKS_REFRESH", TIMEOUT: "ROOMCAST_AUTH__JWT__JWKS_TIMEOUT" };
/** Variables with which keys are fetched repeatedly, and logged. */
const REFRESHED = { [lax.REFRESH]: "1s", ROOMCAST_LOG__LEVEL: "debug" };
const FETCHED = /the key set was fetched/;
/**
 * Timeouts: a second if the key server is to be too slow, otherwise more than a busy machine takes.
 */
const times = (reason) => ({ [lax.TIMEOUT]: reason === "took too long" ? "1s" : "20s" });
const HUGE = `{"keys":[],"x":"${"x".repeat(1 << 20)}"}`;

/** Bad answers, and the log line about each. */
const BAD = {
  "down": [(response) => response.destroy(), "no answer"],
  "failing": [(response) => response.writeHead(500).end(), "answered 500"],
  "no JSON": [(response) => response.end("<html>"), "not a JWK set"],
  "no key set": [(response) => response.end('{"keys":{}}'), "not a JWK set"],
  "a set with a broken key": [
    (response) => response.end('{"keys":[{"kty":"RSA","n":"!","e":"AQAB"}]}'),
    "key 0 of the set is broken",
  ],
  "a set without keys": [(response) => response.end('{"keys":[]}'), "no key of the set can be used"],
  "a set of keys that are of no use": [
    (response) => response.end('{"keys":[{"kty":"new"},{"kty":"oct","k":"AAAA"},{"kty":"EC","use":"enc"}]}'),
    "no key of the set can be used",
  ],
  "a set of too many keys": [
    (response) => response.end(JSON.stringify({ keys: Array(101).fill({ kty: "x" }) })),
    "more than 100 keys",
  ],
  "huge": [(response) => response.end(HUGE), "more than 262144 bytes"],
  "huge, and does not say so": [
    (response) => {
      response.on("error", () => {});
      for (let at = 0; at < HUGE.length; at += 1 << 16) response.write(HUGE.slice(at, at + (1 << 16)));
    },
    "more than 262144 bytes",
  ],
  "silent": [() => {}, "took too long"],
  "slow": [
    (response) => {
      response.write('{"keys":[');
      const drip = setInterval(() => response.write(" "), 50);
      response.once("close", () => clearInterval(drip));
    },
    "took too long",
  ],
};

describe("keys in a file", () => {
  test("keys of every kind in a file, replaced without a restart", async (t) => {
    const path = join(temporary(), "keys.json");
    const write = (text) => {
      writeFileSync(`${path}.new`, text);
      renameSync(`${path}.new`, path);
    };
    const pairs = ["RS256", "PS384", "ES256", "EdDSA"].map((algorithm) => pair(algorithm, algorithm));
    write(JSON.stringify({ keys: pairs.map(({ jwk }) => jwk) }));
    const started = await server(t, { ROOMCAST_AUTH__JWT__SECRET: SECRET, ROOMCAST_AUTH__JWT__KEYS_FILE: path });
    const { url } = started;
    for (const { token } of pairs) await enter(t, url, { auth: { token: token() } });
    const { socket } = await enter(t, url, { auth: { token: pairs[0].token() } });
    const fresh = pair("ES256", "fresh");
    write(JSON.stringify({ keys: [fresh.jwk] }));
    await logged(started, /key file reloaded/);
    assert.equal((await enter(t, url, { auth: { token: fresh.token() } })).session.userId, "ann");
    await refused(t, url, { auth: { token: pairs[0].token() } });
    assert.equal(socket.connected, true, "who is in stays in");
    write("{");
    await logged(started, /could not load the changed key file/);
    await enter(t, url, { auth: { token: fresh.token() } });
    await enter(t, url, { auth: { token: token() } });
    write('{"keys":[{"kty":"new"}]}');
    await logged(started, /no key of the set can be used/);
    await enter(t, url, { auth: { token: fresh.token() } });
    write('{"keys":[]}');
    await logged(started, /it is empty, all its previous keys are revoked/);
    await refused(t, url, { auth: { token: fresh.token() } }, "a key that its owner took back");
    await enter(t, url, { auth: { token: token() } });
  });

  test("are used beside the secret and a key server, whatever their ids", async (t) => {
    const path = join(temporary(), "keys.json");
    const [own, remote] = [pair("ES256", "same"), pair("ES256", "same")];
    const [nameless, other] = [pair("EdDSA"), pair("EdDSA")];
    writeFileSync(path, JSON.stringify({ keys: [own.jwk, nameless.jwk] }));
    const keys = await keyServer(t);
    keys.serve(remote, other);
    const env = { ROOMCAST_AUTH__JWT__KEYS_FILE: path, ROOMCAST_AUTH__JWT__JWKS_URL: keys.url };
    const { url } = await server(t, env);
    // The key of the set comes first: it must be fetched although the file has a key of its name.
    for (const good of [remote.token(), own.token(), token(), nameless.token(), other.token()]) {
      await enter(t, url, { auth: { token: good } });
    }
    await refused(t, url, { auth: { token: pair("ES256", "same").token() } });
  });
});

describe("a key server", () => {
  test("is queried once, again for an unknown kid, and its secrets are ignored", async (t) => {
    const keys = await keyServer(t);
    const first = pair("ES256", "first");
    const begun = Date.now();
    const started = fetching(t, keys, { [lax.TIMEOUT]: "60s" });
    keys.answer = async (response) => {
      const { url } = await started;
      // Not before all have sent their credentials.
      await metricIs(url, "roomcast_messages_received_total", (messages) => messages >= 20);
      const secret = { kty: "oct", kid: "oct", k: Buffer.from(SECRET).toString("base64url") };
      response.end(JSON.stringify({ keys: [first.jwk, secret] }));
    };
    const { url } = await started;
    const options = { auth: { token: first.token() }, transports: ["websocket"] };
    await Promise.all(Array.from({ length: 20 }, () => enter(t, url, options)));
    assert.equal(keys.asked.length, 1);
    await refused(t, url, { auth: { token: token({}, SECRET, { kid: "oct" }) } }, "a secret from the network");
    for (let n = 0; n < 20; n += 1) {
      await refused(t, url, { auth: { token: first.token({}, { kid: `unknown ${n}` }) } });
    }
    // This process may record a request late, but never early.
    const times = keys.asked.map((at) => at - begun);
    assert.ok(times.every((at, n) => at >= 4900 * n), `asked after ${times} ms`);
    assert.equal(keys.most, 1);
  });

  for (const [what, [answer, reason]] of Object.entries(BAD)) {
    test(`that is ${what} leaves the last good keys in force, and the log says why`, async (t) => {
      const keys = await keyServer(t);
      const first = pair("ES256", "first");
      keys.serve(first);
      const started = await fetching(t, keys, { ...REFRESHED, ...times(reason) });
      await logged(started, FETCHED);
      await enter(t, started.url, { auth: { token: first.token() } });
      keys.answer = answer;
      await logged(started, new RegExp(`could not fetch the key set.*reason="?${reason}`));
      await enter(t, started.url, { auth: { token: first.token() } });
      // An unknown key waits for the answer, but not forever, and is refused like any other.
      await refused(t, started.url, { auth: { token: pair("ES256", "other").token() } });
    });
  }

  test("that redirects elsewhere is not followed", async (t) => {
    const [keys, elsewhere] = [await keyServer(t), await keyServer(t)];
    const planted = pair("ES256", "planted");
    elsewhere.serve(planted);
    for (const status of [301, 302, 303, 307, 308]) {
      keys.answer = (response) => response.writeHead(status, { location: elsewhere.url }).end();
      const started = await fetching(t, keys);
      await logged(started, new RegExp(`could not fetch the key set.*reason="?answered ${status}`));
      await refused(t, started.url, { auth: { token: planted.token() } });
    }
    assert.equal(elsewhere.asked.length, 0);
  });

  test("that stays down is requested ever less often, despite many clients", async (t) => {
    const keys = await keyServer(t);
    keys.answer = (response) => response.destroy();
    const begun = Date.now();
    const started = await fetching(t, keys);
    for (const pause of ["1s", "2s", "4s"]) {
      await logged(started, new RegExp(`could not fetch the key set.*again_in=${pause}`));
      await refused(t, started.url, { auth: { token: pair("EdDSA", "any").token() } });
    }
    // This process may record a request late, but never early.
    const times = keys.asked.map((at) => at - begun);
    times.forEach((at, n) => assert.ok(at >= 990 * (2 ** n - 1), `${times} ms`));
    assert.equal(keys.most, 1);
  });

  test("that is down at startup is requested again", async (t) => {
    const keys = await keyServer(t);
    const first = pair("EdDSA", "first");
    keys.answer = (response) => response.destroy();
    const started = await fetching(t, keys);
    await logged(started, /could not fetch the key set/);
    keys.serve(first);
    const socket = open(t, io, started.url, { auth: { token: first.token() }, reconnection: false });
    socket.on("connect_error", async () => {
      await sleep(500); // Retry interval of a client.
      socket.connect();
    });
    const [session] = await next(socket, "session");
    assert.equal(session.userId, "ann");
  });

  test("over https is trusted if a configured authority signed its certificate", async (t) => {
    const ca = authority(temporary());
    const keys = await keyServer(t, ca.certify("localhost"));
    const first = pair("RS256", "first");
    keys.serve(first);
    const trusted = { ROOMCAST_AUTH__JWT__JWKS_CA_FILE: ca.file };
    const { url } = await fetching(t, keys, trusted);
    assert.equal((await enter(t, url, { auth: { token: first.token() } })).session.userId, "ann");

    const stranger = await fetching(t, keys);
    await logged(stranger, /could not fetch the key set.*cannot connect: .*certificate/);
    await refused(t, stranger.url, { auth: { token: first.token() } }, "by an authority that nobody knows");

    const other = await keyServer(t, ca.certify("other.example"));
    other.serve(first);
    const fooled = await fetching(t, other, trusted);
    await logged(fooled, /could not fetch the key set.*cannot connect: .*certificate/);
    await refused(t, fooled.url, { auth: { token: first.token() } }, "by a certificate of another name");
    assert.equal(other.asked.length, 0);

    const plain = await keyServer(t);
    const spoken = { url: plain.url.replace("http:", "https:") };
    await logged(await fetching(t, spoken, trusted), /could not fetch the key set.*cannot connect/);
    assert.equal(plain.asked.length, 0, "nothing is asked without TLS");
  });

  for (const what of ["failing", "no JSON", "huge", "slow"]) {
    test(`over https that is ${what} leaves the last good keys in force`, async (t) => {
      const [answer, reason] = BAD[what];
      const ca = authority(temporary());
      const keys = await keyServer(t, ca.certify("localhost"));
      const first = pair("ES256", "first");
      keys.serve(first);
      const env = { ...REFRESHED, ...times(reason), ROOMCAST_AUTH__JWT__JWKS_CA_FILE: ca.file };
      const started = await fetching(t, keys, env);
      await logged(started, FETCHED);
      await enter(t, started.url, { auth: { token: first.token() } });
      keys.answer = answer;
      await logged(started, new RegExp(`could not fetch the key set.*reason="?${reason}`));
      await enter(t, started.url, { auth: { token: first.token() } });
    });
  }

  test("without a full address prevents the start, with the reason", (t) => {
    const folder = temporary();
    writeFileSync(join(folder, "empty.pem"), "");
    const url = "ROOMCAST_AUTH__JWT__JWKS_URL";
    const ca = "ROOMCAST_AUTH__JWT__JWKS_CA_FILE";
    const good = "https://id.example/jwks";
    for (const [env, message] of [
      [{ [url]: "http://id.example/jwks" }, /use https/],
      [{ [url]: "id.example/jwks" }, /begins with https/],
      [{ [url]: "https://user:canary@id.example/jwks" }, /an address with a user name/],
      [{ [url]: good, [ca]: join(folder, "none.pem") }, /jwks_ca_file .*none\.pem: /],
      [{ [url]: good, [ca]: join(folder, "empty.pem") }, /jwks_ca_file .*empty\.pem: no certificate in it/],
      [{ [ca]: join(folder, "empty.pem") }, /jwks_ca_file has no effect without/],
    ]) {
      const checked = command(["check-config"], env);
      assert.equal(checked.status, 2, JSON.stringify(env));
      assert.match(checked.stderr, message);
      assert.ok(!checked.stderr.includes("canary"));
    }
  });
});
