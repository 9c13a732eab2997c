// The container image: Buildah builds the Containerfile on a Debian root with the program that is
// shipped, and the image runs with a read-only root, its user and its health check.
import assert from "node:assert/strict";
import { chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { innermost, must, root, run, shipped, start, target, until } from "./support.mjs";

const MAX_BYTES = 60_000_000;

let folder;
before(() => (folder = mkdtempSync(join(target, "install/container-"))));
after(() => {
  run("umount", ["--recursive", "--lazy", join(folder, "mounted")]);
  run("buildah", [...storage(), "rm", "--all"]);
  run("buildah", [...storage(), "rmi", "--all", "--force"]);
  rmSync(folder, { recursive: true, force: true });
});

// Files of its own, and no daemon.
const storage = () => ["--root", join(folder, "images"), "--runroot", join(folder, "run"), "--storage-driver", "vfs"];
const buildah = (...words) => must("buildah", [...storage(), ...words], { cwd: root });

test("the build context has the sources that Cargo and npm need, and nothing that was built", () => {
  const file = join(folder, "Context");
  writeFileSync(file, "FROM scratch\nCOPY . /source\n");
  buildah("build", "--tag", "localhost/context", "--file", file, ".");
  const source = join(buildah("mount", buildah("from", "localhost/context")), "source");
  const metadata = JSON.parse(must("cargo", ["metadata", "--locked", "--format-version", "1"], { cwd: source }));
  assert.ok(metadata.packages.some(({ name }) => name === "roomcast-server"));
  for (const path of ["web/package-lock.json", "web/src", ".cargo/config.toml", "migrations", "deploy/dist"]) {
    assert.ok(existsSync(join(source, path)), path);
  }
  const unwanted = ["(", "-name", "node_modules", "-o", "-name", ".git", "-o", "-name", ".env", "-o", "-name", "target", ")"];
  assert.equal(must("find", [source, ...unwanted]), "");
});

test("the image is small, and serves with a read-only root as another user", async (t) => {
  // The base image is a Debian root. No registry is needed.
  const base = buildah("from", "scratch");
  buildah("add", base, join(target, "install/root.tar"), "/");
  buildah("commit", "--quiet", base, "localhost/debian");
  buildah("rm", base);
  // The result of the stage that compiles is given.
  const built = join(folder, "build/shipped");
  mkdirSync(built, { recursive: true });
  must("cp", [shipped(), built]);
  const image = "localhost/roomcast";
  buildah("build", "--isolation", "chroot", "--format", "docker", "--build-arg", "DEBIAN_IMAGE=localhost/debian",
    "--build-context", `build=${join(folder, "build")}`, "--tag", image, "--file", "deploy/container/Containerfile", ".");

  const { Docker } = JSON.parse(buildah("inspect", "--type", "image", image));
  const config = Docker.config;
  assert.equal(config.User, "65532:65532");
  assert.deepEqual(config.Entrypoint, ["/usr/bin/roomcast"]);
  assert.deepEqual(config.Healthcheck.Test, ["CMD", "/usr/bin/roomcast", "health"]);
  assert.equal(config.StopSignal, "SIGTERM");

  const container = buildah("from", image);
  const files = buildah("mount", container);
  const bytes = Number(must("du", ["--summarize", "--bytes", files]).split("\t")[0]);
  t.diagnostic(`${(bytes / 1e6).toFixed(1)} MB unpacked`);
  assert.ok(bytes <= MAX_BYTES, `${bytes} bytes`);
  assert.equal(run("find", [files, "-name", "*sh", "-path", "*bin*"]).stdout, "");
  assert.equal(run("find", [files, "-perm", "/6000"]).stdout, "");

  // As `--read-only` with a volume: nothing else can be written.
  const [mounted, volume] = [join(folder, "mounted"), join(folder, "volume")];
  for (const path of [mounted, volume]) mkdirSync(path);
  chownSync(volume, 65532, 65532);
  must("mount", ["--bind", files, mounted]);
  must("mount", ["-o", "remount,bind,ro", mounted]);
  must("mount", ["--bind", volume, join(mounted, config.WorkingDir)]);
  const environment = [...config.Env, "ROOMCAST_AUTH__JWT__SECRET=0123456789abcdefghijklmnopqrstuvwxyz-of-a-test"];
  // In a network of its own, in which its port is free.
  const asUser = (words) => ["env", "-i", ...environment, "chroot", `--userspec=${config.User}`, "--groups=", mounted, ...words];
  const server = start(t, "unshare", ["--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", ...asUser([...config.Entrypoint, ...config.Cmd])]);
  await until(() => /"message":"listening on http:\/\/0\.0\.0\.0:3000"/.test(server.output()), server.output);
  const pid = innermost(server.pid);
  const health = () => run("nsenter", ["--net", "--target", String(pid), ...asUser(config.Healthcheck.Test.slice(1))]);
  assert.deepEqual([health().status, health().output], [0, "ready\n"]);
  assert.equal(must("stat", ["-c", "%u:%g %a", join(volume, "roomcast.db")]), "65532:65532 600");
  // Not even root could write elsewhere.
  const written = run("chroot", [mounted, "/usr/bin/roomcast", "--store", "sqlite:/etc/x.db", "migrate"]);
  assert.match(written.output, /read-only/i);
  // Clients reach it at other addresses than loopback.
  const ask = ["ip", "addr", "add", "10.9.9.9/32", "dev", "lo"];
  must("nsenter", ["--net", "--target", String(pid), ...ask]);
  const other = run("nsenter", ["--net", "--target", String(pid), ...asUser(["/usr/bin/roomcast", "health", "http://10.9.9.9:3000"])]);
  assert.deepEqual([other.status, other.output], [0, "ready\n"]);

  process.kill(pid, config.StopSignal);
  assert.equal(await server.ended(), 0, server.output());
});
