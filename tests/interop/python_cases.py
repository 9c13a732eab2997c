"""What the tests of both generations of the Python client share: the servers, and cases."""

import os
import pathlib
import queue
import re
import signal
import subprocess
import threading

import engineio

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
DEADLINE = 60
"""Decides only how long a failing test waits, in seconds."""

# The client refuses more than 16 packets in one polling answer by default; servers do not know that
# limit.
engineio.payload.Payload.max_decode_packets = 10_000


class Server:
    """A process that prints its address, its main listener last; ends with the block."""

    def __init__(self, command, pattern, **environment):
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            others = set()
            while not (match := re.search(pattern, line := self.lines.get(timeout=DEADLINE))) or match[1] in others:
                if not line:
                    raise RuntimeError(f"{command} does not listen")
                if named := re.search(r"^(?!listening).+ on (127\.0\.0\.1:\d+)$", line):
                    others.add(named[1])
        except BaseException:
            self.process.kill()
            raise
        self.url = f"http://{match[1]}"

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)


def interop():
    """The `interop` example; TEST_SERVER_INTEROP names another to compare with."""
    command = os.environ.get("TEST_SERVER_INTEROP", str(BUILT / "examples" / "interop"))
    # Clients on a busy machine have time for a pong.
    beyond = {"PORT": "0", "LISTENER_NAMES": "1", "PING_TIMEOUT_MS": "20000"}
    return Server(command.split(" "), r"^listening on (127\.0\.0\.1:\d+)$", **beyond)


class SharedCases:
    """The cases that are the same for both generations; `self.client()` is connected."""

    def test_echo_with_acknowledgement(self):
        client = self.client()
        value = {"text": "Ä 🦀", "list": [1, 2.5, None, True]}
        self.assertEqual(client.call("echo", value, timeout=DEADLINE), value)
        self.assertEqual(client.call("echo", ("a", "b"), timeout=DEADLINE), ("a", "b"))

    def test_binary_both_ways(self):
        client = self.client()
        data = bytes(range(256)) * 300
        self.assertEqual(client.call("echo", {"deep": [data]}, timeout=DEADLINE), {"deep": [data]})
        seen = client.call("inspect", data, timeout=DEADLINE)
        self.assertEqual(seen, [{"t": "bin", "n": len(data), "sum": sum(data)}])

    def test_answers_the_server(self):
        client = self.client()
        client.on("double", lambda n: n * 2)
        self.assertEqual(client.call("ask", ("double", 21), timeout=DEADLINE), 42)
