"""Bytes and processor time per delivery of a broadcast, with and without permessage-deflate.

    benches/compression/measure.py RUST_EXAMPLE_FANOUT [MEMBERS ...]

Starts each server alone, connects members that offer the extension, joins them to one room and
broadcasts to it, one event at a time. The figures are those of the server's process: the time of its
threads, with the kernel, and bytes as its clients receive them. Each figure is the median of ROUNDS
rounds of at least DELIVERIES deliveries, with the lowest and the highest. NODE_PACKAGES names the
package.json beside which `socket.io` is installed.
"""

import json
import os
import pathlib
import random
import resource
import selectors
import socket
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
DELIVERIES = 60_000
ROUNDS = 10
MASK = b"\x37\xfa\x21\x3d"
# The connections that the program may have at a time.
DESCRIPTORS = 16_000


def masked(text):
    data = text.encode()
    length = len(data)
    head = bytes([0x81, 0x80 | length]) if length < 126 else b"\x81\xfe" + length.to_bytes(2, "big")
    return head + MASK + bytes(byte ^ MASK[index % 4] for index, byte in enumerate(data))


def payload(size):
    """Returns a JSON object of about this size, as an application sends it: few names, many values."""
    numbers = random.Random(size)
    items = []
    while len(json.dumps(items)) < size - 30:
        items.append({"id": numbers.randrange(10**6), "user": numbers.choice(["ada", "bob", "eve"]), "ok": True})
    return items


class Member:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.received = b""
        self.socket.sendall(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        )
        while b"\r\n\r\n" not in self.received:
            self.read()
        head, self.received = self.received.split(b"\r\n\r\n", 1)
        self.is_deflated = b"permessage-deflate" in head.lower()
        self.frame()
        self.socket.sendall(masked("40"))
        self.frame()
        self.socket.sendall(masked('420["join","room"]'))
        self.frame()

    def read(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise RuntimeError("the server has closed")
        self.received += data

    def frames(self):
        """Takes the complete frames out of the buffer. Returns their number and size."""
        count = size = 0
        while len(self.received) >= 2:
            length, start = self.received[1], 2
            if length == 126:
                length, start = int.from_bytes(self.received[2:4], "big"), 4
            if len(self.received) < start + length or (start == 4 and len(self.received) < 4):
                break
            if length == 1:
                self.socket.sendall(masked("3"))
            else:
                count, size = count + 1, size + start + length
            self.received = self.received[start + length :]
        return count, size

    def frame(self):
        while self.frames()[0] == 0:
            self.read()


def processor_time(pid):
    """Returns the time of all threads in µs."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000


class Server:
    """A running server, all of whose clients are members of one room."""

    def __init__(self, command, environment, members, size):
        # Members answer no pings while the other server has its turn.
        environment = {**os.environ, "PORT": "0", "PING_INTERVAL_MS": "3600000", "WORKERS": "1", **environment}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        while "listening on" not in (line := self.process.stdout.readline()):
            pass
        port = int(line.rsplit(":", 1)[1])
        self.members = [Member(port) for _ in range(members)]
        assert all(member.is_deflated == ("DEFLATE" in environment) for member in self.members)
        self.selector = selectors.DefaultSelector()
        for member in self.members:
            self.selector.register(member.socket, selectors.EVENT_READ, member)
        content = payload(size)
        self.event = masked("42" + json.dumps(["bcast", "room", content], separators=(",", ":")))
        self.broadcasts = max(3, DELIVERIES // members)

    def round(self):
        """Broadcasts. Returns the processor time and the bytes of a delivery."""
        start, received, total = processor_time(self.process.pid), 0, 0
        for turn in range(self.broadcasts):
            self.members[0].socket.sendall(self.event)
            while received < (turn + 1) * len(self.members):
                for key, _ in self.selector.select(60):
                    key.data.read()
                    count, size = key.data.frames()
                    received, total = received + count, total + size
        return (processor_time(self.process.pid) - start) / received, total / received

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.selector.close()
        for member in self.members:
            member.socket.close()


def measure(kinds, members, size):
    """Returns the rounds of each kind of server. The kinds take turns if there are enough descriptors."""
    if len(kinds) * members > DESCRIPTORS:
        return [rounds for kind in kinds for rounds in measure([kind], members, size)]
    servers = [Server(*kind, members, size) for kind in kinds]
    try:
        return list(zip(*([server.round() for server in servers] for _ in range(ROUNDS))))
    finally:
        for server in servers:
            server.stop()


def main():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    fanout = sys.argv[1]
    sizes = [int(members) for members in sys.argv[2:]] or [100, 1000, 10_000]
    print("| members | server | bytes plain, deflated | µs plain | µs deflated | ratio |")
    print("|---|---|---|---|---|---|")
    for members in sizes:
        for size in [200, 4096]:
            for name, command in [("Roomcast", [fanout]), ("Node", ["node", str(HERE / "server.mjs")])]:
                plain, deflated = measure([(command, {}), (command, {"DEFLATE": "0"})], members, size)
                ratios = [with_it[0] / without[0] for without, with_it in zip(plain, deflated)]
                print(
                    f"| {members:,} | {name} | {plain[0][1]:.0f}, {deflated[0][1]:.0f} | {spread(plain)} | {spread(deflated)} | "
                    f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) |",
                    flush=True,
                )


def spread(rounds):
    times = [time for time, _ in rounds]
    return f"{statistics.median(times):.2f} ({min(times):.2f}–{max(times):.2f})"


if __name__ == "__main__":
    main()
