// The work of an operator who has only the documentation, with the real programs: install two
// servers behind nginx, watch them, break and repair each part, find a lost message, back up and
// restore, upgrade, and erase a user.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { nginx } from "../interop/balancer.mjs";
import { vouched } from "../interop/certificates.mjs";
import { io } from "../interop/people.mjs";
import { startPostgres } from "../interop/postgres.mjs";
import { deployed, startAlertmanager, startPrometheus, startReceiver } from "../interop/prometheus.mjs";
import { startRedis } from "../interop/redis.mjs";
import { ask, lastingPort, next, open, temporary } from "../interop/support.mjs";
import { build, CONFIG, createMachine, FIRST, SECOND, SECRETS, workFolder } from "./machine.mjs";
import { must, read, start, until } from "./support.mjs";

/** The rules with shorter times. */
const rules = readFileSync(deployed("prometheus/rules.yml"), "utf8")
  .replace(/for: \d+[sm]/g, "for: 1s")
  .replace("interval: 15s", "interval: 1s")
  .replaceAll("[5m]", "[10s]");

/** What the steps share. */
const site = { connections: [] };

/** Sets values of the package's configuration, in the section that has the key. */
function configure(machine, section, values) {
  const path = machine.inside(CONFIG);
  let text = readFileSync(path, "utf8");
  for (const [key, value] of Object.entries(values)) {
    const line = `${key} = ${JSON.stringify(value)}`;
    const lines = text.split("\n");
    const header = lines.indexOf(`[${section}]`);
    const end = lines.findIndex((line, n) => n > header && line.startsWith("["));
    const old = lines.findIndex((line, n) => n > header && (n < end || end < 0) && line.startsWith(`${key} = `));
    if (header < 0) text += `\n[${section}]\n${line}\n`;
    else if (old >= 0) text = lines.with(old, line).join("\n");
    else text = lines.toSpliced(header + 1, 0, line).join("\n");
  }
  writeFileSync(path, text);
}

/** Runs a command of the server, which must succeed. */
function admin(node, ...args) {
  const { status, stdout, output } = node.server.asked("roomcast-admin", ...args);
  assert.equal(status, 0, `${args.join(" ")}: ${output}`);
  return stdout.trim();
}

/** Connects a user through nginx, with a token of the command line. */
async function enter(t, user, role = "user") {
  const token = admin(site.nodes[0], "token", "--sub", user, "--role", role);
  const socket = open(t, io, site.url, { transports: ["websocket"], reconnection: true, auth: { token } });
  const failed = new Promise((_, fail) => socket.once("connect_error", fail));
  await Promise.race([next(socket, "session"), failed]);
  for (const name of ["connect", "connect_error", "disconnect"]) {
    socket.on(name, (reason) => site.connections.push(`${user} ${name} ${reason?.message ?? reason} ${JSON.stringify(reason?.data)}`));
  }
  return socket;
}

const message = (content) => ["message", { conversationId: site.room, content }];

/** Returns what became of the connections of users, for errors. */
const connections = () => `\n${site.connections.join("\n")}`;

/** Sends a message until it is stored, as a client does that repeats what was not acknowledged. */
async function stored(socket, content) {
  const [name, payload] = message(content);
  const repeated = { ...payload, clientMessageId: randomUUID() };
  let last;
  const isStored = async () => {
    last = await socket.timeout(2_000).emitWithAck(name, repeated).catch((error) => ({ error: error.message }));
    return last.success;
  };
  await until(isStored, () => `${content} to be stored: ${JSON.stringify(last)} ${connections()}`);
}

/** Returns the lines of a query, as psql prints them. */
const query = (sql) => must("psql", ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", site.store, "-c", sql]).split("\n").filter(Boolean);

/** Returns the contents of all messages of the conversation. */
const contents = () => query(`SELECT content FROM messages WHERE conversation_id = '${site.room}' ORDER BY seq`);

const alerts = (name, status) =>
  site.receiver.received.flatMap(({ body }) => body.alerts).filter((alert) => alert.labels.alertname === name && alert.status === status);

/**
 * Waits for an alert while an action is repeated, and returns the section of the runbook that it
 * links.
 */
async function alerted(name, action = () => sleep(200)) {
  await until(async () => {
    await action();
    return alerts(name, "firing").length > 0;
  }, `the alert ${name}`);
  const [file, section] = alerts(name, "firing")[0].annotations.runbook_url.split("#");
  const text = read(file).split("\n## ").find((part) => part.toLowerCase().startsWith(`${section}\n`));
  for (const word of ["Symptom", "Meaning", "Check", "Fix"]) assert.match(text, new RegExp(`\\*\\*${word}\\.\\*\\*`), name);
  return text;
}

/** Waits for the end of an alert. */
const ended = (name) => until(() => alerts(name, "resolved").length > 0, `the end of ${name}`);

/** Installs and configures one server. */
async function install(t, name, package_) {
  const machine = createMachine(t);
  machine.install(package_);
  const [port, operators] = [await lastingPort(), await lastingPort()];
  configure(machine, "server", {
    listen: `127.0.0.1:${port}`,
    admin_listen: `127.0.0.1:${operators}`,
    drain: "5s",
    grace: "5s",
  });
  configure(machine, "adapter", { url: `redis://${site.redis.address}` });
  configure(machine, "node", { id: name, address: `http://127.0.0.1:${port}` });
  // All servers have one secret and one database.
  if (site.secrets) writeFileSync(machine.inside(SECRETS), site.secrets);
  else {
    appendFileSync(machine.inside(SECRETS), `ROOMCAST_STORE=${site.store}\n`);
    site.secrets = machine.read(SECRETS);
  }
  return { name, machine, url: `http://127.0.0.1:${port}`, operators: `127.0.0.1:${operators}` };
}

test("an operator runs two servers by the documentation", async (t) => {
  /** Runs a step, without which the later ones have no meaning. */
  const step = async (name, run) => {
    let isDone = false;
    await t.test(name, async () => {
      await run();
      isDone = true;
    });
    assert.ok(isDone, name);
  };

  await step("install two servers behind nginx with PostgreSQL and Redis", async () => {
    const work = workFolder(t);
    site.packages = [FIRST, SECOND].map((version) => build(work, version));
    [site.postgres, site.redis] = await Promise.all([startPostgres(), startRedis()]);
    t.after(() => site.postgres.end());
    t.after(() => site.redis.end());
    site.postgres.query("CREATE DATABASE chat");
    site.store = site.postgres.url.replace(/\/\w+$/, "/chat");
    site.nodes = [await install(t, "chat-1", site.packages[0]), await install(t, "chat-2", site.packages[0])];
    for (const node of site.nodes) {
      const checked = node.machine.chroot("roomcast-admin", "check-config", "--connect");
      assert.equal(checked.status, 0, checked.output);
      node.server = await node.machine.serve(t);
      assert.equal(admin(node, "health"), "ready");
    }
    await until(() => JSON.parse(admin(site.nodes[0], "nodes")).nodes.length === 2, "both servers in one cluster");
    site.url = await nginx(t, site.nodes.map(({ url }) => url));
    const [ann, bob] = [await enter(t, "ann"), await enter(t, "bob")];
    const made = await ask(ann, "create_conversation", { title: "desk", memberIds: ["bob"] });
    assert.ok(made.success, JSON.stringify(made));
    site.room = made.conversation.id;
    await ask(bob, "join_conversation", { conversationId: site.room });
    const received = next(bob, "message");
    await stored(ann, "first");
    assert.equal((await received)[0].content, "first");
    Object.assign(site, { ann, bob });
  });

  await step("watch both servers", async () => {
    site.receiver = await startReceiver(t);
    const alertmanager = await startAlertmanager(t, site.receiver.url);
    site.prometheus = await startPrometheus(t, { targets: site.nodes.map(({ operators }) => operators), rules, alertmanager });
    await until(async () => (await site.prometheus.query("up == 1")).length === 2, "both servers to be scraped");
    const connections = await site.prometheus.query("sum(roomcast_connections)");
    assert.equal(Number(connections[0].value[1]), 2);
  });

  await step("the database stops: the alert, the check of the runbook, the repair", async () => {
    await site.postgres.stop();
    const runbook = await alerted("RoomcastStoreUnavailable", () => ask(site.ann, ...message("unstored")));
    assert.match(runbook, /`roomcast check-config\s+--connect`/);
    const checked = site.nodes[0].machine.chroot("roomcast-admin", "check-config", "--connect");
    assert.equal(checked.status, 1, checked.output);
    assert.match(checked.output, /store/);
    await site.postgres.start();
    await ended("RoomcastStoreUnavailable");
    await stored(site.ann, "after the database");
  });

  await step("the broker stops", async () => {
    await site.redis.kill();
    await alerted("RoomcastAdapterUnavailable");
    const checked = site.nodes[0].machine.chroot("roomcast-admin", "check-config", "--connect");
    assert.equal(checked.status, 1, checked.output);
    assert.match(checked.output, /adapter/);
    await site.redis.start();
    await ended("RoomcastAdapterUnavailable");
    await stored(site.ann, "after the broker");
  });

  await step("the disk of the database is full", async () => {
    const disk = mkdtempSync(join(tmpdir(), "disk-"));
    must("mount", ["-t", "tmpfs", "-o", "size=64m,mode=0700,uid=postgres", "tmpfs", disk]);
    t.after(() => {
      must("umount", ["--lazy", disk]);
      rmSync(disk, { recursive: true });
    });
    query(`CREATE TABLESPACE small LOCATION '${disk}'`);
    query("ALTER TABLE messages SET TABLESPACE small");
    query("CREATE UNLOGGED TABLE filler (text text) TABLESPACE small; ALTER TABLE filler ALTER text SET STORAGE EXTERNAL");
    const fill = () => query("INSERT INTO filler SELECT repeat('x', 7000) FROM generate_series(1, 20)");
    assert.throws(() => { for (;;) fill(); }, /No space left on device/);
    const long = "x".repeat(4000);
    // Free space in the last page is used up first.
    await alerted("RoomcastStoreUnavailable", () => ask(site.ann, ...message(long)));
    query("DROP TABLE filler");
    query("CHECKPOINT");
    await stored(site.ann, "after the disk");
    query("ALTER TABLE messages SET TABLESPACE pg_default");
  });

  await step("a certificate expires soon", async () => {
    const node = site.nodes[1];
    const given = node.machine.read(CONFIG);
    const path = (name) => `/etc/roomcast/${name}.pem`;
    /** Replaces both files, each at once. */
    const renew = (days) => {
      for (const [name, file] of Object.entries(vouched("DNS:localhost", { days }))) {
        must("install", ["-m", "640", file, node.machine.inside(`${path(name)}.new`)]);
        node.machine.mustChroot("chgrp", "roomcast", `${path(name)}.new`);
        node.machine.mustChroot("mv", `${path(name)}.new`, path(name));
      }
    };
    renew(1);
    configure(node.machine, "server.tls", { cert_file: path("cert"), key_file: path("key") });
    await node.server.stop();
    node.server = await node.machine.serve(t);
    await alerted("RoomcastCertificateExpires");
    renew(90);
    await ended("RoomcastCertificateExpires");
    await node.server.stop();
    writeFileSync(node.machine.inside(CONFIG), given);
    node.server = await node.machine.serve(t);
  });

  await step("a user misses a message: the cause is found", async () => {
    await until(() => site.bob.connected && site.ann.connected, () => `both clients to be connected again ${connections()}`);
    const removed = await ask(site.ann, "remove_member", { conversationId: site.room, userId: "bob" });
    assert.ok(removed.success, JSON.stringify(removed));
    const tracers = site.nodes.map(({ machine }) =>
      start(t, "chroot", [machine.inside("/"), "roomcast-admin", "trace", "--user", "bob", "--for", "1m"]));
    for (const tracer of tracers) await until(() => tracer.output().includes('"tracing"'), () => `a trace: ${tracer.output()}`);
    const refused = await ask(site.bob, ...message("lost"));
    assert.equal(refused.success, false);
    // The handler of the message has refused it, with this code.
    const isRefused = (line) => line.includes('"handler_ended"') && line.includes(`"${refused.error.code}"`);
    for (const tracer of tracers) {
      await until(() => tracer.output().split("\n").some(isRefused), () => `the refusal: ${tracer.output()}`);
      assert.doesNotMatch(tracer.output(), /lost/, "a trace has no texts");
    }
    const why = site.nodes[0].server.asked("roomcast-admin", "explain", "--user", "bob", "--event", "message", "--room", site.room);
    assert.equal(why.status, 3, why.output);
    assert.match(why.output, /member/);
    await ask(site.ann, "add_member", { conversationId: site.room, userId: "bob" });
    await stored(site.bob, "found");
  });

  await step("back up, destroy and restore the database", async () => {
    const dump = join(temporary(), "chat.dump");
    await stored(site.ann, "before the backup");
    const before = contents();
    must("pg_dump", ["--format=custom", `--file=${dump}`, site.store]);
    await stored(site.ann, "after the backup");
    for (const node of site.nodes) await node.server.stop();
    site.postgres.query("DROP DATABASE chat");
    site.postgres.query("CREATE DATABASE chat");
    must("pg_restore", ["--exit-on-error", "--single-transaction", `--dbname=${site.store}`, dump]);
    for (const node of site.nodes) node.server = await node.machine.serve(t);
    assert.deepEqual(contents(), before);
    await stored(site.ann, "after the restore");
  });

  await step("upgrade one server after the other while users chat", async () => {
    const acknowledged = [];
    let isOver = false;
    const chatting = (async () => {
      for (let n = 0; !isOver; n++) {
        await stored(site.ann, `during the upgrade ${n}`);
        acknowledged.push(`during the upgrade ${n}`);
        await sleep(50); // A user's pace.
      }
    })();
    for (const node of site.nodes) {
      node.machine.install(site.packages[1]);
      await node.server.stop();
      node.server = await node.machine.serve(t);
      assert.equal(node.machine.mustChroot("dpkg-query", "-W", "-f", "${Version}", "roomcast"), SECOND);
    }
    isOver = true;
    await chatting;
    const found = contents().filter((content) => content.startsWith("during"));
    assert.deepEqual(found, acknowledged);
    await until(() => site.ann.connected && site.bob.connected, () => `both clients to be connected again ${connections()}`);
  });

  await step("export and erase a user", async () => {
    const [node] = site.nodes;
    await stored(site.bob, "bob's last words");
    const exported = admin(node, "export-user", "bob").split("\n").map((line) => JSON.parse(line));
    assert.ok(exported.some(({ data }) => JSON.stringify(data).includes("bob's last words")), JSON.stringify(exported));
    admin(node, "erase-user", "bob", "--messages", "remove");
    await until(() => !site.bob.connected, "the user to be disconnected");
    assert.deepEqual(query("SELECT seq FROM messages WHERE user_id = 'bob' OR content LIKE 'bob%'"), []);
    const audit = admin(node, "audit", "--operation", "eraseUser").split("\n").map((line) => JSON.parse(line));
    assert.equal(audit[0].target, "/users/bob");
    assert.equal(audit[0].outcome, "done");
    assert.match(audit[0].statedUser, /^roomcast\((root|\w+)\)@/);
  });
});
