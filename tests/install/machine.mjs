// A Debian system of its own, in a folder: apt installs packages there, and the command line of the
// unit runs there as it is, as the user of the package.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { innermost, must, root, run, serviceManager, shipped, start, target, unit } from "./support.mjs";

export const CONFIG = "/etc/roomcast/roomcast.toml";
export const SECRETS = "/etc/roomcast/roomcast.env";
export const [FIRST, SECOND, THIRD] = ["0.1.0-1", "0.1.0-2", "0.1.0-3"];
// The user of apt may not exist where the files of this machine are.
const AS_ROOT = ["-o", "APT::Sandbox::User=root"];

const environment = () => ({
  PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
  DEBIAN_FRONTEND: "noninteractive",
  LC_ALL: "C.UTF-8",
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => /_proxy$/i.test(name))),
});

/** Builds the package of a version from the program that is shipped, as deploy/release does. */
export function build(work, version) {
  const output = join(work, `roomcast_${version}.deb`);
  if (existsSync(output)) return output;
  mkdirSync(join(work, "dist"), { recursive: true });
  must("cp", [shipped(), join(work, "dist")]);
  const args = ["deb", "-p", "roomcast-server", "--no-build", "--no-strip", "--fast", "--profile", "dist"];
  must("cargo", [...args, "--deb-version", version, "-o", output], { cwd: root, env: { ...process.env, CARGO_TARGET_DIR: work } });
  return output;
}

/** Creates a folder for packages, which ends with the tests. */
export function workFolder(t) {
  const folder = mkdtempSync(join(target, "install/work-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Creates a system, which ends with the tests. */
export function createMachine(t) {
  const folder = mkdtempSync(join(target, "install/root-"));
  const mounts = ["proc", "dev"];
  t.after(() => {
    for (const name of mounts) must("umount", ["--recursive", "--lazy", join(folder, name)]);
    rmSync(folder, { recursive: true, force: true });
  });
  must("tar", ["-xf", join(target, "install/root.tar"), "-C", folder]);
  // Names of packages are resolved as on this machine, and no service is started.
  must("cp", ["-L", "/etc/resolv.conf", join(folder, "etc/resolv.conf")]);
  writeFileSync(join(folder, "usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  for (const name of mounts) {
    // Unmounting changes nothing on this machine.
    must("mount", ["--rbind", `/${name}`, join(folder, name)]);
    must("mount", ["--make-rslave", join(folder, name)]);
  }
  const inside = (path) => join(folder, path);
  /** Runs a command in the system. */
  const chroot = (...words) => run("chroot", [folder, ...words], { env: environment() });
  const mustChroot = (...words) => must("chroot", [folder, ...words], { env: environment() });
  mustChroot("apt-get", "update", ...AS_ROOT);
  return {
    inside,
    chroot,
    mustChroot,
    /** Reads a file of the system. */
    read: (path) => readFileSync(inside(path), "utf8"),
    /** Owner, group and mode of a file. */
    rights: (path) => mustChroot("stat", "-c", "%U:%G %a", path),
    /** Installs a package file with apt, as docs/install.md does. */
    install(path) {
      must("cp", [path, inside("tmp/roomcast.deb")]);
      return mustChroot("apt-get", "install", "-y", "--no-install-recommends", ...AS_ROOT, "/tmp/roomcast.deb");
    },
    /**
     * Runs the command line of the unit as systemd would, until the server is ready. With
     * `ownNetwork` its ports are free in any case, and commands reach it with `asked`.
     */
    async serve(t, { ownNetwork = false } = {}) {
      const { Service } = unit();
      rmSync(inside("run/notify"), { force: true });
      const manager = await serviceManager(t, inside("run/notify"));
      const files = Math.min(Number(Service.LimitNOFILE[0]), Number(must("sh", ["-c", "ulimit -Hn"])) || Infinity);
      const [user, group] = [Service.User[0], Service.Group[0]];
      const settings = `umask ${Service.UMask[0]}; ulimit -n ${files}; cd ${Service.WorkingDirectory[0]}; exec setpriv --reuid=${user} --regid=${group} --init-groups --no-new-privs ${Service.ExecStart[0]}`;
      const words = ["chroot", folder, "env", "-i", "NOTIFY_SOCKET=/run/notify", "sh", "-c", settings];
      const server = ownNetwork
        ? start(t, "unshare", ["--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", ...words])
        : start(t, words[0], words.slice(1));
      await manager.receives("READY=1", server.output);
      const pid = innermost(server.pid);
      const network = ownNetwork ? ["nsenter", "--net", "--target", String(pid)] : [];
      return {
        pid,
        output: server.output,
        manager,
        asked(...words) {
          const [command, ...args] = [...network, "chroot", folder, ...words];
          return run(command, args, { env: environment() });
        },
        /** Stops it as `systemctl stop` does. */
        async stop() {
          process.kill(pid, unit().Service.KillSignal[0]);
          await manager.receives("STOPPING=1", server.output);
          assert.equal(await server.ended(), 0, server.output());
        },
      };
    },
  };
}
