#!/usr/bin/env python3
"""What a connection costs the server: processor time, bytes and memory.

    benches/levels/connections.py TARGET/dist/roomcast [idle] [rooms] [--seconds 75] [--clients 10000]

The program runs with its defaults, its store in memory, and the load of `roomcast bench`:

- idle: clients that answer pings (every 25 s) and do nothing else;
- rooms: 1,000 members in 100 conversations of 10, 100 messages of 128 bytes a second, all stored: each member gets one
  message a second and sends one in ten seconds.

Processor time is that of the process. Bytes are those of the kernel for each connection (`ss -i`): the content of the
stream, and with 52 bytes of headers for each segment (IP and TCP with timestamps).
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
HEADERS = 52
ROOMS = {"clients": 1000, "rooms": 100, "rate": 100}


class Server:
    def __init__(self, program, folder):
        self.env = {
            **os.environ,
            "XDG_STATE_HOME": folder,
            "NO_COLOR": "1",
            "ROOMCAST_LISTEN": "127.0.0.1:0",
            "ROOMCAST_STORE": "memory:",
            "ROOMCAST_LIMITS__CONNECTIONS_PER_ADDRESS": "0",
            "ROOMCAST_LIMITS__CONNECTS": "0",
        }
        self.process = subprocess.Popen([program], env=self.env, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if found := re.search(r"listening on (http://127\.0\.0\.1:(\d+))", line):
                self.url, self.port = found.groups()
                return
        sys.exit("the server did not start")

    def processor(self):
        """Returns the seconds of processor time so far."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            columns = file.read().rsplit(") ", 1)[1].split(" ")
        return (int(columns[11]) + int(columns[12])) / TICKS

    def resident(self):
        """Returns the resident bytes."""
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split(" ")[1]) * os.sysconf("SC_PAGE_SIZE")

    def traffic(self):
        """Returns the number of connections, and the sums of their counters."""
        listing = subprocess.run(
            ["ss", "-tinHO", "state", "established", f"( sport = :{self.port} )"], capture_output=True, text=True, check=True
        ).stdout
        names = ["bytes_sent", "bytes_received", "segs_out", "segs_in"]
        sums = {name: sum(map(int, re.findall(rf"\b{name}:(\d+)", listing))) for name in names}
        return len(listing.splitlines()), sums


def measure(program, kind, seconds, clients):
    with tempfile.TemporaryDirectory() as folder:
        server = Server(program, folder)
        load = None
        try:
            empty = server.resident()
            if kind == "idle":
                more = ["-n", str(clients)]
            else:
                clients = ROOMS["clients"]
                more = ["-n", str(clients), "--rooms", str(ROOMS["rooms"]), "-r", str(ROOMS["rate"]), "--payload", "128"]
            args = [program, "bench", kind, server.url, *more, "-d", str(seconds + 30)]
            load = subprocess.Popen(args, env=server.env, stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + 120
            while server.traffic()[0] < clients:
                if time.monotonic() > deadline or load.poll() is not None:
                    sys.exit("the clients did not connect")
                time.sleep(0.5)
            # The clients join their conversations.
            time.sleep(10)
            full = server.resident()
            began, worked, (_, before) = time.monotonic(), server.processor(), server.traffic()
            time.sleep(seconds)
            took, worked, (count, after) = time.monotonic() - began, server.processor() - worked, server.traffic()
            grown = {name: (after[name] - before[name]) / count / took for name in after}
            sent, received = grown["bytes_sent"], grown["bytes_received"]
            sent_all, received_all = sent + HEADERS * grown["segs_out"], received + HEADERS * grown["segs_in"]
            print(
                f"| {kind}, {count} connections, {took:.0f} s | {worked / took / count * 1e6:.2f} | {worked / took:.4f} "
                f"| {sent:.2f}, {received:.2f} | {sent_all:.2f}, {received_all:.2f} | {(full - empty) / count / 1024:.2f} |",
                flush=True,
            )
        finally:
            for process in filter(None, (load, server.process)):
                process.send_signal(signal.SIGKILL)
                process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("kinds", nargs="*", default=["idle", "rooms"])
    parser.add_argument("--seconds", type=int, default=75)
    parser.add_argument("--clients", type=int, default=10_000)
    arguments = parser.parse_args()
    print("| load | processor µs of a connection and second | cores | bytes of a connection and second: to the client, to the server | with headers | KiB of memory |")
    print("|---|---|---|---|---|---|", flush=True)
    for kind in arguments.kinds:
        measure(arguments.program, kind, arguments.seconds, arguments.clients)


main()
