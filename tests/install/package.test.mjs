// The Debian package: apt installs, upgrades, removes and purges it in a root of its own, and the
// command line of its unit runs there as it is, as the user of the package.
import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { innermost, must, root, run, serviceManager, shipped, start, target, unit } from "./support.mjs";

const [first, second] = ["0.1.0-1", "0.1.0-2"];
const CONFIG = "/etc/roomcast/roomcast.toml";
const SECRETS = "/etc/roomcast/roomcast.env";
// The user of apt may not exist where the files of this machine are.
const AS_ROOT = ["-o", "APT::Sandbox::User=root"];
const DATABASE = "/var/lib/roomcast/roomcast.db";

let folder, work;

/** Mounts a folder of this machine, so that unmounting changes nothing there. */
function mount(name) {
  must("mount", ["--rbind", `/${name}`, join(folder, name)]);
  must("mount", ["--make-rslave", join(folder, name)]);
}

const inside = (path) => join(folder, path);
/** Runs a command in the root. */
const chroot = (...words) => run("chroot", [folder, ...words], { env: environment() });
const mustChroot = (...words) => must("chroot", [folder, ...words], { env: environment() });
const environment = () => ({
  PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
  DEBIAN_FRONTEND: "noninteractive",
  LC_ALL: "C.UTF-8",
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => /_proxy$/i.test(name))),
});
/** Owner, group and mode of a file. */
const rights = (path) => mustChroot("stat", "-c", "%U:%G %a", path);

before(() => {
  [folder, work] = ["root-", "work-"].map((name) => mkdtempSync(join(target, "install", name)));
  must("tar", ["-xf", join(target, "install/root.tar"), "-C", folder]);
  // Names of packages are resolved as on this machine, and no service is started.
  must("cp", ["-L", "/etc/resolv.conf", join(folder, "etc/resolv.conf")]);
  writeFileSync(join(folder, "usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  for (const name of ["proc", "dev"]) mount(name);
  mustChroot("apt-get", "update", ...AS_ROOT);
});
after(() => {
  for (const name of ["proc", "dev"]) must("umount", ["--recursive", "--lazy", join(folder, name)]);
  for (const path of [folder, work]) rmSync(path, { recursive: true, force: true });
});

/** Builds the package of a version from the program that is shipped, as deploy/release does. */
function build(version) {
  const output = join(work, `roomcast_${version}.deb`);
  mkdirSync(join(work, "dist"), { recursive: true });
  must("cp", [shipped(), join(work, "dist")]);
  const args = ["deb", "-p", "roomcast-server", "--no-build", "--no-strip", "--fast", "--profile", "dist"];
  must("cargo", [...args, "--deb-version", version, "-o", output], { cwd: root, env: { ...process.env, CARGO_TARGET_DIR: work } });
  return output;
}

/** Installs a package file with apt, as docs/install.md does. */
function install(path) {
  must("cp", [path, inside("tmp/roomcast.deb")]);
  return mustChroot("apt-get", "install", "-y", "--no-install-recommends", ...AS_ROOT, "/tmp/roomcast.deb");
}

test("apt installs, upgrades, removes and purges the package", async (t) => {
  shipped();
  const package_ = build(first);
  await t.test("the package names its configuration, and follows Debian's rules", () => {
    assert.equal(must("dpkg-deb", ["--info", package_, "conffiles"]), CONFIG);
    const needed = must("dpkg-deb", ["--field", package_, "Depends"]);
    assert.match(needed, /libc6 \(>= 2\.34\)/);
    const { output } = run("lintian", ["--tag-display-limit", "0", "--fail-on", "none", package_]);
    assert.deepEqual(output.match(/^E: .*/gm) ?? [], []);
  });
  install(package_);
  await t.test("the installation has a user, private folders, a secret of its own and an enabled unit", () => {
    assert.match(mustChroot("getent", "passwd", "roomcast"), /:\/var\/lib\/roomcast:\/usr\/sbin\/nologin$/);
    assert.equal(rights("/etc/roomcast"), "root:roomcast 750");
    assert.equal(rights(CONFIG), "root:roomcast 640");
    assert.equal(rights(SECRETS), "root:roomcast 640");
    assert.equal(rights("/var/lib/roomcast"), "roomcast:roomcast 750");
    assert.match(readFileSync(inside(SECRETS), "utf8"), /^ROOMCAST_AUTH__JWT__SECRET=[A-Za-z0-9+/]{64}$/m);
    assert.equal(mustChroot("systemctl", "is-enabled", "roomcast"), "enabled");
    const { status, output } = chroot("systemd-analyze", "verify", "--man=no", "roomcast.service");
    assert.deepEqual([status, output], [0, ""]);
  });
  await t.test("the command line of the unit serves as it is, and roomcast-admin has its settings", () => served(t));

  // An upgrade keeps what the operator has changed.
  appendFileSync(inside(CONFIG), "\n# changed by the operator\n");
  appendFileSync(inside(SECRETS), "# changed by the operator\n");
  mustChroot("chmod", "600", SECRETS);
  mustChroot("chown", "roomcast:roomcast", CONFIG);
  const kept = [CONFIG, SECRETS, DATABASE];
  const contents = () => kept.map((path) => must("sha256sum", [inside(path)]));
  const earlier = contents();
  install(build(second));
  await t.test("an upgrade keeps settings, secrets, data and the user", () => {
    assert.equal(mustChroot("dpkg-query", "-W", "-f", "${Version}", "roomcast"), second);
    assert.deepEqual(contents(), earlier);
    assert.equal(rights(CONFIG), "roomcast:roomcast 640");
    assert.equal(rights(SECRETS), "root:roomcast 600");
    assert.equal(mustChroot("systemctl", "is-enabled", "roomcast"), "enabled");
  });
  await served(t);

  mustChroot("apt-get", "remove", "-y", "roomcast");
  await t.test("a removal keeps settings, secrets and data", () => {
    for (const path of [CONFIG, SECRETS, DATABASE]) assert.ok(existsSync(inside(path)), path);
    assert.ok(!existsSync(inside("/usr/bin/roomcast")));
  });
  mustChroot("apt-get", "purge", "-y", "roomcast");
  await t.test("a purge removes settings and secrets, and keeps the messages", () => {
    assert.ok(!existsSync(inside("/etc/roomcast")));
    assert.ok(existsSync(inside(DATABASE)));
    assert.notEqual(chroot("systemctl", "is-enabled", "roomcast").status, 0);
    assert.equal(chroot("dpkg", "--audit").output, "");
  });
});

/** Runs the command line of the unit in the root as systemd would, and stops it. */
async function served(t) {
  const { Service } = unit();
  const secrets = readFileSync(inside(SECRETS), "utf8").match(/^[A-Z]\w*=.*$/gm);
  rmSync(inside("run/notify"), { force: true });
  const manager = await serviceManager(t, inside("run/notify"));
  const files = Math.min(Number(Service.LimitNOFILE[0]), Number(must("sh", ["-c", "ulimit -Hn"])) || Infinity);
  const [user, group] = [Service.User[0], Service.Group[0]];
  const settings = `umask ${Service.UMask[0]}; ulimit -n ${files}; cd ${Service.WorkingDirectory[0]}; exec setpriv --reuid=${user} --regid=${group} --init-groups --no-new-privs ${Service.ExecStart[0]}`;
  // A network of its own, so that its ports are free.
  const words = ["--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", "chroot", folder, "env", "-i", "NOTIFY_SOCKET=/run/notify", ...secrets, "sh", "-c", settings];
  const server = start(t, "unshare", words);
  await manager.receives("READY=1", server.output);
  const pid = innermost(server.pid);
  const asked = (...args) => run("nsenter", ["--net", "--target", String(pid), "chroot", folder, ...args], { env: environment() });
  const ready = asked("roomcast-admin", "health");
  assert.deepEqual([ready.status, ready.output], [0, "ready\n"]);
  const { status, stdout, output } = asked("roomcast-admin", "nodes");
  assert.equal(status, 0, output);
  assert.equal(JSON.parse(stdout).nodes.length, 1);
  assert.match(asked("roomcast-admin", "token", "--sub", "ann").stdout, /^ey[\w-]+\.[\w-]+\.[\w-]+\n$/);
  assert.equal(asked("roomcast-admin", "check-config").status, 0);
  assert.equal(rights(DATABASE), "roomcast:roomcast 600");
  assert.match(readFileSync(`/proc/${pid}/status`, "utf8"), /^Umask:\s+0077$/m);
  process.kill(pid, "SIGTERM");
  await manager.receives("STOPPING=1", server.output);
  assert.equal(await server.ended(), 0, server.output());
}
