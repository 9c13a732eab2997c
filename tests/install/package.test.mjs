// The Debian package: apt installs, upgrades, removes and purges it in a root of its own, and the
// command line of its unit runs there as it is, as the user of the package.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { appendFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { build, CONFIG, createMachine, FIRST, SECOND, SECRETS, THIRD, workFolder } from "./machine.mjs";
import { must, read, run, until } from "./support.mjs";

const DATABASE = "/var/lib/roomcast/roomcast.db";

test("apt installs, upgrades, removes and purges the package", async (t) => {
  const work = workFolder(t);
  const package_ = build(work, FIRST);
  const machine = createMachine(t);
  const { inside, chroot, mustChroot, rights, install } = machine;
  await t.test("the package names its configuration, and follows Debian's rules", () => {
    assert.equal(must("dpkg-deb", ["--info", package_, "conffiles"]), CONFIG);
    const needed = must("dpkg-deb", ["--field", package_, "Depends"]);
    assert.match(needed, /libc6 \(>= 2\.34\)/);
    const { output } = run("lintian", ["--tag-display-limit", "0", "--fail-on", "none", package_]);
    assert.deepEqual(output.match(/^E: .*/gm) ?? [], []);
  });
  await t.test("every link of the documentation leads to a page of the package", () => {
    const folder = join(work, "content");
    must("dpkg-deb", ["--extract", package_, folder]);
    const shipped = join(folder, "usr/share/doc/roomcast");
    const pages = readdirSync(join(shipped, "docs"), { recursive: true }).filter((path) => path.endsWith(".md"));
    assert.ok(pages.includes("install.md") && pages.includes("tutorials/axum.md"), `${pages}`);
    const broken = pages.flatMap((page) => {
      const place = join(shipped, "docs", page);
      const links = [...readFileSync(place, "utf8").matchAll(/\]\(([^)#:\s]+\.(?:md|png))(?:#[^)]*)?\)/g)];
      const missing = links.filter(([, link]) => !existsSync(join(dirname(place), link)));
      return missing.map(([, link]) => `${page}: ${link}`);
    });
    assert.deepEqual(broken, []);
    for (const file of ["nginx.conf", "haproxy.cfg", "prometheus/prometheus.yml", "prometheus/rules.yml", "grafana/roomcast.json"]) {
      assert.ok(existsSync(join(shipped, "examples", file)), file);
    }
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
  await t.test("the command line of the unit serves as it is, and roomcast-admin has its settings", () => served(t, machine));

  // An upgrade keeps what the operator has changed.
  appendFileSync(inside(CONFIG), "\n# changed by the operator\n");
  appendFileSync(inside(SECRETS), "# changed by the operator\n");
  // The operator takes the file from the user of the server.
  mustChroot("chown", "root:root", SECRETS);
  mustChroot("chmod", "600", SECRETS);
  mustChroot("chown", "roomcast:roomcast", CONFIG);
  const kept = [CONFIG, SECRETS, DATABASE];
  const contents = () => kept.map((path) => must("sha256sum", [inside(path)]));
  const earlier = contents();
  install(build(work, SECOND));
  await t.test("an upgrade keeps settings, secrets, data and the user", () => {
    assert.equal(mustChroot("dpkg-query", "-W", "-f", "${Version}", "roomcast"), SECOND);
    assert.deepEqual(contents(), earlier);
    assert.equal(rights(CONFIG), "roomcast:roomcast 640");
    assert.equal(rights(SECRETS), "root:roomcast 640");
    assert.equal(mustChroot("systemctl", "is-enabled", "roomcast"), "enabled");
  });
  await served(t, machine);

  // An operator may have moved the secrets to another file.
  const secrets = readFileSync(inside(SECRETS));
  rmSync(inside(SECRETS));
  install(build(work, THIRD));
  await t.test("an upgrade without the file of secrets creates it without a secret", () => {
    assert.equal(rights(SECRETS), "root:roomcast 640");
    assert.equal(readFileSync(inside(SECRETS), "utf8"), "# Secrets of the server: NAME=VALUE, without quotes.\n");
    assert.deepEqual(readdirSync(inside("/etc/roomcast")).sort(), ["roomcast.env", "roomcast.toml"]);
  });
  writeFileSync(inside(SECRETS), secrets);
  await served(t, machine);

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

/** Runs the server of the unit, and stops it. */
async function served(t, machine) {
  const { pid, asked, stop } = await machine.serve(t, { ownNetwork: true });
  const ready = asked("roomcast-admin", "health");
  assert.deepEqual([ready.status, ready.output], [0, "ready\n"]);
  const { status, stdout, output } = asked("roomcast-admin", "nodes");
  assert.equal(status, 0, output);
  assert.equal(JSON.parse(stdout).nodes.length, 1);
  assert.match(asked("roomcast-admin", "token", "--sub", "ann").stdout, /^ey[\w-]+\.[\w-]+\.[\w-]+\n$/);
  assert.equal(asked("roomcast-admin", "check-config").status, 0);
  assert.equal(machine.rights(DATABASE), "roomcast:roomcast 600");
  backedUp(asked, machine);
  assert.match(readFileSync(`/proc/${pid}/status`, "utf8"), /^Umask:\s+0077$/m);
  // A reload replaces a secret of the file, with which the commands sign from then on.
  const secret = /^ROOMCAST_AUTH__JWT__SECRET=.*$/m;
  const replaced = `ROOMCAST_AUTH__JWT__SECRET=${randomBytes(48).toString("base64")}`;
  writeFileSync(machine.inside(SECRETS), readFileSync(machine.inside(SECRETS), "utf8").replace(secret, replaced));
  assert.notEqual(asked("roomcast-admin", "nodes").status, 0);
  process.kill(pid, "SIGHUP");
  await until(() => asked("roomcast-admin", "nodes").status === 0, "the replaced secret");
  await stop();
}

/** Makes a backup as the documented line of cron does, with the PATH of cron. */
function backedUp(asked, machine) {
  const page = read("docs/backup.md");
  const [, folder] = /^(install -d .+)$/m.exec(page);
  const [, line] = /^30 3 \* \* \* root (.+)$/m.exec(page);
  const cron = (command) => asked("env", "-i", "PATH=/usr/bin:/bin", "sh", "-c", command.replaceAll("\\%", "%"));
  for (const command of [folder, line]) {
    const { status, output } = cron(command);
    assert.equal(status, 0, output);
  }
  const [name, ...others] = readdirSync(machine.inside("/backups"));
  assert.match(name, /^chat-\d{4}-\d\d-\d\d\.db$/);
  assert.deepEqual(others, []);
  rmSync(machine.inside("/backups"), { recursive: true });
}
