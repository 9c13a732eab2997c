// Webhooks about channels: each kind chooses which, and the receiver gets them signed.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { call, enter, server } from "./people.mjs";
import { ask, command, temporary, until } from "./support.mjs";
import { token } from "./tokens.mjs";

const service = `Bearer ${token({ sub: "backend", roles: ["service"] })}`;
const KINDS = `
[channels.orders]
pattern = "orders:{order}"
follow = ["users"]
publish = ["services", "followers"]
webhooks = ["occupied", "vacated", "event"]
[channels.live]
pattern = "live:{n}"
follow = ["users"]
history = "none"
webhooks = ["event"]
[channels.quiet]
pattern = "quiet:{n}"
follow = ["users"]
`;

/** Starts a receiver of webhooks. Returns its URL and the events that it gets. */
async function startReceiver(t) {
  const events = [];
  const receiver = createServer((request, response) => {
    let body = "";
    request.on("data", (part) => (body += part));
    request.on("end", () => {
      const told = JSON.parse(body).events.filter(({ event }) => event.startsWith("channel."));
      events.push(...told.map(({ event, data }) => ({ event, ...data })));
      response.end();
    });
  });
  await new Promise((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  t.after(() => receiver.close());
  return { url: `http://127.0.0.1:${receiver.address().port}/`, events };
}

function configured(kinds = KINDS) {
  const config = join(temporary(), "roomcast.toml");
  writeFileSync(config, kinds);
  return config;
}

const WEBHOOKS = { ROOMCAST_WEBHOOKS__SECRET: "a secret of 32 bytes or more, for tests", ROOMCAST_WEBHOOKS__ALLOW_PRIVATE: "true" };

test("receiver gets what the kind of a channel chooses", async (t) => {
  const receiver = await startReceiver(t);
  const { url } = await server(t, { ROOMCAST_CONFIG: configured(), ROOMCAST_WEBHOOKS__URL: receiver.url, ...WEBHOOKS });
  const { socket } = await enter(t, url, { auth: { token: token({ sub: "7", roles: ["user"] }) } });
  const must = async (event, request) => {
    const answer = await ask(socket, event, request);
    assert.equal(answer.success, true, JSON.stringify(answer));
    return answer;
  };
  const events = async (channel, list) => {
    const { status, body } = await call(url, "POST", `/api/v1/channels/${channel}/events`, list, service);
    assert.equal(status, 200, JSON.stringify(body));
    return body;
  };
  for (const channel of ["orders:1", "live:1", "quiet:1"]) await must("channel:subscribe", { channel });
  const sent = { event: "changed", data: { n: 1 }, id: "1" };
  const { position } = await events("orders:1", sent);
  await events("orders:1", sent);
  const { positions } = await events("orders:1", { events: [{ ...sent, id: "2" }, { ...sent, id: "3" }] });
  const own = await must("channel:publish", { channel: "orders:1", ...sent, id: "4" });
  const live = await events("live:1", { ...sent, data: null });
  await events("quiet:1", sent);
  for (const channel of ["live:1", "quiet:1", "orders:1"]) await must("channel:unsubscribe", { channel });
  const orders = [position, ...positions, own.position].map((place, n) => ({ event: "changed", channel: "orders:1", data: { n: 1 }, position: place, id: `${n + 1}` }));
  const expected = [
    { event: "channel.occupied", channel: "orders:1" },
    ...orders,
    { event: "changed", channel: "live:1", data: null, position: live.position, id: "1" },
    { event: "channel.vacated", channel: "orders:1" },
  ];
  await until(() => receiver.events.length >= expected.length, () => JSON.stringify(receiver.events));
  const received = receiver.events.map(({ timestamp, ...rest }) => {
    assert.equal(timestamp !== undefined, rest.position !== undefined);
    return rest;
  });
  assert.deepEqual(received, expected);
});

test("webhooks of a kind need a receiver, and are of three kinds", () => {
  const check = (kinds) => command(["check-config", "--config", configured(kinds)]);
  const one = check('[channels.a]\npattern = "a"\nfollow = ["users"]\nwebhooks = ["event"]\n');
  assert.notEqual(one.status, 0);
  assert.match(one.stdout + one.stderr, /channels\.a\.webhooks needs a receiver: set webhooks\.url/);
  const other = check('[channels.a]\npattern = "a"\nfollow = ["users"]\nwebhooks = ["events"]\n');
  assert.match(other.stdout + other.stderr, /unknown variant/);
});
