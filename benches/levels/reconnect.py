#!/usr/bin/env python3
"""How soon clients are connected again after their server has gone.

    cargo build --profile dist -p roomcast-server --features dist -p roomcast-loadgen --example returning
    benches/levels/reconnect.py TARGET/dist [CLIENTS (10000)] [SCENARIO...]

The clients have tokens, use WebSocket, and reconnect as the stock client does by its defaults
(benches/levels/returning.rs). The servers are the program with its defaults, except for limits of one address, on a
PostgreSQL of their own. Needs 1,000 more descriptors than clients for each process (`ulimit -n`). Scenarios:

- restart: SIGTERM without `server.drain`; the server is started again as soon as it has ended;
- crash: SIGKILL, and the start after 0.5 s, as by the unit of the package;
- drain: SIGTERM with `server.drain` of 20 s, while another server is there, to which the load balancer sends clients;
- failover: SIGKILL, while another server is there.

ROOMCAST_ variables in the environment are more settings of the servers.
"""
import base64
import hashlib
import hmac
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "instructions"))
from adapters import broker  # noqa: E402

SECRET = "a secret of at least thirty-two bytes"
DRAIN = 20
RESTART_DELAY = 0.5
SCENARIOS = ["restart", "crash", "drain", "failover"]


class Server:
    """The program at one port, with these settings."""

    def __init__(self, program, store, folder, **settings):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.program, self.process = program, None
        self.env = {
            **os.environ,
            "XDG_STATE_HOME": folder,
            "NO_COLOR": "1",
            "ROOMCAST_LISTEN": f"127.0.0.1:{self.port}",
            "ROOMCAST_SERVER__ADMIN_LISTEN": "127.0.0.1:0",
            "ROOMCAST_STORE": store,
            "ROOMCAST_AUTH__JWT__SECRET": SECRET,
            "ROOMCAST_LIMITS__CONNECTIONS_PER_ADDRESS": "0",
            "ROOMCAST_LIMITS__CONNECTS": "0",
        } | settings

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Starts it, and returns the time in milliseconds at which it was listening."""
        self.process = subprocess.Popen([self.program], env=self.env, stdout=subprocess.PIPE, text=True)
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line)
            if "listening on http" in line:
                break
        else:
            sys.exit("the server did not start\n" + "".join(self.lines))
        listening = time.time() * 1000
        # A pipe without a reader would block the server.
        threading.Thread(target=lambda pipe: self.lines.extend(pipe), args=(self.process.stdout,), daemon=True).start()
        return listening

    def refusals(self):
        """Returns the number of refused requests by reason, since the last start."""
        admin = next(filter(None, (re.search(r"admin listener ready.*(http://[\d.:]+)", line) for line in self.lines)))[1]
        text = urllib.request.urlopen(f"{admin}/metrics").read().decode()
        found = re.findall(r'^roomcast_requests_rejected_total\{reason="(\w+)"\} ([1-9]\d*)$', text, re.M)
        return ", ".join(f"{number} {reason}" for reason, number in found)

    def end(self, number):
        self.process.send_signal(number)
        self.process.wait()


class Clients:
    """The program of the clients."""

    def __init__(self, program, count, folder, urls):
        self.count = count
        tokens = Path(folder, "tokens")
        tokens.write_text("\n".join(token(f"user-{n}") for n in range(count)))
        self.process = subprocess.Popen(
            [program, str(count), tokens, *urls], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def report(self):
        self.tell("report")
        return json.loads(self.process.stdout.readline())

    def wait(self, seconds=60):
        """Waits until all have returned, or until the time is over, and returns the account."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(1)
            report = self.report()
            if report["lost"] >= self.count and report["connected"] >= self.count:
                break
        return report


def token(name):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    claims = {"sub": name, "name": name, "exp": int(time.time()) + 86400}
    message = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
    return message + "." + part(hmac.digest(SECRET.encode(), message.encode(), hashlib.sha256))


def play(scenario, one, other, clients):
    """Returns the account, and the time in milliseconds from which a server was there."""
    clients.tell("begin")
    ready = None
    if scenario == "restart":
        one.end(signal.SIGTERM)
        ready = one.start()
    elif scenario == "crash":
        one.end(signal.SIGKILL)
        time.sleep(RESTART_DELAY)
        ready = one.start()
    else:
        # As a load balancer that asks for the readiness, or tries the next server after a refusal.
        clients.tell("use 1")
        one.end(signal.SIGTERM if scenario == "drain" else signal.SIGKILL)
    return clients.wait(), ready


def quantiles(values):
    values = sorted(values)
    at = [values[min(len(values) - 1, int(len(values) * share))] for share in (0.5, 0.99, 1)] if values else []
    return ", ".join(f"{value / 1000:.2f}" for value in at)


def main():
    target, *words = sys.argv[1:]
    count = int(words.pop(0)) if words and words[0].isdigit() else 10_000
    program, generator = (str(Path(target, name)) for name in ("roomcast", "examples/returning"))
    print(f"{count} clients; times in seconds: p50, p99, max")
    print("| scenario | returned | from the loss | from when a server was there | the attempt that succeeded | attempts: one, two, three or more | failed attempts | refused by the server |")
    print("|---" * 8 + "|", flush=True)
    for scenario in words or SCENARIOS:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            port = stack.enter_context(broker("postgres", ""))
            store = f"postgres://roomcast@127.0.0.1:{port}/postgres"
            # A single server has no drain: its clients would find no other.
            drain = {"ROOMCAST_SERVER__DRAIN": f"{DRAIN}s"} if scenario == "drain" else {}
            servers = [Server(program, store, folder, **drain) for _ in range(2)]
            used = servers if scenario in ("drain", "failover") else servers[:1]
            for server in used:
                server.start()
                stack.callback(lambda server=server: server.end(signal.SIGKILL))
            clients = Clients(generator, count, folder, [server.url for server in used])
            stack.callback(clients.process.kill)
            time.sleep(2)
            report, ready = play(scenario, *servers, clients)
            returns = report["returns"]
            since = [at - max(ready or 0, lost) for lost, _, at, _ in returns]
            tries = [sum(attempts >= n if n == 3 else attempts == n for *_, attempts in returns) for n in (1, 2, 3)]
            failures = ", ".join(f"{number} {name}" for name, number in report["failures"].items()) or "none"
            print(
                f"| {scenario} | {len(returns)} of {report['lost']} | {quantiles([at - lost for lost, _, at, _ in returns])} "
                f"| {quantiles(since)} | {quantiles([at - began for _, began, at, _ in returns])} "
                f"| {', '.join(map(str, tries))} | {failures} | {used[-1].refusals() or 'none'} |",
                flush=True,
            )
            if os.environ.get("VERBOSE"):
                print("".join(line for server in used for line in server.lines if re.search(r"WARN|ERROR|drain", line)))


main()
