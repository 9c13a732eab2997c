// Commands that explain permissions, and commands that create and show credentials.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { LOBBY, admin, call, enter, keyed, logged, refused, server } from "./people.mjs";
import { ask, command, open, startServer, temporary } from "./support.mjs";
import { SECRET, now, pair, token } from "./tokens.mjs";

describe("explain", () => {
  test("names the rule, over HTTP and on the command line", async (t) => {
    const env = { ROOMCAST_STORE: `sqlite:${join(temporary(), "chat.db")}` };
    const { url } = await server(t, env);
    const why = async (user, event, room) => {
      const query = new URLSearchParams({ user, event, ...(room && { room }) });
      const answer = await call(url, "GET", `/api/v1/explain?${query}`);
      assert.equal(answer.status, 200, JSON.stringify(answer));
      return answer.body;
    };
    await enter(t, url, { auth: { token: token({ sub: "nobody", roles: ["visitor"] }) } });
    const allowed = await why("ann", "message", `conversation:${LOBBY}`);
    assert.equal(allowed.allowed, true);
    assert.match(allowed.rule, /^auth\.roles\.user\.permissions: chat:send; and members of the conversation/);
    const stranger = await why("ann", "message", "conversation:00000000-0000-4000-8000-00000000ffff");
    assert.equal(stranger.allowed, false);
    assert.match(stranger.rule, /members of the conversation/);
    const powerless = await why("nobody", "message");
    assert.deepEqual([powerless.allowed, powerless.roles], [false, ["visitor"]]);
    assert.match(powerless.rule, /none of the roles grants chat:send; these do: admin, ai, coach, guest, service, user/);
    assert.match((await why("ann", "nonsense")).rule, /no such event/);
    await call(url, "POST", "/api/v1/revocations", { userId: "bob" });
    assert.match((await why("bob", "message")).rule, /the user is revoked/);
    const args = ["explain", "--user", "bob", "--event", "message"];
    const revoked = command(args, { ...keyed, ...env });
    assert.equal(revoked.status, 3, revoked.stderr);
    assert.match(revoked.stdout, /^refused: the user is revoked\n/);
    const flags = ["explain", "--user", "ann", "--event", "message", "--room", LOBBY, "--role", "coach"];
    const own = command(flags, { ...keyed, ...env });
    assert.match(own.stdout, /^allowed: auth\.roles\.user\.permissions: chat:send/, own.stderr);
    assert.equal((await call(url, "GET", "/api/v1/explain?user=ann")).status, 400);
  });

  test("finds the author of a message, over HTTP and on the command line", async (t) => {
    const env = { ROOMCAST_STORE: `sqlite:${join(temporary(), "chat.db")}` };
    const { url } = await server(t, env);
    const { socket } = await enter(t, url, { auth: { token: token() } });
    const { conversation } = await ask(socket, "create_conversation", { memberIds: ["bob"] });
    const sent = await ask(socket, "message", { conversationId: conversation.id, content: "hi" });
    const message = sent.message.id;
    await enter(t, url, { auth: { token: token({ sub: "mod", roles: ["admin"] }) } });
    const why = async (user, event, more = {}) => {
      const query = new URLSearchParams({ user, event, message, ...more });
      const answer = await call(url, "GET", `/api/v1/explain?${query}`);
      assert.equal(answer.status, 200, JSON.stringify(answer));
      return [answer.body.allowed, answer.body.rule];
    };
    const elsewhere = { room: `conversation:${LOBBY}` };
    for (const [user, event, more, allowed, rule] of [
      ["ann", "edit_message", {}, true, /^auth\.roles\.user\.permissions: chat:send; and the message's author.*: the user wrote it$/],
      ["ann", "delete_message", { room: conversation.id }, true, /the user wrote it$/],
      ["bob", "edit_message", {}, false, /the message's author, or a user with `chat:moderate`: `ann` wrote it$/],
      ["bob", "delete_message", {}, false, /`ann` wrote it$/],
      ["carl", "edit_message", {}, false, /the user is not a member, or the conversation does not exist$/],
      ["mod", "delete_message", {}, true, /`ann` wrote it, and the user has chat:moderate$/],
      ["ann", "edit_message", elsewhere, false, /the message is in another conversation$/],
      ["ann", "edit_message", { message: LOBBY }, false, /there is no such message$/],
      ["bob", "mark_read", {}, true, /members of the conversation: the user is one$/],
      ["bob", "add_member", {}, false, /the conversation's owner, or a user with `chat:moderate`: the user is not$/],
      ["mod", "add_member", {}, true, /the user has chat:moderate$/],
      ["bob", "remove_member", {}, true, /the user may remove only itself$/],
      ["ann", "remove_member", {}, true, /the user is the owner$/],
      ["mod", "remove_member", {}, true, /the user has chat:moderate$/],
      ["carl", "remove_member", {}, false, /the user is not a member, or the conversation does not exist$/],
    ]) {
      const answer = await why(user, event, more);
      assert.equal(answer[0], allowed, `${user} ${event}: ${answer[1]}`);
      assert.match(answer[1], rule, `${user} ${event}`);
    }
    for (const event of ["delete_conversation", "create_invite", "revoke_invites"]) {
      const open = await call(url, "GET", `/api/v1/explain?user=mod&event=${event}&room=${LOBBY}`);
      assert.equal(open.body.allowed, false, event);
      assert.match(open.body.rule, /a conversation that is open to everyone cannot be deleted and needs no invitations$/);
    }
    const kick = async (user) => (await call(url, "GET", `/api/v1/explain?user=${user}&event=admin:kick`)).body;
    assert.equal((await kick("mod")).allowed, true);
    await enter(t, url, { auth: { token: token({ sub: "bot", roles: ["service"] }) } });
    assert.deepEqual((await kick("bot")).allowed, false);
    assert.match((await kick("bot")).rule, /^none of the roles grants admin, which \/admin wants$/);
    const explain = (...more) => command(["explain", "--event", "edit_message", ...more], { ...keyed, ...env }).stdout;
    assert.match(explain("--user", "bob", "--message", message), /^refused: the message's author.*`ann` wrote it\n/);
    assert.match(explain("--user", "ann", "--message", message), /^allowed: .*the user wrote it\n/);
    const offered = await ask(socket, "delete_message", { messageId: message });
    assert.equal(offered.success, true, JSON.stringify(offered));
    assert.deepEqual((await why("ann", "edit_message"))[0], false, "a deleted message is not edited");
    for (const event of ["edit_message", "add_reaction", "remove_reaction", "pin_message", "unpin_message"]) {
      assert.match((await why("ann", event))[1], /the message is deleted$/, event);
    }
    assert.equal((await call(url, "GET", "/api/v1/explain?user=a&event=edit_message&message=7")).status, 400);
  });

  test("roles are configuration", async (t) => {
    const env = {
      ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "",
      ROOMCAST_AUTH__ROLES__GUEST__PERMISSIONS: "chat:read",
      ROOMCAST_AUTH__ROLES__OPERATOR__INHERITS: "service",
    };
    const { url } = await server(t, env);
    const { socket } = await enter(t, url, { auth: { name: "Ada" } });
    const sent = await ask(socket, "message", { conversationId: LOBBY, content: "hi" });
    assert.equal(sent.error.code, "FORBIDDEN");
    assert.equal((await ask(socket, "join_conversation", LOBBY)).success, true);
    const operator = `Bearer ${token({ roles: ["operator"] })}`;
    assert.equal((await call(url, "POST", "/api/v1/sessions", { userId: "x", ttlSeconds: 9 }, operator)).status, 201);
    for (const wrong of [
      { ROOMCAST_AUTH__ROLES__A__INHERITS: "b" },
      { ROOMCAST_AUTH__ROLES__USER__PERMISSIONS: "chat:sing" },
    ]) {
      const checked = command(["check-config"], wrong);
      assert.equal(checked.status, 2);
      assert.match(checked.stderr, /the roles are invalid: .*(role `b` is inherited|chat:sing)/);
    }
  });
});

describe("commands", () => {
  test("token prints only a token, and the server accepts it", async (t) => {
    const { url } = await server(t);
    const minted = command(["token", "--sub", "ann", "--role", "coach", "--role", "user", "--ttl", "2h"], keyed);
    assert.equal(minted.status, 0, minted.stderr);
    assert.equal(minted.stderr, "");
    assert.match(minted.stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    const { session } = await enter(t, url, { auth: { token: minted.stdout.trim() } });
    assert.deepEqual([session.userId, session.roles], ["ann", ["coach", "user"]]);
    const hours = (Date.parse(session.expiresAt) - Date.now()) / 3_600_000;
    assert.ok(hours > 1.9 && hours <= 2, `${hours} hours`);
    assert.equal(command(["token", "--sub", "ann", "--ttl", "soon"], keyed).status, 2);
  });

  test("only development accepts the key of this machine's user", async (t) => {
    const development = await startServer();
    t.after(() => development.stop());
    const minted = command(["token", "--sub", "ann"]);
    assert.equal(minted.status, 0, minted.stderr);
    const { session } = await enter(t, development.url, { auth: { token: minted.stdout.trim() } });
    assert.deepEqual(session.roles, ["user"]);
    const production = command(["token", "--sub", "ann", "--profile", "production"]);
    assert.equal(production.status, 2);
    assert.equal(production.stdout, "");
    assert.match(production.stderr, /ROOMCAST_AUTH__JWT__SECRET/);
    const started = await startServer({ ROOMCAST_PROFILE: "production" });
    t.after(() => started.stop());
    await refused(t, started.url, { auth: { token: minted.stdout.trim() } });
    await logged(started, /no token is accepted, since no key is configured: set ROOMCAST_AUTH__JWT__SECRET/);
  });

  test("programs of the tutorial sign tokens of services, also for number ids", async (t) => {
    const page = readFileSync(new URL("../../docs/tutorials/backend.md", import.meta.url), "utf8");
    const programs = ["js", "python"].map((language) => {
      const blocks = page.split(`\`\`\`${language}\n`).slice(1).map((block) => block.split("```")[0]);
      return blocks.find((block) => /hmac/i.test(block));
    });
    const { url } = await server(t);
    const run = (program, args) => execFileSync(program, args, { env: { ...process.env, SECRET }, encoding: "utf8" }).trim();
    const [js, python] = programs;
    const numbered = `${python.split("\nprint(")[0]}\nprint(sign(7, ["service"]))`;
    for (const [signed, subject] of [
      [run(process.execPath, ["--input-type=module", "-e", js]), "orders"],
      [run("python3", ["-c", python]), "orders"],
      [run("python3", ["-c", numbered]), "7"],
    ]) {
      const { session } = await enter(t, url, { auth: { token: signed } });
      assert.deepEqual([session.userId, session.roles], [subject, ["service"]]);
    }
  });

  test("token refuses claims that no server accepts, with the remedy", (t) => {
    const folder = temporary();
    const keys = join(folder, "keys.json");
    writeFileSync(keys, JSON.stringify({ keys: [pair("RS256", "rsa").jwk] }));
    const exposed = join(folder, "roomcast");
    mkdirSync(exposed);
    writeFileSync(join(exposed, "development.key"), "x".repeat(48));
    chmodSync(join(exposed, "development.key"), 0o644);
    const jwt = (name) => `ROOMCAST_AUTH__JWT__${name}`;
    const production = { ROOMCAST_PROFILE: "production" };
    const shortLived = { ...keyed, [jwt("MAX_LIFETIME")]: "10m" };
    const ann = ["--sub", "ann"];
    for (const [args, env, message] of [
      [[], keyed, /--sub/],
      [["--sub", ""], keyed, /--sub must have 1 to 128 characters/],
      [["--sub", "a\nb"], keyed, /--sub must have 1 to 128 characters/],
      [["--sub", "x".repeat(129)], keyed, /--sub must have 1 to 128 characters/],
      [[...ann, "--name", "a\nb"], keyed, /servers would refuse this token: malformed claim name/],
      [[...ann, "--ttl", "0s"], keyed, /from one second to ten years/],
      [[...ann, "--ttl", "11years"], keyed, /from one second to ten years/],
      [[...ann, "--role", "boss"], keyed, /no role `boss` is configured; there are admin, ai, coach, guest, service, user: .*--any-role/],
      [[...ann, "--ttl", "1h"], shortLived, /lets tokens live 10m: give a shorter --ttl/],
      [ann, production, /set ROOMCAST_AUTH__JWT__SECRET/],
      [ann, { ROOMCAST_LISTEN: "0.0.0.0:3000" }, /set ROOMCAST_AUTH__JWT__SECRET/],
      [ann, { ROOMCAST_LISTEN: "0.0.0.0:3000", ROOMCAST_PROFILE: "development" }, /loopback/],
      [ann, { ...production, [jwt("JWKS_URL")]: "https://id.example/jwks" }, /no signing key/],
      [ann, { [jwt("JWKS_URL")]: "https://id.example/jwks" }, /no signing key/],
      [ann, { [jwt("KEYS_FILE")]: keys }, /no signing key/],
      [ann, { [jwt("KEYS_FILE")]: join(folder, "none.json") }, /keys_file: .*none\.json: /],
      [ann, { ...keyed, [jwt("ALGORITHM")]: "RS256" }, /a secret is for HS256, HS384 or HS512/],
      [ann, { ...keyed, [jwt("ALGORITHM")]: "none" }, /a secret is for HS256, HS384 or HS512/],
      [ann, { ...production, [jwt("SECRET")]: "short" }, /can be guessed: .*`openssl rand -base64 48`/],
      [ann, { XDG_STATE_HOME: folder }, /development\.key: other users can read it; correct it, or set/],
      [ann, { XDG_STATE_HOME: "", HOME: "" }, /no home folder for a development key: set/],
    ]) {
      const minted = command(["token", ...args], env);
      assert.equal(minted.status, 2, `${args} ${JSON.stringify(env)}`);
      assert.equal(minted.stdout, "");
      assert.match(minted.stderr, message);
    }
    const secret = { kty: "oct", kid: "own", k: Buffer.from(SECRET).toString("base64url") };
    writeFileSync(keys, JSON.stringify({ keys: [secret] }));
    const warned = [
      [{ ...production, [jwt("KEYS_FILE")]: keys }, /^$/],
      [{ [jwt("SECRET")]: "short" }, /can be guessed: it has 5 bytes, and HS256 needs 32 random bytes/],
      [{ ...keyed, [jwt("ALGORITHM")]: "HS512" }, /can be guessed: it has 48 bytes, and HS512 needs 64 random bytes/],
      [shortLived, /^$/, "--ttl", "10m"],
      [keyed, /^$/, "--role", "boss", "--any-role"],
    ];
    for (const [env, message, ...args] of warned) {
      const minted = command(["token", ...ann, ...args], env);
      assert.equal(minted.status, 0, minted.stderr);
      assert.match(minted.stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
      assert.match(minted.stderr, message);
    }
  });

  test("a reachable server does not start without keys and names the setting", () => {
    for (const [env, message] of [
      [{ ROOMCAST_LISTEN: "0.0.0.0:0" }, /ROOMCAST_AUTH__JWT__SECRET/],
      [{ ROOMCAST_LISTEN: "[::]:0", ROOMCAST_AUTH__GUESTS: "true" }, /ROOMCAST_AUTH__JWT__SECRET/],
      [{ ROOMCAST_LISTEN: "0.0.0.0:0", ROOMCAST_PROFILE: "development", ...keyed }, /loopback/],
      [{ ROOMCAST_LISTEN: "0.0.0.0:0", ROOMCAST_PROFILE: "production" }, /ROOMCAST_AUTH__JWT__KEYS_FILE/],
    ]) {
      const served = command(["serve"], { ROOMCAST_STORE: "memory:", ...env });
      assert.notEqual(served.status, 0);
      assert.match(served.stdout + served.stderr, message);
      assert.equal(command(["check-config"], env).status, 2);
    }
    assert.equal(command(["check-config"], { ROOMCAST_LISTEN: "0.0.0.0:0", ...keyed }).status, 0);
  });

  test("no command shows secrets in the addresses of keys or of the store", () => {
    const printed = command(["print-config"], {
      ROOMCAST_AUTH__JWT__JWKS_URL: "https://id.example/jwks?key=canary",
      ROOMCAST_STORE: "postgres://u:canary@db.example/chat?sslpassword=canary",
    });
    assert.equal(printed.status, 0, printed.stderr);
    assert.ok(!printed.stdout.includes("canary"), printed.stdout);
    assert.match(printed.stdout, /jwks_url = "https:\/\/id\.example\/jwks\?\*\*\*"/);
  });

  test("no command shows the secret", () => {
    const printed = command(["print-config"], keyed);
    assert.equal(printed.status, 0);
    assert.ok(!printed.stdout.includes(SECRET) && printed.stdout.includes("(hidden)"));
    for (const secret of ["-----BEGIN PUBLIC KEY-----\ncanary", ""]) {
      const checked = command(["check-config"], { ROOMCAST_AUTH__JWT__SECRET: secret });
      assert.equal(checked.status, 2);
      assert.ok(!checked.stderr.includes("canary"));
    }
  });
});
