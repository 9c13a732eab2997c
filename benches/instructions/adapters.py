#!/usr/bin/env python3
"""What an adapter adds to a broadcast while no other server is there: instructions in user space, counted by callgrind.

    cargo build --profile dist --example fanout
    benches/instructions/adapters.py TARGET/dist/examples/fanout [ADAPTER...]

It plays the contract server with one worker, without an adapter and with each that is named (postgres, redis, redis-sharded,
redis-streams, nats, nats-jetstream; default: all), whose broker it starts itself. A count is the difference of two runs that
differ in the number of broadcasts, so that starting, connecting and joining are no part of it; what the adapter does each
second is, for the time that the broadcasts take under callgrind. With PostgreSQL and NATS it begins when the server knows that
it is alone; with postgres-settling and nats-settling before. Wants valgrind.
"""
import os
import re
import socket
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

SUPPORT = Path(__file__).resolve().parents[2] / "tests" / "support"
# The broker, its options, the seconds after which a server knows that it is alone, and the URL.
SCHEMES = {
    "postgres": ("postgres", "", 20, "postgres://roomcast@127.0.0.1:{}/postgres"),
    "postgres-settling": ("postgres", "", 0, "postgres://roomcast@127.0.0.1:{}/postgres"),
    "redis": ("redis", "", 0, "redis://127.0.0.1:{}"),
    "redis-sharded": ("redis", "", 0, "redis+sharded://127.0.0.1:{}"),
    "redis-streams": ("redis", "", 0, "redis-streams://127.0.0.1:{}"),
    "nats": ("nats", "", 20, "nats://127.0.0.1:{}"),
    "nats-settling": ("nats", "", 0, "nats://127.0.0.1:{}"),
    "nats-jetstream": ("nats", "-js", 0, "nats://127.0.0.1:{}"),
}
# Members of the room, and broadcasts that are counted.
ROOMS = [(10, 4000), (100, 1000), (1000, 200)]
# Broadcasts before those, so that what is made once has been made.
FIRST = 100
PAYLOAD = b"x" * 128


@contextmanager
def broker(script, options):
    """A private broker: the port that it listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = dict(os.environ, OPTIONS=options)
    supervisor = subprocess.Popen(
        [SUPPORT / f"{script}.sh", str(port)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        supervisor.stdin.write("start\n")
        supervisor.stdin.flush()
        answer = supervisor.stdout.readline()
        assert answer.startswith("ready "), answer
        yield port
    finally:
        supervisor.stdin.close()
        supervisor.wait()


class Client:
    """A WebSocket client that has joined the namespace."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""
        self.socket.sendall(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        while b"\r\n\r\n" not in self.input:
            self.fill()
        self.input = self.input.split(b"\r\n\r\n", 1)[1]
        assert self.receive().startswith(b"0{")
        self.send(b"40")
        assert self.receive().startswith(b"40{")

    def fill(self):
        read = self.socket.recv(65536)
        assert read, "the server closed"
        self.input += read

    def send(self, text):
        length = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + struct.pack(">H", len(text))
        self.socket.sendall(b"\x81" + length + b"\0\0\0\0" + text)

    def receive(self):
        while True:
            if len(self.input) >= 2:
                length, start = self.input[1], 2
                if length == 126 and len(self.input) >= 4:
                    length, start = struct.unpack(">H", self.input[2:4])[0], 4
                if self.input[1] < 126 or start == 4:
                    if len(self.input) >= start + length:
                        text = self.input[start : start + length]
                        self.input = self.input[start + length :]
                        return text
            self.fill()


def collected(program, play, settling=0, **more):
    """Instructions of a whole run of the contract server with one worker, for which `play` is called with the port."""
    env = dict(os.environ, PORT="0", WORKERS="1", PING_INTERVAL_MS="3600000")
    env.pop("ADAPTER", None)
    server = subprocess.Popen(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program],
        env=env | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    port = int(re.search(r":(\d+)$", server.stdout.readline().strip())[1])
    # A server that is alone knows it after a while.
    time.sleep(settling)
    play(port)
    server.terminate()
    said = server.communicate(timeout=120)[1]
    return int(re.search(r"Collected : (\d+)", said)[1])


def broadcasting(members, broadcasts):
    """One member after the other joins a room, and then one of them sends to all, one message at a time."""

    def play(port):
        clients = [Client(port) for _ in range(members)]
        for client in clients:
            client.send(b'420["join","room"]')
            assert client.receive() == b"430[]"
        for _ in range(FIRST + broadcasts):
            clients[0].send(b'42["bcast","room","%s"]' % PAYLOAD)
            for client in clients:
                assert client.receive().startswith(b'42["msg"')

    return play


def count(program, adapter, settling, members, broadcasts):
    """Instructions of one broadcast."""
    more = {"ADAPTER": adapter} if adapter else {}
    many, none = (collected(program, broadcasting(members, number), settling, **more) for number in (broadcasts, 0))
    return (many - none) / broadcasts


def main():
    program, *named = sys.argv[1:]
    alone = {room: count(program, None, 0, *room) for room in ROOMS}
    print("| adapter | " + " | ".join(f"room of {members}" for members, _ in ROOMS) + " |")
    print("|---" * (len(ROOMS) + 1) + "|")
    print("| none | " + " | ".join(f"{alone[room]:,.0f}" for room in ROOMS) + " |", flush=True)
    for name in named or SCHEMES:
        script, options, settling, url = SCHEMES[name]
        with broker(script, options) as port:
            counts = {room: count(program, url.format(port), settling, *room) for room in ROOMS}
        cells = [f"{counts[room]:,.0f} (+{counts[room] / alone[room] * 100 - 100:.1f} %)" for room in ROOMS]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
