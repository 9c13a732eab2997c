#!/usr/bin/env python3
"""What one unit of work costs the chat server: instructions in user space, counted by callgrind.

    cargo build --profile dist -p roomcast-server --features dist
    benches/instructions/server.py NAME=PROGRAM[,VARIABLE=VALUE...]...

Each argument is a program with settings, and a column of the table; all are compared with the first. The value `otlp=RATIO` of
an argument starts a collector for its spans, and exports this share of the events; `trace=USER` starts `roomcast trace` of this
user beside the clients. The store is in memory, the clients are guests.
A count is the difference of two runs that differ in the number of units, divided by it. It has the work of all threads. The server
has one worker thread. Wants valgrind.

- request: an event and its acknowledgement that read nothing from the store, by one WebSocket client;
- message: a message that is stored, acknowledged and delivered to the nine other members of its conversation;
- typing: an event that is not stored, delivered to the nine others;
- connect: a WebSocket that connects as a guest and closes.
"""
import http.server
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager

from adapters import Client

MEMBERS = 10
# The runs of which the one with the fewest instructions counts.
ROUNDS = 3
# Units before those that are counted.
FIRST = 50
PAYLOAD = "x" * 128
# The conversation of all users.
LOBBY = "00000000-0000-4000-8000-000000000001"
SETTINGS = {
    "ROOMCAST_LISTEN": "127.0.0.1:0",
    "ROOMCAST_STORE": "memory:",
    "ROOMCAST_AUTH__ROLES__GUEST__INHERITS": "user",
    "ROOMCAST_ENGINE__PING_INTERVAL": "1h",
    "ROOMCAST_ENGINE__CONNECT_TIMEOUT": "10m",
    "ROOMCAST_ENGINE__PACKETS_PER_SECOND": "0",
    "ROOMCAST_LIMITS__MESSAGES_PER_MINUTE": "0",
    "ROOMCAST_LIMITS__TYPING_PER_SECOND": "0",
    "ROOMCAST_LIMITS__CHANGES_PER_MINUTE": "0",
    "ROOMCAST_LIMITS__REQUESTS_PER_SECOND": "0",
    "ROOMCAST_LIMITS__CONNECTS": "0",
    "ROOMCAST_CHAT__CONFIRM_TIMEOUT": "1h",
    "TOKIO_WORKER_THREADS": "1",
    "NO_COLOR": "1",
}


class Guest(Client):
    """A guest, and what it has been sent."""

    def ask(self, event, payload):
        self.send(b"420" + json.dumps([event, payload]).encode())
        while not (text := self.receive()).startswith(b"430"):
            pass
        answer = json.loads(text[3:])[0]
        assert answer["success"], answer
        return answer

    def until(self, name):
        while not re.match(rb'42\d*\["%s"' % name, self.receive()):
            pass


def members(port):
    clients = [Guest(port) for _ in range(MEMBERS)]
    for client in clients:
        client.ask("join_conversation", {"conversationId": LOBBY})
    return clients


def requests(number):
    def play(port):
        client = Guest(port)
        client.ask("join_conversation", {"conversationId": LOBBY})
        for _ in range(FIRST + number):
            client.ask("statuses", {"conversationId": LOBBY})

    return play


def messages(number):
    def play(port):
        clients = members(port)
        for n in range(FIRST + number):
            clients[0].ask("message", {"conversationId": LOBBY, "content": PAYLOAD, "clientMessageId": f"message {n}"})
            for client in clients[1:]:
                client.until(b"message")

    return play


def typing(number):
    def play(port):
        clients = members(port)
        for n in range(FIRST + number):
            clients[0].send(b"42" + json.dumps(["typing", {"conversationId": LOBBY, "isTyping": n % 2 == 0}]).encode())
            for client in clients[1:]:
                client.until(b"typing")

    return play


def connects(number):
    def play(port):
        for _ in range(FIRST + number):
            client = Guest(port)
            client.socket.sendall(b"\x88\x82\0\0\0\0" + struct.pack(">H", 1000))
            while client.socket.recv(65536):
                pass
            client.socket.close()

    return play


UNITS = {"request": (requests, 1500), "message": (messages, 300), "typing": (typing, 600), "connect": (connects, 300)}


@contextmanager
def collector():
    """A collector of spans that accepts everything: its URL, and the list of the sizes of its requests."""
    sizes = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            sizes.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", sizes
    finally:
        server.shutdown()


@contextmanager
def tracing(program, user, port, env):
    """Traces a user while the clients play, if there is one."""
    if user is None:
        yield
        return
    command = [program, "trace", "--user", user, "--url", f"http://127.0.0.1:{port}"]
    trace = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        # The first line says that the trace has begun.
        assert trace.stdout.readline(), "the trace does not begin"
        yield
        assert trace.poll() is None, "the trace has ended"
    finally:
        trace.kill()
        trace.wait()


def collected(program, settings, play):
    """Instructions of a whole run of the server."""
    settings = dict(settings)
    traced = settings.pop("trace", None)
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "XDG_STATE_HOME": folder} | SETTINGS | settings
        server = subprocess.Popen(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in server.stdout:
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                break
        with tracing(program, traced, found[1], env):
            play(int(found[1]))
        server.terminate()
        said = server.communicate(timeout=300)[1]
        return int(re.search(r"Collected : (\d+)", said)[1])


def variant(argument):
    name, _, rest = argument.partition("=")
    program, *settings = rest.split(",")
    settings = dict(setting.split("=", 1) for setting in settings)
    return name, program, settings


def count(program, settings, unit, number):
    settings = dict(settings)
    ratio = settings.pop("otlp", None)
    with collector() as (url, sizes):
        if ratio is not None:
            settings |= {"ROOMCAST_OTLP__URL": url, "ROOMCAST_OTLP__SAMPLE_RATIO": ratio}
        # What the server does each second is more in a slow run, so the smallest counts are compared.
        many, none = (min(collected(program, settings, unit(units)) for _ in range(ROUNDS)) for units in (number, 0))
        # A connection is no event.
        assert ratio in (None, "0") or sizes or unit is connects, "nothing was exported"
    return (many - none) / number


def main():
    variants = [variant(argument) for argument in sys.argv[1:]]
    print("| unit | " + " | ".join(name for name, *_ in variants) + " |")
    print("|---" * (len(variants) + 1) + "|")
    for name, (unit, number) in UNITS.items():
        counts = [count(program, settings, unit, number) for _, program, settings in variants]
        cells = [f"{counts[0]:,.0f}"] + [f"{each:,.0f} ({each / counts[0] * 100 - 100:+.1f} %)" for each in counts[1:]]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
