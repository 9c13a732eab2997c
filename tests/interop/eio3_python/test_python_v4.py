"""The Python client of Socket.IO 2 (python-socketio 4), against the interop server."""

import os
import pathlib
import queue
import re
import subprocess
import threading
import unittest
import urllib.request

import engineio
import socketio

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
DEADLINE = 60
"""Decides only how long a failing test waits, in seconds."""

# The client refuses more than 16 packets in one polling answer by default; servers do not know that
# limit.
engineio.payload.Payload.max_decode_packets = 10_000


class Clients(unittest.TestCase):
    """The same cases for each transport; `self.client()` is connected."""

    transports = None

    @classmethod
    def setUpClass(cls):
        command = os.environ.get("TEST_SERVER_INTEROP", str(BUILT / "examples" / "interop"))
        environment = {**os.environ, "PORT": "0", "LISTENER_NAMES": "1", "PING_TIMEOUT_MS": "20000"}
        cls.process = subprocess.Popen(command.split(" "), env=environment, stdout=subprocess.PIPE, text=True)
        others, main = set(), None
        while main is None:
            line = cls.process.stdout.readline()
            if not line:
                raise RuntimeError(f"{command} does not listen")
            name, _, address = line.strip().rpartition(" on ")
            if name != "listening":
                others.add(address)
            elif re.match(r"127\.0\.0\.1:", address) and address not in others:
                main = address
        cls.url = f"http://{main}"

    @classmethod
    def tearDownClass(cls):
        cls.process.terminate()
        cls.process.wait(DEADLINE)
        cls.process.stdout.close()

    def client(self, **options):
        client = socketio.Client(reconnection=False)
        self.addCleanup(client.disconnect)
        client.connect(self.url, transports=self.transports, **options)
        ready = threading.Event()
        # The server admits the client to `/` after the connection is open.
        for _ in range(DEADLINE):
            try:
                client.emit("echo", 0, callback=lambda _: ready.set())
            except socketio.exceptions.BadNamespaceError:
                pass
            if ready.wait(1):
                return client
        self.fail("the client does not enter /")

    def test_knows_its_revision(self):
        me = self.client().call("whoami", timeout=DEADLINE)
        self.assertEqual(me["eio"], 3)
        self.assertEqual(me["transport"], (self.transports or ["websocket"])[0])

    def test_echo_with_acknowledgement(self):
        client = self.client()
        value = {"text": "Ä 語", "list": [1, 2.5, None, True]}
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

    def test_many_events(self):
        client = self.client()
        items = queue.Queue()
        client.on("item", lambda i, text: items.put((i, len(text))))
        client.emit("stream", (500, 50))
        seen = sorted(items.get(timeout=DEADLINE) for _ in range(500))
        self.assertEqual(seen, [(i, 50) for i in range(500)])

    def test_namespaces_with_query_and_refusal(self):
        client = socketio.Client(reconnection=False)
        self.addCleanup(client.disconnect)
        refused, entered = queue.Queue(), threading.Event()
        client.on("connect_error", refused.put, namespace="/missing")
        client.on("connect", entered.set, namespace="/auth")
        client.connect(
            self.url, transports=self.transports, namespaces=["/chat", "/auth?token=good", "/missing"],
        )
        self.assertEqual(refused.get(timeout=DEADLINE), {"message": "Invalid namespace"})
        self.assertTrue(entered.wait(DEADLINE))
        self.assertEqual(client.call("whoami", namespace="/chat", timeout=DEADLINE)["nsp"], "/chat")
        me = client.call("whoami", namespace="/auth", timeout=DEADLINE)
        self.assertEqual((me["nsp"], me["auth"]), ("/auth", {"token": "good"}))

    def test_rooms(self):
        first, second = self.client(), self.client()
        heard = queue.Queue()
        second.on("news", heard.put)
        room = f"room of {first.sid}"
        self.assertEqual(second.call("join", room, timeout=DEADLINE), [room])
        first.emit("to", (room, "news", b"\x00\xff"))
        self.assertEqual(heard.get(timeout=DEADLINE), b"\x00\xff")

    def test_stays_through_heartbeats(self):
        client = self.client()
        pongs, third = 0, threading.Event()
        handle = client.eio._receive_packet

        def counted(packet):
            nonlocal pongs
            if packet.packet_type == 3:
                pongs += 1
                if pongs == 3:
                    third.set()
            handle(packet)

        client.eio._receive_packet = counted
        self.assertTrue(third.wait(DEADLINE))
        self.assertEqual(client.call("echo", 1, timeout=DEADLINE), 1)

    def test_server_side_disconnect(self):
        client = self.client()
        ended = threading.Event()
        client.on("disconnect", ended.set)
        client.emit("kick", True)
        self.assertTrue(ended.wait(DEADLINE))

    def test_session_id_is_not_the_socket_id(self):
        client = self.client()
        self.assertNotEqual(client.call("whoami", timeout=DEADLINE)["id"], client.sid)
        query = f"EIO=3&transport=polling&sid={client.call('whoami', timeout=DEADLINE)['id']}"
        with self.assertRaises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{self.url}/socket.io/?{query}")
        with refused.exception as error:
            self.assertEqual(error.code, 400)


class Polling(Clients):
    transports = ["polling"]


class WebSocket(Clients):
    transports = ["websocket"]


class Upgrade(Clients):
    transports = None


# The cases run only in the classes with a transport.
del Clients


if __name__ == "__main__":
    unittest.main()
