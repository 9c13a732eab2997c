#!/usr/bin/env python3
"""The memory of rooms: resident bytes of a server for each 100 rooms.

    cargo build --profile dist -p roomcast --example fanout
    benches/levels/rooms.py TARGET/dist/examples/fanout [TARGET/dist/roomcast]

- the library: clients join rooms of the contract server, with names of 36 letters, one client each or ten the same;
- the chat server: users create conversations, and join them with one connection each.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "instructions"))
from adapters import Client  # noqa: E402

# The rooms of each client: less than `max_rooms_per_socket`, and than a connection to the chat may join.
OF_A_CLIENT = 900
OF_A_MEMBER = 50


def start(program, pattern, **env):
    server = subprocess.Popen([program], env={**os.environ, "NO_COLOR": "1"} | env, stdout=subprocess.PIPE, text=True)
    for line in server.stdout:
        if found := re.search(pattern, line):
            return server, int(found[1])
    sys.exit("the server did not start")


def resident(server):
    # The allocator returns what is free after a while.
    time.sleep(2)
    with open(f"/proc/{server.pid}/statm") as file:
        return int(file.read().split(" ")[1]) * os.sysconf("SC_PAGE_SIZE")


def row(name, rooms, before, after):
    print(f"| {name} | {rooms} | {(after - before) / rooms:,.0f} | {(after - before) / rooms * 100 / 1024 / 1024:.3f} |", flush=True)


def library(program, members, rooms):
    """Groups of clients join the same rooms, each group as many as a socket may join."""
    server, port = start(program, r":(\d+)$", PORT="0", WORKERS="1", PING_INTERVAL_MS="3600000")
    clients = [Client(port) for _ in range(members * rooms // OF_A_CLIENT)]

    def join(numbers):
        for index, client in enumerate(clients):
            for number in numbers:
                name = b"00000000-0000-4000-%04d-%012d" % (index // members, number)
                client.send(b'420["join","%s"]' % name)
            for _ in numbers:
                assert client.receive() == b"430[]"

    join(range(10))
    before = resident(server)
    for first in range(10, OF_A_CLIENT + 10, 90):
        join(range(first, first + 90))
    row(f"library, {members} in each", rooms, before, resident(server))
    server.kill()
    server.wait()


def chat(program, rooms):
    with tempfile.TemporaryDirectory() as folder:
        server, port = start(
            program,
            r"listening on http://127\.0\.0\.1:(\d+)",
            XDG_STATE_HOME=folder,
            ROOMCAST_LISTEN="127.0.0.1:0",
            ROOMCAST_STORE="memory:",
            ROOMCAST_AUTH__ROLES__GUEST__INHERITS="user",
            ROOMCAST_LIMITS__CHANGES_PER_MINUTE="0",
            ROOMCAST_LIMITS__REQUESTS_PER_SECOND="0",
            ROOMCAST_LIMITS__JOINS_PER_ADDRESS="0",
            ROOMCAST_LIMITS__JOINS_PER_USER="0",
            ROOMCAST_ENGINE__JOINS_PER_MINUTE="0",
            ROOMCAST_ENGINE__PACKETS_PER_SECOND="0",
        )
        clients = [Client(port) for _ in range(rooms // OF_A_MEMBER)]

        def ask(client, event, payload):
            client.send(b"420" + json.dumps([event, payload]).encode())
            while not (text := client.receive()).startswith(b"430"):
                if text == b"2":
                    client.send(b"3")
            answer = json.loads(text[3:])[0]
            if not answer["success"]:
                sys.exit(f"{event}: {answer}")
            return answer

        def create(client):
            return ask(client, "create_conversation", {"title": "a conversation", "memberIds": []})["conversation"]["id"]

        def join(client, conversation):
            ask(client, "join_conversation", {"conversationId": conversation})

        # What exists once, and the caches of the store.
        for client in clients:
            for _ in range(5):
                join(client, create(client))
        empty = resident(server)
        ids = [(client, create(client)) for client in clients for _ in range(OF_A_MEMBER)]
        before = resident(server)
        row("chat server, conversations that are created", rooms, empty, before)
        for client, conversation in ids:
            join(client, conversation)
        row("chat server, conversations that one client joins", rooms, before, resident(server))
        server.kill()
        server.wait()


def main():
    print("| rooms | number | bytes of a room | MiB of 100 rooms |\n|---|---|---|---|")
    library(sys.argv[1], 1, 18_000)
    library(sys.argv[1], 10, 18_000)
    for program in sys.argv[2:]:
        chat(program, 2000)


main()
