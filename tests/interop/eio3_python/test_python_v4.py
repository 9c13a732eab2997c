"""The Python client of Socket.IO 2 (python-socketio 4), against the interop server."""

import pathlib
import queue
import sys
import threading
import unittest

import socketio

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from python_cases import DEADLINE, SharedCases, interop  # noqa: E402


class Clients(SharedCases, unittest.TestCase):
    """The same cases for each transport; `self.client()` is connected."""

    transports = None

    @classmethod
    def setUpClass(cls):
        cls.server = interop()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def client(self, **options):
        client = socketio.Client(reconnection=False)
        self.addCleanup(client.disconnect)
        client.connect(self.server.url, transports=self.transports, **options)
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
            self.server.url, transports=self.transports, namespaces=["/chat", "/auth?token=good", "/missing"],
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

    def test_socket_has_the_id_that_the_client_computes(self):
        client = self.client()
        self.assertEqual(client.call("whoami", timeout=DEADLINE)["id"], client.sid)


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
