// The release files: checksums and their signature, the bill of materials, and the glibc that the
// program needs.
import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { must, read, root, run, shipped, target } from "./support.mjs";

let folder;
before(() => (folder = mkdtempSync(join(target, "install/release-"))));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Returns the newest version of glibc that a program needs. */
function glibc(path) {
  const versions = must("objdump", ["-T", path]).match(/(?<=GLIBC_)\d+\.\d+/g);
  const minor = (version) => Number(version.split(".")[1]);
  return versions.toSorted((a, b) => minor(a) - minor(b)).at(-1);
}

test("the program needs no newer glibc than is documented", () => {
  const [, documented] = /glibc (2\.\d+)/.exec(read("docs/install.md"));
  assert.equal(glibc(shipped()), documented);
  assert.match(read("deploy/dist"), new RegExp(`^oldest_glibc=${documented.replace(".", "\\.")}$`, "m"));
});

test("a program that needs a newer glibc is not released", () => {
  const script = read("deploy/dist").replace(/^oldest_glibc=.*$/m, "oldest_glibc=2.30");
  const dist = run("bash", ["-c", script, join(root, "deploy/dist"), join(folder, "refused"), shipped()], { cwd: root });
  assert.notEqual(dist.status, 0);
  assert.match(dist.output, /needs glibc 2\.\d+, newer than 2\.30/);
});

test("release files are signed, and a changed file or signature is detected", () => {
  const [secret, published, files] = ["roomcast.key", "roomcast.pub", "files"].map((name) => join(folder, name));
  must("minisign", ["-G", "-W", "-s", secret, "-p", published]);
  must("deploy/release", [files, shipped()], { cwd: root, env: { ...process.env, MINISIGN_KEY: secret } });
  const verify = () => run("minisign", ["-V", "-p", published, "-m", "SHA256SUMS"], { cwd: files }).status;
  const check = () => run("sha256sum", ["--check", "--strict", "SHA256SUMS"], { cwd: files }).status;
  assert.deepEqual([verify(), check()], [0, 0]);
  const sums = readFileSync(join(files, "SHA256SUMS"), "utf8");
  const names = sums.trim().split("\n").map((line) => line.split("  ")[1]);
  const expected = [/^roomcast$/, /^roomcast\.debug$/, /^roomcast\.cdx\.json$/, /^roomcast-docs\.tar\.gz$/, /^roomcast_\d\S+_\w+\.deb$/];
  for (const pattern of expected) assert.ok(names.some((name) => pattern.test(name)), `${pattern}: ${names}`);
  assert.equal(names.length, expected.length);

  const bill = JSON.parse(readFileSync(join(files, "roomcast.cdx.json"), "utf8"));
  assert.equal(bill.bomFormat, "CycloneDX");
  const crates = new Map(bill.components.map(({ name, version }) => [name, version]));
  const lock = [...read("Cargo.lock").matchAll(/name = "(\S+)"\nversion = "(\S+)"/g)].map(([, name, version]) => `${name} ${version}`);
  for (const name of ["tokio", "rustls", "hyper", "rusqlite"]) assert.ok(lock.includes(`${name} ${crates.get(name)}`), name);
  assert.ok(!existsSync(join(root, "server/roomcast-bill-of-materials.json")));

  appendFileSync(join(files, "roomcast"), "changed");
  assert.deepEqual([verify(), check()], [0, 1]);
  appendFileSync(join(files, "SHA256SUMS"), "changed");
  assert.notEqual(verify(), 0);
});
