// Spans of the real server, received by an HTTP server that decodes them with protobuf.js and the
// code that OpenTelemetry for JavaScript generates from the schemas of OTLP.
import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import otlp from "@opentelemetry/otlp-transformer/build/src/generated/root.js";
import { conversation, person, startServers } from "./chat_servers.mjs";
import { LOBBY, admin, call, enter, server } from "./people.mjs";
import { lastingPort } from "./processes.mjs";
import { startRedis } from "./redis.mjs";
import { ask, command, metric, metricIs, next, temporary, until } from "./support.mjs";

const { ExportTraceServiceRequest, ExportTraceServiceResponse } = otlp.opentelemetry.proto.collector.trace.v1;

/** A text that no span may contain. */
const CANARY = "canary-of-the-text";
/** The trace and the span that clients name. */
const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT = "00f067aa0ba902b7";
const sampled = { traceparent: `00-${TRACE}-${CLIENT}-01` };
const unsampled = { traceparent: `00-${TRACE}-${CLIENT}-00` };

const hex = (bytes) => Buffer.from(bytes ?? []).toString("hex");
const valueOf = ({ stringValue, intValue }) => stringValue ?? Number(intValue);
const record = (attributes) => Object.fromEntries(attributes.map(({ key, value }) => [key, valueOf(value)]));
const KINDS = ["unspecified", "internal", "server", "client", "producer", "consumer"];

/** Decodes a request. Fields that the schemas do not know would be lost, so it is encoded again. */
function decode(body) {
  const request = ExportTraceServiceRequest.decode(body);
  assert.deepEqual(Buffer.from(ExportTraceServiceRequest.encode(request).finish()).length, body.length);
  return request.resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ scope, spans }) =>
      spans.map((span) => ({
        resource: record(resource.attributes),
        scope: scope.name,
        trace: hex(span.traceId),
        id: hex(span.spanId),
        parent: hex(span.parentSpanId),
        name: span.name,
        kind: KINDS[span.kind],
        start: BigInt(span.startTimeUnixNano.toString()),
        end: BigInt(span.endTimeUnixNano.toString()),
        error: span.status?.code === 2 ? span.status.message : undefined,
        attributes: record(span.attributes),
      })),
    ),
  );
}

/**
 * Starts a collector that records what it accepts. `answer` takes the number of the request and the
 * response; the default accepts all spans.
 */
async function collector(t, answer = (_, response) => response.end(), port = 0) {
  const requests = [];
  const http = createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      requests.push({ path: request.url, headers: request.headers, body, spans: decode(body) });
      answer(requests.length, response);
    });
  });
  http.listen(port, "127.0.0.1");
  await once(http, "listening");
  const stop = () => {
    http.closeAllConnections();
    http.close();
  };
  t.after(stop);
  const all = () => requests.flatMap(({ spans }) => spans);
  return {
    url: `http://127.0.0.1:${http.address().port}/v1/traces`,
    requests,
    stop,
    all,
    named: (name) => all().filter((span) => span.name === name),
    /** Waits for this number of spans of a name, and returns them. */
    async spans(name, count = 1) {
      const found = () => all().filter((span) => span.name === name);
      await until(() => found().length >= count, () => `${count} of ${name} in ${all().map(({ name }) => name)}`);
      assert.equal(found().length, count, name);
      return found();
    },
  };
}

const exporting = (url, env = {}) => ({
  ROOMCAST_OTLP__URL: url,
  ROOMCAST_OTLP__INTERVAL: "50ms",
  ROOMCAST_OTLP__SAMPLE_RATIO: "0",
  ...env,
});

const exported = (result) => `roomcast_spans_total{result="${result}"}`;
const send = (socket, metadata, content = "hello") =>
  ask(socket, "message", { conversationId: LOBBY, content }, ...(metadata ? [metadata] : []));

/** Enters a chat and its lobby. No event of this is sampled. */
async function entered(t, url, name = "Ann") {
  const { socket } = await enter(t, url, { auth: { name } });
  await ask(socket, "join_conversation", { conversationId: LOBBY });
  return socket;
}

describe("spans of a message through two servers", () => {
  let redis;
  before(async () => (redis = await startRedis()));
  after(() => redis?.end());

  /** A receiver of webhooks, which records the headers. */
  async function hook(t) {
    const received = [];
    const http = createServer((request, response) => {
      const chunks = [];
      request.on("data", (chunk) => chunks.push(chunk));
      request.on("end", () => {
        received.push({ headers: request.headers, json: JSON.parse(Buffer.concat(chunks)) });
        response.writeHead(204).end();
      });
    });
    http.listen(0, "127.0.0.1");
    await once(http, "listening");
    t.after(() => http.close());
    return { url: `http://127.0.0.1:${http.address().port}/`, received };
  }

  async function setUp(t) {
    const [spans, hooks] = [await collector(t), await hook(t)];
    const env = exporting(spans.url, {
      ROOMCAST_ADAPTER__URL: `redis://${redis.address}`,
      ROOMCAST_WEBHOOKS__URL: hooks.url,
      ROOMCAST_WEBHOOKS__SECRET: "a secret of webhooks",
      ROOMCAST_WEBHOOKS__EVENTS: "message",
      ROOMCAST_WEBHOOKS__ALLOW_PRIVATE: "true",
    });
    const servers = await startServers(t, 2, {}, env);
    const people = [await person(t, servers[0], "ann"), await person(t, servers[1], "bob")];
    const conversationId = await conversation(people);
    for (const one of people) await one.must("join_conversation", { conversationId });
    for (const { url } of servers) await metricIs(url, "roomcast_nodes", (count) => count === 2);
    assert.deepEqual(spans.all(), []);
    return { spans, hooks, people, conversationId };
  }

  test("are one trace with the client's span at its root", async (t) => {
    const { spans, hooks, people, conversationId } = await setUp(t);
    const [ann, bob] = people;
    const arrived = next(bob.socket, "message");
    const { message } = await ask(ann.socket, "message", { conversationId, content: CANARY }, sampled);
    await arrived;
    const [event] = await spans.spans("event message");
    const [store] = await spans.spans("store message");
    const [announce] = await spans.spans("announce step");
    const [receive] = await spans.spans("receive step");
    const emits = await spans.spans("emit message", 2);
    const [queued] = await spans.spans("webhook message");
    const [delivered] = await spans.spans("deliver webhook");
    for (const span of spans.all()) {
      assert.equal(span.trace, TRACE);
      assert.ok(span.start <= span.end && span.error === undefined, JSON.stringify(span.name));
      assert.deepEqual([span.scope, span.resource["service.name"]], ["roomcast", "roomcast"]);
    }
    assert.equal(new Set(spans.all().map(({ id }) => id)).size, spans.all().length);
    // Who caused what, on which server.
    const node = (span) => span.resource["service.instance.id"];
    const here = node(event);
    const there = node(receive);
    assert.notEqual(here, there);
    const [own, other] = emits.sort((one) => (node(one) === here ? -1 : 1));
    assert.deepEqual(
      [event, store, announce, own, queued].map(({ parent }) => parent),
      [CLIENT, event.id, event.id, event.id, event.id],
    );
    assert.deepEqual([receive, other, delivered].map(({ parent }) => parent), [announce.id, receive.id, queued.id]);
    assert.deepEqual([store, announce, own, queued].map(node), Array(4).fill(here));
    assert.deepEqual(node(other), there);
    assert.deepEqual(
      [event, store, announce, receive, own, other, queued, delivered].map(({ kind }) => kind),
      ["server", "client", "producer", "consumer", "producer", "producer", "producer", "client"],
    );
    // What they say, and that it is no text.
    const { attributes } = event;
    assert.deepEqual(attributes, {
      "roomcast.event": "message",
      "roomcast.namespace": "/",
      "roomcast.socket": ann.socket.id,
      "roomcast.conversation": conversationId,
      "roomcast.outcome": "done",
      "user.id": "ann",
    });
    assert.deepEqual(store.attributes, { "db.system.name": "postgresql", "db.operation.name": "message" });
    for (const [emit, count] of [[own, 0], [other, 1]]) {
      assert.deepEqual(emit.attributes, {
        "roomcast.conversation": conversationId,
        "roomcast.message": message.id,
        "roomcast.seq": message.seq,
        "roomcast.queued": count,
        "roomcast.dropped": 0,
        "roomcast.closed": 0,
      });
    }
    // The receiver of the webhook can continue the trace.
    const { headers, json } = hooks.received[0];
    assert.equal(headers.traceparent, `00-${TRACE}-${delivered.id}-01`);
    assert.equal(json.events[0].traceparent, `00-${TRACE}-${queued.id}-01`);
    assert.equal(delivered.attributes["http.response.status_code"], 204);
    for (const { body } of spans.requests) {
      for (const secret of [CANARY, "eyJ", "a secret of webhooks"]) assert.ok(!body.includes(secret), secret);
    }
  });

  test("show the confirmations of its receivers", async (t) => {
    const { spans, people, conversationId } = await setUp(t);
    const [ann, bob] = people;
    bob.socket.on("message", (_, confirm) => confirm?.());
    const reported = next(ann.socket, "message_delivered");
    await ask(ann.socket, "message", { conversationId, content: CANARY, confirmDelivery: true }, sampled);
    await reported;
    const [event] = await spans.spans("event message");
    const [confirm] = await spans.spans("confirm message");
    const [announce] = await spans.spans("announce step");
    const [receive] = await spans.spans("receive step");
    assert.deepEqual([confirm.parent, announce.parent, receive.parent], [event.id, event.id, announce.id]);
    const { "roomcast.expected": expected, "roomcast.delivered": delivered } = confirm.attributes;
    assert.deepEqual([expected, delivered], [1, 1]);
  });
});

describe("sampling", () => {
  test("follows the ratio without a traceparent and never overrides the client", async (t) => {
    const spans = await collector(t);
    const env = exporting(spans.url, { ROOMCAST_OTLP__SAMPLE_RATIO: "1" });
    const { url } = await server(t, env);
    const socket = await entered(t, url);
    await send(socket, unsampled);
    await send(socket);
    // A restarted trace is like none.
    await send(socket, { traceparent: "00-nonsense" });
    const [one, two] = await spans.spans("event message", 2);
    assert.deepEqual([one.parent, two.parent], ["", ""]);
    assert.notEqual(one.trace, two.trace);
    assert.ok([one.trace, two.trace].every((trace) => trace !== TRACE));
    await ask(socket, `unknown ${CANARY}`, CANARY);
    const [unknown] = await spans.spans("event unknown");
    assert.equal(unknown.attributes["roomcast.outcome"], "NOT_FOUND");
    assert.ok(spans.requests.every(({ body }) => !body.includes(CANARY)));
    // The requests to the collector are in no trace.
    const count = spans.requests.length;
    await new Promise((done) => setTimeout(done, 500)); // Ten times the interval, without an event.
    assert.equal(spans.requests.length, count);
    assert.ok(spans.all().every(({ name }) => /^(event|store|emit) /.test(name)));
  });

  test("is not avoided with an invalid traceparent at connect", async (t) => {
    const spans = await collector(t);
    const { url } = await server(t, exporting(spans.url, { ROOMCAST_OTLP__SAMPLE_RATIO: "1" }));
    const auth = { name: "Ann", traceparent: "00-nonsense" };
    const { socket } = await enter(t, url, { auth });
    await ask(socket, "join_conversation", { conversationId: LOBBY });
    for (let n = 0; n < 2; n++) await send(socket);
    const [one, two] = await spans.spans("event message", 2);
    assert.deepEqual([one.parent, two.parent], ["", ""]);
    assert.notEqual(one.trace, two.trace);
  });

  test("of events names the client's span at connect as their parent", async (t) => {
    const spans = await collector(t);
    const { url } = await server(t, exporting(spans.url));
    const { socket } = await enter(t, url, { auth: { name: "Ann", ...sampled } });
    await send(socket);
    const [event] = await spans.spans("event message");
    assert.deepEqual([event.parent, event.trace], [CLIENT, TRACE]);
  });

  test("on request of clients is limited", async (t) => {
    const spans = await collector(t);
    const { url } = await server(t, exporting(spans.url, { ROOMCAST_OTLP__REQUESTED_PER_SECOND: "2" }));
    const socket = await entered(t, url);
    const begin = Date.now();
    for (let n = 0; n < 40; n++) await send(socket, sampled);
    const most = 3 + (2 * (Date.now() - begin)) / 1000;
    const [granted, denied] = await Promise.all(
      ["granted", "denied"].map((decision) => metric(url, `roomcast_sampling_requests_total{decision="${decision}"}`)),
    );
    assert.equal(granted + denied, 40);
    assert.ok(granted >= 2 && granted <= most, `${granted} of ${most}`);
    await spans.spans("event message", granted);
  });

  test("covers calls of the HTTP API, by route", async (t) => {
    const spans = await collector(t);
    const { url } = await server(t, exporting(spans.url));
    const path = `/api/v1/conversations/${LOBBY}/messages`;
    const headers = { authorization: `Bearer ${admin()}`, ...sampled };
    const response = await fetch(`${url}${path}?limit=1`, { headers });
    assert.equal(response.status, 200);
    const [route] = await spans.spans("GET /api/v1/conversations/{id}/messages");
    assert.deepEqual([route.parent, route.kind], [CLIENT, "server"]);
    assert.deepEqual(route.attributes, {
      "http.request.method": "GET",
      "http.route": "/api/v1/conversations/{id}/messages",
      "http.response.status_code": 200,
      "user.id": "root",
    });
    const stored = spans.all().filter(({ name }) => name.startsWith("store "));
    assert.ok(stored.length > 0 && stored.every(({ parent }) => parent === route.id));
    // A caller without a token cannot request spans.
    await fetch(`${url}${path}`, { headers: sampled });
    await call(url, "GET", path);
    assert.equal(await metric(url, `roomcast_sampling_requests_total{decision="granted"}`), 1);
  });
});

describe("a collector", () => {
  /** The time that a client waits for a message, in milliseconds. */
  async function slowest(socket, count) {
    let slowest = 0;
    for (let n = 0; n < count; n++) {
      const begin = performance.now();
      assert.equal((await send(socket, sampled)).success, true);
      slowest = Math.max(slowest, performance.now() - begin);
    }
    return slowest;
  }
  const busy = { ROOMCAST_OTLP__REQUESTED_PER_SECOND: "10000", ROOMCAST_OTLP__SPANS_PER_SECOND: "100000" };

  test("that is down delays no message, and its spans are dropped and counted", async (t) => {
    const port = await lastingPort();
    const env = exporting(`http://127.0.0.1:${port}/v1/traces`, { ...busy, ROOMCAST_OTLP__QUEUE: "20", ROOMCAST_OTLP__BATCH: "5" });
    const started = await server(t, env);
    const socket = await entered(t, started.url);
    await slowest(socket, 20);
    await metricIs(started.url, exported("queue_full"), (count) => count >= 30);
    await metricIs(started.url, exported("failed"), (count) => count >= 5);
    await until(() => /could not export spans.*cannot connect/.test(started.output()), "the warning");
    // It works again as soon as the collector does.
    const spans = await collector(t, undefined, port);
    await until(async () => (await metric(started.url, exported("exported"))) > 0, "an export");
    assert.ok(spans.all().length > 0);
  });

  test("that never answers delays neither messages nor the end of the server", async (t) => {
    const spans = await collector(t, () => {});
    const env = exporting(spans.url, { ...busy, ROOMCAST_OTLP__TIMEOUT: "60s", ROOMCAST_OTLP__QUEUE: "20", ROOMCAST_OTLP__BATCH: "5" });
    const started = await server(t, env);
    const socket = await entered(t, started.url);
    const waited = await slowest(socket, 30);
    assert.ok(waited < 5_000, `${waited} ms`);
    await metricIs(started.url, exported("queue_full"), (count) => count >= 30);
    const begin = Date.now();
    assert.equal(await started.stop(), 0);
    // The last export may take five seconds.
    assert.ok(Date.now() - begin < 15_000, `${Date.now() - begin} ms`);
  });

  test("gets spans again after 503 and never after 400", async (t) => {
    const answers = [503, 200, 400];
    const spans = await collector(t, (number, response) => response.writeHead(answers[number - 1] ?? 200).end());
    // All spans of a message are in one batch.
    const { url } = await server(t, exporting(spans.url, { ROOMCAST_OTLP__INTERVAL: "1s" }));
    const socket = await entered(t, url);
    await send(socket, sampled);
    await until(() => spans.requests.length === 2, "the second attempt");
    const [first, second] = spans.requests;
    assert.deepEqual(first.body, second.body);
    await metricIs(url, exported("exported"), (count) => count === first.spans.length);
    await send(socket, sampled);
    await metricIs(url, exported("rejected"), (count) => count > 0);
    assert.equal(spans.requests.length, 3);
    assert.equal(await metric(url, exported("failed")), 0);
  });

  test("that rejects some spans of a batch is counted", async (t) => {
    const partial = { partialSuccess: { rejectedSpans: 2, errorMessage: "too old" } };
    const body = ExportTraceServiceResponse.encode(ExportTraceServiceResponse.fromObject(partial)).finish();
    const spans = await collector(t, (_, response) => response.end(body));
    const { url } = await server(t, exporting(spans.url, { ROOMCAST_OTLP__INTERVAL: "1s" }));
    await send(await entered(t, url), sampled);
    await metricIs(url, exported("rejected"), (count) => count === 2);
    assert.equal(await metric(url, exported("exported")), spans.all().length - 2);
  });

  test("gets the headers of a file, whose content can be changed", async (t) => {
    const spans = await collector(t);
    const file = join(temporary(), "headers");
    writeFileSync(file, `authorization: Bearer first-${CANARY}\n`, { mode: 0o600 });
    const started = await server(t, exporting(spans.url, { ROOMCAST_OTLP__HEADERS_FILE: file }));
    const socket = await entered(t, started.url);
    await send(socket, sampled);
    await spans.spans("event message");
    writeFileSync(file, `authorization: Bearer second-${CANARY}\nx-tenant: a\n`);
    const before = spans.requests.length;
    await send(socket, sampled);
    await spans.spans("event message", 2);
    const { headers, path } = spans.requests[0];
    const expected = [`Bearer first-${CANARY}`, "application/x-protobuf", "/v1/traces"];
    assert.deepEqual([headers.authorization, headers["content-type"], path], expected);
    const later = spans.requests[before].headers;
    assert.deepEqual([later.authorization, later["x-tenant"]], [`Bearer second-${CANARY}`, "a"]);
    assert.ok(!started.output().includes(CANARY));
    // A file that everybody may read is refused at the start.
    chmodSync(file, 0o644);
    const { status, stdout, stderr } = command(["check-config"], exporting(spans.url, { ROOMCAST_OTLP__HEADERS_FILE: file }));
    assert.notEqual(status, 0);
    assert.match(stdout + stderr, /otlp\.headers_file.*every user of this machine can access the file/);
    assert.ok(!`${stdout}${stderr}`.includes(CANARY));
  });

  test("gets the last spans when the server stops", async (t) => {
    const spans = await collector(t);
    const started = await server(t, exporting(spans.url, { ROOMCAST_OTLP__INTERVAL: "60s" }));
    await send(await entered(t, started.url), sampled);
    assert.deepEqual(spans.all(), []);
    assert.equal(await started.stop(), 0);
    assert.equal(spans.named("event message").length, 1);
  });

  test("that is not configured leaves the flag of the client to others", async (t) => {
    const { url } = await server(t);
    await send(await entered(t, url), sampled);
    for (const result of ["exported", "rejected", "failed", "limited", "queue_full"]) {
      assert.equal(await metric(url, exported(result)), 0);
    }
    const { stdout } = command(["print-config"], { ROOMCAST_OTLP__URL: `https://c.example/v1/traces?key=${CANARY}` });
    assert.match(stdout, /\[otlp\]/);
    assert.ok(!stdout.includes(CANARY));
  });
});
