#!/usr/bin/env python3
"""What one unit of work costs the server: instructions in user space, counted by callgrind.

    cargo build --profile dist --example fanout
    benches/instructions/units.py TARGET/dist/examples/fanout [OLDER PROGRAM...]

It runs each program, a contract server, in turn with one worker. A count is the difference between
two runs that differ only in the number of units, so it excludes starting. It includes the code in
user space that makes system calls, and what an idle worker does in the meantime. Needs valgrind.

- echo: an event of 128 bytes and its acknowledgement, by one WebSocket client;
- write: a broadcast to a room of 10, divided by the 10;
- poll: a polling request that waits, an echo by another client, and the event that answers the
  request;
- churn: a WebSocket that connects, joins the namespace and closes.
"""
import http.client
import struct
import sys

from adapters import FIRST, PAYLOAD, Client, broadcasting, collected


def echoes(number):
    def play(port):
        client = Client(port)
        for _ in range(FIRST + number):
            client.send(b'420["echo","%s"]' % PAYLOAD)
            assert client.receive().startswith(b"430[")

    return play


def polls(number):
    def play(port):
        sender = Client(port)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        path = "/socket.io/?EIO=4&transport=polling"

        def get():
            connection.request("GET", path)
            return connection.getresponse().read()

        def post(packet):
            connection.request("POST", path, packet)
            assert connection.getresponse().read() == b"ok"

        path += "&sid=" + get().split(b'"sid":"')[1].split(b'"')[0].decode()
        post(b"40")
        assert get().startswith(b"40{")
        post(b'420["join","room"]')
        assert get() == b"430[]"
        for _ in range(FIRST + number):
            connection.request("GET", path)
            # The server has received the request once it answers an event that was sent later.
            sender.send(b'421["echo",1]')
            assert sender.receive().startswith(b"431[")
            sender.send(b'42["bcast","room","%s"]' % PAYLOAD)
            assert connection.getresponse().read().startswith(b'42["msg"')
        # No poll waits now, so closing the connection interrupts none.
        connection.close()

    return play


def cycles(number):
    def play(port):
        for _ in range(FIRST + number):
            client = Client(port)
            client.socket.sendall(b"\x88\x82\0\0\0\0" + struct.pack(">H", 1000))
            while client.socket.recv(65536):
                pass
            client.socket.close()

    return play


# By name: the scenario, how many times it is counted, and the units in one repetition.
UNITS = {
    "echo": (echoes, 4000, 1),
    "write": (lambda number: broadcasting(10, number), 4000, 10),
    "poll, with the echo before it": (polls, 2000, 1),
    "churn": (cycles, 500, 1),
}


def main():
    programs = sys.argv[1:]
    print("| unit | " + " | ".join(programs) + " |")
    print("|---" * (len(programs) + 1) + "|")
    for name, (unit, number, parts) in UNITS.items():
        counts = [(collected(program, unit(number)) - collected(program, unit(0))) / number / parts for program in programs]
        print(f"| {name} | " + " | ".join(f"{count:,.0f}" for count in counts) + " |", flush=True)


if __name__ == "__main__":
    main()
