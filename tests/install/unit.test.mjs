// The systemd unit: systemd checks it, and its command line runs with its settings, without
// systemd.
import assert from "node:assert/strict";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, after, test } from "node:test";
import { innermost, must, read, root, run, serviceManager, start, target, unit, until } from "./support.mjs";

const UNIT = join(root, "deploy/systemd/roomcast.service");
const NOBODY = 65534;

let folder;
before(() => {
  folder = mkdtempSync(join(tmpdir(), "roomcast-unit-"));
  chmodSync(folder, 0o755);
});
after(() => rmSync(folder, { recursive: true, force: true }));

const exposure = (path) => run("systemd-analyze", ["security", "--offline=true", "--threshold=20", "--no-pager", path]);

test("systemd rates the exposure of the unit below the threshold", () => {
  const { status, output } = exposure(UNIT);
  assert.equal(status, 0, output);
  // A unit without the restrictions is above it.
  const bare = join(folder, "bare.service");
  writeFileSync(bare, "[Service]\nExecStart=/usr/bin/roomcast\n");
  assert.notEqual(exposure(bare).status, 0);
});

/** Has systemd check the unit, as if the program were installed. */
function verify(text) {
  const path = join(folder, "roomcast.service");
  writeFileSync(path, text.replaceAll("/usr/bin/roomcast", "/bin/true"));
  return run("systemd-analyze", ["verify", "--man=no", path]);
}

test("systemd accepts every line of the unit", () => {
  const { status, output } = verify(read("deploy/systemd/roomcast.service"));
  assert.equal(output, "");
  assert.equal(status, 0);
  assert.match(verify(`${read("deploy/systemd/roomcast.service")}\n[Service]\nUMaks=0077\n`).output, /UMaks/);
});

const seconds = (text) => {
  const [, number, word] = /^(\d+)(s?)$/.exec(text);
  return Number(number) * (word === "s" || !word ? 1 : NaN);
};

test("the unit stops the server after its drain and grace, and restarts it by exit code", () => {
  const { Service, Unit } = unit();
  const config = read("deploy/debian/roomcast.toml");
  const setting = (key) => seconds(new RegExp(`^${key} = "(.+)"$`, "m").exec(config)[1]);
  assert.ok(seconds(Service.TimeoutStopSec[0]) > setting("drain") + setting("grace") + 60);
  assert.deepEqual(Service.KillSignal, ["SIGTERM"]);
  assert.deepEqual(Service.Restart, ["on-failure"]);
  assert.deepEqual(Service.RestartPreventExitStatus, ["2"]);
  assert.deepEqual(Unit.StartLimitIntervalSec, ["0"]);
  assert.deepEqual(Service.ExecReload, ["/bin/kill -HUP $MAINPID"]);
  assert.deepEqual([Service.Type, Service.UMask], [["notify"], ["0077"]]);
});

/** Returns the system calls of a set of systemd, and of the sets that it contains. */
function callsOf(name) {
  if (!name.startsWith("@")) return [name];
  const lines = must("systemd-analyze", ["syscall-filter", name]).split("\n").slice(1);
  const names = lines.map((line) => line.trim()).filter((line) => line && !line.startsWith("#"));
  return names.flatMap(callsOf);
}

/** Returns the system calls that the unit permits: of each line, or all but those after `~`. */
function permitted() {
  const calls = new Set();
  for (const line of unit().Service.SystemCallFilter) {
    const names = line.replace("~", "").split(" ").flatMap(callsOf);
    for (const name of names) line.startsWith("~") ? calls.delete(name) : calls.add(name);
  }
  return calls;
}

test("the command line of the unit starts, notifies, makes only permitted calls and drains", async (t) => {
  const { Service } = unit();
  const state = join(folder, "state");
  mkdirSync(state);
  const config = join(folder, "roomcast.toml");
  const text = read("deploy/debian/roomcast.toml")
    .replaceAll("/var/lib/roomcast", state)
    .replace("127.0.0.1:3000", "127.0.0.1:0")
    .replace('drain = "0s"', 'drain = "2s"');
  writeFileSync(config, text);
  // The program itself may be where another user cannot read it.
  const program = join(folder, "roomcast");
  must("cp", [join(target, "debug/roomcast"), program]);
  const secrets = join(folder, "roomcast.env");
  const issue = (secret) => writeFileSync(secrets, `ROOMCAST_AUTH__JWT__SECRET=${secret}\n`, { mode: 0o640 });
  issue("0123456789abcdefghijklmnopqrstuvwxyz-of-a-test");
  const paths = { "/usr/bin/roomcast": program, "/etc/roomcast/roomcast.toml": config, "/etc/roomcast/roomcast.env": secrets };
  const words = Service.ExecStart[0].split(" ").map((word) => paths[word] ?? word);
  assert.deepEqual([words[0], words.includes(config), words.includes(secrets)], [program, true, true]);
  const isRoot = process.getuid() === 0;
  if (isRoot) {
    chownSync(state, NOBODY, NOBODY);
    // Its group reads the file, as with the package.
    chownSync(secrets, 0, NOBODY);
  }
  const user = isRoot ? ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", "--no-new-privs"] : [];
  const manager = await serviceManager(t, join(folder, "notify"));
  const trace = join(folder, "trace");
  // It may not open more files than the unit permits, and this machine.
  const files = Math.min(Number(Service.LimitNOFILE[0]), Number(must("sh", ["-c", "ulimit -Hn"])) || Infinity);
  const shell = `umask ${Service.UMask[0]}; ulimit -n ${files}; exec "$@"`;
  const server = start(t, "sh", ["-c", shell, "sh", "strace", "-f", "-qq", "-o", trace, ...user, ...words], {
    cwd: state,
    env: {
      PATH: process.env.PATH,
      NOTIFY_SOCKET: join(folder, "notify"),
      WATCHDOG_USEC: "1000000",
    },
  });
  await manager.receives("READY=1", server.output);
  // The log is written by another thread than the notification, so it can arrive later.
  const listening = () => /listening on (\S+)\n/.exec(server.output());
  await until(listening, server.output);
  const [, url] = listening();
  const health = async () => (await fetch(`${url}/health/ready`)).status;
  assert.equal(await health(), 200);
  await manager.receives("WATCHDOG=1");
  assert.equal(must("stat", ["-c", "%a", join(state, "roomcast.db")]), "600");
  for (let n = 0; n < 5; n++) {
    const { status } = await fetch(`${url}/socket.io/?EIO=4&transport=polling`);
    assert.equal(status, 200);
  }
  // As `systemctl reload` does after a secret was replaced.
  issue("another-0123456789abcdefghijklmnopqrstuvwxyz-of-a-test");
  process.kill(innermost(server.pid), "SIGHUP");
  await manager.receives("RELOADING=1", server.output);
  await until(() => /configuration reloaded.*auth\.jwt\.secret/.test(server.output()), () => server.output());
  // As `systemctl stop` does, to the main process.
  process.kill(innermost(server.pid), "SIGTERM");
  await manager.receives("STOPPING=1", server.output);
  assert.equal(await health(), 503);
  assert.equal(await server.ended(), 0, server.output());
  assert.match(server.output(), /drained/);

  const calls = new Set(readFileSync(trace, "utf8").match(/(?<=^\d+ +(<\.\.\. )?)[a-z]\w+(?=\(| resumed>)/gm));
  assert.ok(calls.has("epoll_wait") && calls.has("accept4") && calls.has("fsync"), [...calls].join(" "));
  // What ran before the server: setpriv and the loader of programs.
  const before = new Set(["setresuid", "setresgid", "setgroups", "capset", "setuid", "setgid", "setreuid", "setregid"]);
  const allowed = permitted();
  assert.ok(!allowed.has("mount") && !allowed.has("chown"));
  assert.deepEqual([...calls].filter((call) => !allowed.has(call) && !before.has(call)), []);
});
