#!/usr/bin/env python3
"""What the compression of a polling response costs: its bytes, and instructions in user space, counted by callgrind.

    cargo build --profile dist --example interop
    benches/instructions/compression.py TARGET/dist/examples/interop [ENCODING...]

It posts an event with about 4 KiB and 64 KiB of JSON, which the contract server sends back, and polls it in each encoding that is
named (gzip, deflate; default: both). A count is the difference of two runs that differ in the number of polls, without
that of uncompressed responses. Wants valgrind.
"""
import http.client
import json
import random
import sys

from adapters import collected

ENCODINGS = ["gzip", "deflate"]
# Bytes of the response, and polls that are counted.
SIZES = [(4 << 10, 40), (64 << 10, 10)]
# Polls before those, so that what is made once has been made.
FIRST = 2
WORDS = (
    "the order arrived please check again tomorrow thanks server room price update message user hello why not maybe later today"
).split()


def messages(size):
    """A list of chat messages as JSON of this size, the same in every run."""
    numbers = random.Random(1)
    entries = []
    while len(json.dumps(entries, separators=(",", ":"))) < size:
        entries.append(
            {
                "id": f"{numbers.getrandbits(64):016x}",
                "conversation": numbers.randrange(40),
                "author": f"user-{numbers.randrange(200)}",
                "sentAt": f"2026-11-25T03:{numbers.randrange(60):02}:{numbers.randrange(60):02}.{numbers.randrange(1000):03}Z",
                "text": " ".join(numbers.choices(WORDS, k=numbers.randrange(4, 16))),
            }
        )
    return json.dumps(entries, separators=(",", ":"))


def polling(size, polls, encoding, lengths):
    """Polls the same event again and again."""

    def play(port):
        connection = http.client.HTTPConnection("127.0.0.1", port)

        def request(method, target, body=None, headers={}):
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            content = response.read()
            assert response.status == 200, content
            return response, content

        target = "/socket.io/?EIO=4&transport=polling"
        _, content = request("GET", target)
        target += "&sid=" + json.loads(content[1:])["sid"]
        request("POST", target, "40")
        request("GET", target)
        body = f'42["packed","n",{messages(size)}]'
        for _ in range(FIRST + polls):
            request("POST", target, body)
            content = b"2"
            # The server pings once, and waits for the answer.
            while content == b"2":
                response, content = request("GET", target, headers={"Accept-Encoding": encoding})
            assert response.getheader("Content-Encoding") == (None if encoding == "identity" else encoding)
            lengths[encoding] = len(content)

    return play


def count(program, size, polls, encoding, lengths):
    """Instructions of one poll."""
    many, none = (
        collected(program, polling(size, number, encoding, lengths), PING_TIMEOUT_MS="3600000") for number in (polls, 0)
    )
    return (many - none) / polls


def main():
    program, *named = sys.argv[1:]
    print("| response | encoding | bytes | instructions |")
    print("|---|---|---|---|")
    for size, polls in SIZES:
        lengths = {}
        plain = count(program, size, polls, "identity", lengths)
        whole = lengths["identity"]
        for encoding in named or ENCODINGS:
            more = count(program, size, polls, encoding, lengths) - plain
            length = lengths[encoding]
            print(f"| {whole:,} bytes | {encoding} | {length:,} ({length / whole * 100:.1f} %) | {more:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
