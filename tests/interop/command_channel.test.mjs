// The command `roomcast channel` against a running server, with clients that follow.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MISSING, ORDER, TIME, event, follow, must, path, publish, record, service, settle, simple, user, withBackend } from "./channel_backend.mjs";
import { call, keyed } from "./people.mjs";
import { command, until } from "./support.mjs";

/** Returns functions that run a command at a server, and return its output or its refusal. */
function commandsAt(url) {
  const run = (...args) => command(["channel", ...args, "--url", url], keyed);
  const printed = (...args) => {
    const { status, stdout, stderr } = run(...args);
    assert.deepEqual([status, stderr], [0, ""], args.join(" "));
    return stdout;
  };
  return {
    printed,
    json: (...args) => JSON.parse(printed(...args)),
    lines: (...args) => printed("history", ...args).split("\n").slice(0, -1).map((line) => JSON.parse(line)),
    refused(...args) {
      const { status, stdout, stderr } = run(...args);
      assert.equal(stdout, "", args.join(" "));
      return [status, stderr.trim()];
    },
  };
}

/** Publishes events with these numbers as one list. Returns their positions. */
async function publishAll(url, channel, numbers) {
  const { status, body } = await call(url, "POST", path(channel, "events"), { events: numbers.map(event) }, service);
  assert.equal(status, 200, JSON.stringify(body));
  return body.positions;
}

const upTo = (count) => Array.from({ length: count }, (_, n) => n + 1);
const numbers = (events) => events.map(({ data }) => data.n);

describe("the command `channel`", () => {
  test("publish prints the position, which an id keeps", async (t) => {
    const { url } = await withBackend(t);
    const { json, lines } = commandsAt(url);
    const socket = await user(t, url, "7");
    const seen = record(socket);
    await follow(socket, ORDER);
    const first = json("publish", ORDER, "changed", '{"n": 1}', "--id", "one");
    assert.deepEqual(Object.keys(first), ["position"]);
    assert.deepEqual(json("publish", ORDER, "changed", '{"n": 2}', "--id", "one"), first);
    // Without an id, each event is another one.
    const others = [3, 3].map((n) => json("publish", ORDER, "changed", `{"n": ${n}}`).position);
    await until(() => seen.length === 3, () => JSON.stringify(seen));
    assert.deepEqual(seen, [1, 3, 3]);
    const events = lines(ORDER);
    assert.deepEqual(numbers(events), [1, 3, 3]);
    assert.deepEqual(events.map(({ position }) => position), [first.position, ...others]);
    const [{ timestamp, ...event }] = events;
    assert.deepEqual(event, { event: "changed", data: { n: 1 }, id: "one", position: first.position });
    assert.match(timestamp, TIME);
    assert.equal(new Set(events.map(({ id }) => id)).size, 3);
  });

  test("any name of a channel is one segment of the path", async (t) => {
    const { url } = await withBackend(t);
    const { json, lines } = commandsAt(url);
    const socket = await user(t, url, "7");
    for (const [n, part] of ["a b", "a/b", "a+b", "ä?b#c", "100%", "%41", "a&b=c"].entries()) {
      const channel = `orders:${part}:1`;
      const { position } = json("publish", channel, "changed", `{"n": ${n}}`);
      assert.deepEqual(lines(channel).map(({ data, position }) => [data.n, position]), [[n, position]], channel);
      assert.deepEqual(numbers((await must(socket, "channel:history", { channel })).events), [n], channel);
    }
  });

  test("history prints a line for each event, and follows pages of `--since`", async (t) => {
    const { url } = await withBackend(t);
    const { lines, refused } = commandsAt(url);
    assert.deepEqual(lines(ORDER), []);
    const positions = await publishAll(url, ORDER, upTo(120));
    assert.deepEqual(numbers(lines(ORDER)), upTo(120).slice(70));
    assert.deepEqual(numbers(lines(ORDER, "--limit", "3")), [118, 119, 120]);
    for (const limit of [[], ["--limit", "7"], ["--limit", "1"], ["--limit", "200"]]) {
      const events = lines(ORDER, "--since", positions[99], ...limit);
      assert.deepEqual(events.map(({ position }) => position), positions.slice(100), limit.join(" "));
    }
    assert.deepEqual(numbers(lines(ORDER, "--since", positions[0])), upTo(120).slice(1));
    assert.deepEqual(lines(ORDER, "--since", positions[119]), []);
    assert.deepEqual(numbers(lines(ORDER, "--before", positions[5], "--limit", "2")), [4, 5]);
    assert.deepEqual(numbers(lines(ORDER, "--before", positions[5])), upTo(5));
    assert.deepEqual(lines(ORDER, "--before", positions[0]), []);
    const [status, why] = refused("history", ORDER, "--since", positions[0], "--before", positions[5]);
    assert.equal(status, 2);
    assert.match(why, /'--since <SINCE>' cannot be used with '--before <BEFORE>'/);
  });

  test("position whose later events are no longer stored fails", async (t) => {
    const { url } = await withBackend(t);
    const { json, lines, refused } = commandsAt(url);
    const old = await publish(url, ORDER, 1);
    const { position } = json("delete", ORDER);
    await publish(url, ORDER, 2);
    assert.deepEqual(refused("history", ORDER, "--since", old), [1, "roomcast: some events after this position are no longer stored"]);
    assert.deepEqual(numbers(lines(ORDER, "--since", position)), [2]);
  });

  test("presence, revoke and delete print what the server answers", async (t) => {
    const { url, backend } = await withBackend(t);
    const { json, lines } = commandsAt(url);
    const channel = "desk:1";
    const sockets = [];
    for (const [sub, name] of [["7", "Ada"], ["8", "Bob"], ["8", "Bob"], ["9", "Eve"]]) sockets.push(await user(t, url, sub, { name }));
    const all = sockets.map(record);
    for (const socket of sockets) await follow(socket, channel);
    let present;
    await until(() => (present = json("presence", channel)).users.some(({ userId }) => userId === "9"), () => JSON.stringify(present));
    const users = present.users.map(({ since, ...rest }) => [rest, TIME.test(since)]);
    assert.deepEqual([present.channel, present.count, users], [channel, 3, [
      [{ userId: "7", name: "Ada", connections: 1 }, true],
      [{ userId: "8", name: "Bob", connections: 2 }, true],
      [{ userId: "9", name: "Eve", connections: 1 }, true],
    ]]);
    const ended = (...expected) => until(() => all.every(({ length }, n) => length >= expected[n]), () => JSON.stringify(all));
    assert.equal(json("revoke", channel, "--user", "8").missing, 0);
    await ended(0, 1, 1, 0);
    await publish(url, channel, 1);
    await ended(1, 1, 1, 1);
    for (const socket of sockets) await settle(socket);
    assert.deepEqual([all[0], all[3], new Set([...all[1], ...all[2]])], [[1], [1], new Set([`${channel} interrupted`])]);
    assert.equal(json("revoke", channel).missing, 0);
    await ended(2, 1, 1, 2);
    const before = backend.about(channel).length;
    for (const socket of sockets) await follow(socket, channel);
    assert.equal(backend.about(channel).length, before + 3);
    const counts = all.map(({ length }) => length + 1);
    const { position, ...more } = json("delete", channel);
    assert.deepEqual(more, {});
    await ended(...counts);
    for (const seen of all) assert.equal(seen.at(-1), `${channel} deleted`);
    assert.deepEqual(lines(channel), []);
    assert.deepEqual(lines(channel, "--since", position), []);
  });

  test("subscribe, unsubscribe and delete of an event change what clients receive", async (t) => {
    const { url } = await withBackend(t);
    const { json, lines } = commandsAt(url);
    const socket = await user(t, url, "7");
    const seen = record(socket);
    assert.deepEqual(json("subscribe", "rooms:1", "7"), { subscribed: 1, missing: 0 });
    await publish(url, "rooms:1", 1);
    await until(() => seen.length === 1, () => JSON.stringify(seen));
    assert.deepEqual(json("unsubscribe", "rooms:1", "7"), { ended: 1, missing: 0 });
    await until(() => seen.length === 2, () => JSON.stringify(seen));
    assert.deepEqual(seen, [1, "rooms:1 unsubscribed"]);
    await follow(socket, ORDER);
    const [first] = await publishAll(url, ORDER, [1, 2]);
    const own = await must(socket, "channel:publish", { channel: ORDER, ...event(1) });
    assert.deepEqual(json("delete", ORDER, "--event", "1"), { position: first });
    assert.deepEqual(numbers(lines(ORDER)), [2, 1]);
    assert.deepEqual(json("delete", ORDER, "--event", "1", "--user", "7"), { position: own.position });
    assert.deepEqual(numbers(lines(ORDER)), [2]);
  });

  test("refusal fails with the message of the server", async (t) => {
    const { url } = await withBackend(t);
    const { refused } = commandsAt(url);
    const missing = [1, "roomcast: 404 Not Found: no such channel"];
    for (const args of [["publish", MISSING, "changed", "1"], ["history", MISSING], ["presence", MISSING], ["revoke", MISSING], ["delete", MISSING],
      ["delete", MISSING, "--event", "1"], ["subscribe", MISSING, "7"], ["unsubscribe", MISSING, "7"]]) {
      assert.deepEqual(refused(...args), missing, args[0]);
    }
    for (const [args, code, why] of [
      [["publish", ORDER, "connect", "1"], 1, /^roomcast: 400 Bad Request: event is one of/],
      [["publish", ORDER, "changed", "1", "--id", ""], 1, /^roomcast: 400 Bad Request: id must have 1 to 128 characters/],
      [["publish", ORDER, "changed", JSON.stringify("x".repeat(16_384))], 1, /^roomcast: 400 Bad Request: data has more than 16384 bytes/],
      [["publish", ORDER, "changed", "{"], 2, /not JSON/],
      [["publish", ORDER, "changed"], 2, /<DATA>/],
      [["history", ORDER, "--since", "x"], 1, /^roomcast: 400 Bad Request: since is not a position/],
      [["history", ORDER, "--limit", "0"], 1, /^roomcast: 400 Bad Request: limit must be from 1 to 200/],
      [["delete", ORDER, "--event", "1"], 1, /^roomcast: 404 Not Found: the channel has no such event/],
      [["delete", ORDER, "--user", "7"], 2, /--event/],
      [["subscribe", ORDER, "7"], 1, /^roomcast: 409 Conflict: the kind of the channel has no rule `services`/],
      [["presence", ORDER], 1, /^roomcast: 409 Conflict: the channel has no presence/],
      [["delete", ORDER, "--token", simple.replace("Bearer ", "")], 1, /^roomcast: 403 Forbidden/],
      [["history", ORDER, "--token", "x"], 1, /^roomcast: 401 Unauthorized/],
    ]) {
      const [status, error] = refused(...args);
      assert.equal(status, code, args.join(" ").slice(0, 80));
      assert.match(error, why);
    }
  });
});
