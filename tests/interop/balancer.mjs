// Real load balancers: nginx and HAProxy with the configuration in deploy/ or a given text.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { Agent } from "node:http";
import { connect as dial } from "node:net";
import { join } from "node:path";
import { lastingPort, launch, until } from "./processes.mjs";
import { temporary } from "./support.mjs";

/**
 * Runs a proxy in the foreground and waits for its ports. It can be killed, suspended and
 * restarted.
 */
async function startProxy(command, args, ports) {
  let program;
  const listens = (port) =>
    new Promise((done) => {
      const socket = dial(port, "127.0.0.1", () => done(true));
      socket.on("error", () => done(false));
      socket.on("connect", () => socket.destroy());
    });
  const all = async () => {
    for (const port of ports) await until(() => listens(port), () => `${command} to listen on ${port}\n${program.output()}`);
  };
  const start = async () => {
    program = launch(command, args);
    const ended = program.ended.then(() => `${command} ended\n${program.output()}`);
    const error = await Promise.race([all(), ended]);
    if (error) throw new Error(error);
  };
  await start();
  return {
    start,
    kill: () => program.stop("SIGKILL"),
    // Open connections do not keep it running.
    stop: () => program.stop(),
    pause: () => program.pause(),
    resume: () => program.resume(),
    isRunning: () => program.isRunning(),
    output: () => program.output(),
  };
}

/** Runs a proxy in the foreground, waits for its ports, and returns a function that stops it. */
export async function runProxy(command, args, ports) {
  return (await startProxy(command, args, ports)).stop;
}

const deploy = (name) => readFileSync(new URL(`../../deploy/${name}`, import.meta.url), "utf8");

/** Returns the configuration in deploy/ for these servers, which may be fewer than it lists. */
function configured(name, port, nodes) {
  let text = deploy(name).replace(/^(\s*)(bind|listen) :?80(;?)$/m, `$1$2 127.0.0.1:${port}$3`);
  for (const [n, letter] of ["a", "b", "c"].entries()) {
    const address = `10.0.0.${n + 1}:3000`;
    const own = nodes[n]?.replace("http://", "");
    if (own) {
      text = text.replaceAll(address, own).replaceAll(address.replaceAll(".", "\\."), own.replaceAll(".", "\\."));
    } else {
      text = text.split("\n").filter((line) => !line.includes(` ${address}`)).join("\n");
      text = text.replace(new RegExp(`^upstream roomcast_${letter} \\{[^}]*\\}\\n`, "m"), "");
    }
  }
  if (text.includes("10.0.0.")) throw new Error(`an address is left\n${text}`);
  return text;
}

/**
 * Starts HAProxy in front of these servers, or with the configuration `text` for a port. It can be
 * killed and suspended.
 */
export async function startHaproxy(t, nodes, text) {
  const [folder, port] = [temporary(), await lastingPort()];
  const file = join(folder, "haproxy.cfg");
  writeFileSync(file, text ? text(port) : configured("haproxy.cfg", port, nodes).replace("maxconn 50000", "maxconn 2000"));
  const proxy = await startProxy("haproxy", ["-db", "-f", file], [port]);
  t.after(proxy.stop);
  return { ...proxy, url: `http://127.0.0.1:${port}` };
}

/** Starts HAProxy and returns its URL. */
export async function haproxy(t, nodes, text) {
  return (await startHaproxy(t, nodes, text)).url;
}

/**
 * Starts HAProxy in front of these servers with round-robin for each request, without session
 * affinity.
 */
export function startScattering(t, nodes) {
  const text = (port) =>
    configured("haproxy.cfg", port, nodes)
      .replace("maxconn 50000", "maxconn 2000")
      .replace(/^  stick.*\n/gm, "")
      .replace("balance leastconn", "balance roundrobin");
  return startHaproxy(t, nodes, text);
}

/** Starts HAProxy with round-robin and returns its URL. */
export async function scattering(t, nodes) {
  return (await startScattering(t, nodes)).url;
}

/**
 * Starts nginx in front of these servers, or with the servers of the configuration `text` for a
 * port.
 */
export async function nginx(t, nodes, text) {
  const [folder, port] = [temporary(), await lastingPort()];
  const file = join(folder, "nginx.conf");
  const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => {
    mkdirSync(join(folder, name));
    return `${name}_temp_path ${join(folder, name)};`;
  });
  writeFileSync(
    file,
    `daemon off; worker_processes 1; pid ${join(folder, "nginx.pid")}; error_log stderr;
events { worker_connections 2048; }
http {
  access_log off; ${paths.join(" ")}
  ${text ? text(port) : configured("nginx.conf", port, nodes)}
}\n`,
  );
  t.after(await runProxy("nginx", ["-e", "stderr", "-p", folder, "-c", file], [port]));
  return `http://127.0.0.1:${port}`;
}

/**
 * An agent that destroys unfinished requests.
 *
 * The XMLHttpRequest of Node's clients repeats a request without ending it when a kept connection
 * is closed at that moment. Such a request is never answered. It fails immediately here, as in a
 * browser.
 */
class ClientAgent extends Agent {
  addRequest(request, ...rest) {
    super.addRequest(request, ...rest);
    // A request that a client sends for the first time has ended by then.
    setImmediate(() => {
      if (!request.writableEnded) request.destroy(new Error("the connection was closed"));
    });
  }
}

/** Returns the agent of a client with an address of its own: the n-th of 127.0.0.0/8. */
export function agentOf(t, n, { keepAlive = true } = {}) {
  const agent = new ClientAgent({ localAddress: `127.0.${1 + Math.floor(n / 250)}.${1 + (n % 250)}`, keepAlive });
  t.after(() => agent.destroy());
  return agent;
}
