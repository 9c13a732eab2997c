#!/usr/bin/env python3
"""What sealing adds to a broadcast between two servers: instructions in user space, counted by callgrind.

    cargo build --profile dist --example fanout
    benches/instructions/sealed.py TARGET/dist/examples/fanout [ADAPTER...]

Two contract servers with one worker each have the members of one room, the same number at each. A client of the first sends one
message at a time. The first server or the second runs under callgrind: the sender and the receiver of the publication. A count is the
difference of two runs that differ in the number of broadcasts. Wants valgrind.
"""
import os
import re
import subprocess
import sys
import time

from adapters import FIRST, PAYLOAD, SCHEMES, Client, broker

# Members of the room at each server, and broadcasts that are counted.
ROOMS = [(10, 600), (100, 150)]
NAMED = ["redis", "postgres", "nats"]
SECRET = "0123456789abcdef0123456789abcdef"


def serve(program, more, is_counted):
    env = dict(os.environ, PORT="0", WORKERS="1", PING_INTERVAL_MS="3600000") | more
    counting = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"] if is_counted else []
    server = subprocess.Popen([*counting, program], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return server, int(re.search(r":(\d+)$", server.stdout.readline().strip())[1])


def collected(program, more, counted, members, broadcasts):
    """Instructions of a whole run of the first server (0) or the second (1)."""
    servers = [serve(program, more, number == counted) for number in range(2)]
    # Each server learns of the other one from its heartbeat, which is sent every second.
    time.sleep(5)
    clients = [Client(port) for _, port in servers for _ in range(members)]
    for client in clients:
        client.send(b'420["join","room"]')
        assert client.receive() == b"430[]"
    # Until the second server has subscribed, broadcasts do not reach it.
    time.sleep(2)
    for _ in range(FIRST + broadcasts):
        clients[0].send(b'42["bcast","room","%s"]' % PAYLOAD)
        for client in clients:
            assert client.receive().startswith(b'42["msg"')
    for server, _ in servers:
        server.terminate()
    said = [server.communicate(timeout=120)[1] for server, _ in servers]
    return int(re.search(r"Collected : (\d+)", said[counted])[1])


def count(program, more, counted, members, broadcasts):
    """Instructions of one broadcast."""
    many, none = (collected(program, more, counted, members, number) for number in (broadcasts, 0))
    return (many - none) / broadcasts


def main():
    program, *named = sys.argv[1:]
    print("| adapter | room | sender, plain | sealed | receiver, plain | sealed |")
    print("|---" * 6 + "|")
    for name in named or NAMED:
        script, options, _, url = SCHEMES[name]
        for room in ROOMS:
            cells = []
            for counted in range(2):
                with broker(script, options) as port:
                    adapter = {"ADAPTER": url.format(port)}
                    plain = count(program, adapter, counted, *room)
                    sealed = count(program, adapter | {"SECRET": SECRET}, counted, *room)
                cells += [f"{plain:,.0f}", f"{sealed:,.0f} ({sealed / plain * 100 - 100:+.1f} %)"]
            print(f"| {name} | {room[0]} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
