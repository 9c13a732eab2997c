"""The stock Python clients, blocking and asyncio, against the interop server and the chat."""

import asyncio
import queue
import threading
import unittest

import socketio

from python_cases import BUILT, DEADLINE, Server, SharedCases, interop

LOBBY = "00000000-0000-4000-8000-000000000001"
PATIENT = {"reconnection": False, "request_timeout": DEADLINE}
"""A client that does not reconnect, and waits long for answers of a busy machine."""


def chat():
    """The server itself."""
    environment = {"ROOMCAST_LISTEN": "127.0.0.1:0", "ROOMCAST_STORE": "memory:", "NO_COLOR": "1"}
    return Server([str(BUILT / "roomcast")], r"listening.*?(127\.0\.0\.1:\d+)", **environment)


class Cases:
    """The same cases for each transport; `self.client()` is connected."""

    transports = []
    settings = PATIENT
    start = staticmethod(interop)

    @classmethod
    def setUpClass(cls):
        cls.server = cls.start()
        if "serializer" in cls.settings:
            host, port = cls.server.url.rsplit(":", 1)
            cls.server.url = f"{host}:{int(port) + 1}"

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()


class Blocking(SharedCases, Cases):
    def client(self, **options):
        client = socketio.Client(**self.settings)
        self.addCleanup(client.disconnect)
        client.connect(self.server.url, transports=self.transports, wait_timeout=DEADLINE, **options)
        return client

    def test_echo_as_event(self):
        client = self.client()
        heard = queue.Queue()
        client.on("echo", lambda *arguments: heard.put(arguments))
        client.emit("echo", ("x", {"y": 1}))
        self.assertEqual(heard.get(timeout=DEADLINE), ("x", {"y": 1}))

    def test_transport_is_the_one_asked_for(self):
        me = self.client().call("whoami", timeout=DEADLINE)
        self.assertEqual(me["transport"], self.transports[0])

    def test_many_events_in_order(self):
        client = self.client()
        items, done = [], threading.Event()
        client.on("item", lambda i, text: items.append((i, len(text))))
        client.on("done", lambda n: done.set())
        client.emit("stream", (500, 50))
        self.assertTrue(done.wait(DEADLINE))
        # The blocking client runs each handler in a thread of its own.
        self.assertTrue(wait_until(lambda: len(items) == 500))
        self.assertEqual(sorted(items), [(i, 50) for i in range(500)])

    def test_namespaces_and_refusal(self):
        client = socketio.Client(**self.settings)
        self.addCleanup(client.disconnect)
        refused = queue.Queue()
        client.on("connect_error", refused.put, namespace="/auth")
        client.connect(
            self.server.url, transports=self.transports, namespaces=["/chat", "/auth"],
            auth={"token": "bad"}, wait=False,
        )
        error = refused.get(timeout=DEADLINE)
        self.assertEqual(error, {"message": "not authorized", "data": {"code": "E_AUTH", "retry": 5}})
        self.assertTrue(wait_until(lambda: "/chat" in client.namespaces))
        self.assertEqual(client.call("whoami", namespace="/chat", timeout=DEADLINE)["nsp"], "/chat")

    def test_rooms(self):
        first, second = self.client(), self.client()
        heard = queue.Queue()
        second.on("news", heard.put)
        room = f"room of {first.get_sid()}"
        self.assertEqual(second.call("join", room, timeout=DEADLINE), [room])
        first.emit("to", (room, "news", "hello"))
        self.assertEqual(heard.get(timeout=DEADLINE), "hello")

    def test_server_side_disconnect(self):
        client = self.client()
        ended = threading.Event()
        client.on("disconnect", lambda reason: ended.set())
        client.emit("kick", True)
        self.assertTrue(ended.wait(DEADLINE))


class BlockingPolling(Blocking, unittest.TestCase):
    transports = ["polling"]


class BlockingWebSocket(Blocking, unittest.TestCase):
    transports = ["websocket"]


class MessagePackPolling(BlockingPolling):
    settings = {**PATIENT, "serializer": "msgpack"}


class MessagePackWebSocket(BlockingWebSocket):
    settings = {**PATIENT, "serializer": "msgpack"}


class Upgrade(Cases, unittest.TestCase):
    def test_upgrades_from_polling(self):
        client = socketio.Client(**PATIENT)
        self.addCleanup(client.disconnect)
        client.connect(self.server.url, wait_timeout=DEADLINE)
        self.assertEqual(client.call("whoami", timeout=DEADLINE)["transport"], "websocket")


class Asyncio(Cases):
    async def client(self):
        client = socketio.AsyncClient(**PATIENT)
        self.addAsyncCleanup(client.disconnect)
        await client.connect(self.server.url, transports=self.transports, wait_timeout=DEADLINE)
        return client

    async def test_echo_and_binary(self):
        client = await self.client()
        value = {"text": "Ä 🦀", "data": bytes(range(256))}
        self.assertEqual(await client.call("echo", value, timeout=DEADLINE), value)

    async def test_concurrent_questions(self):
        client = await self.client()
        answers = await asyncio.gather(*(client.call("echo", i, timeout=DEADLINE) for i in range(200)))
        self.assertEqual(answers, list(range(200)))

    async def test_answers_the_server(self):
        client = await self.client()

        async def greet(name):
            await asyncio.sleep(0)  # A turn of the loop: the answer does not come at once.
            return f"hello {name}", len(name)

        client.on("greet", greet)
        self.assertEqual(await client.call("ask", ("greet", "you"), timeout=DEADLINE), ("hello you", 3))

    async def test_stays_through_heartbeats(self):
        client = await self.client()
        pongs, third = 0, asyncio.Event()
        send = client.eio._send_packet

        async def counted(packet):
            nonlocal pongs
            if packet.packet_type == 3:
                pongs += 1
                if pongs == 3:
                    third.set()
            await send(packet)

        client.eio._send_packet = counted
        await asyncio.wait_for(third.wait(), DEADLINE)
        self.assertEqual(await client.call("echo", 1, timeout=DEADLINE), 1)


class AsyncioPolling(Asyncio, unittest.IsolatedAsyncioTestCase):
    transports = ["polling"]


class AsyncioWebSocket(Asyncio, unittest.IsolatedAsyncioTestCase):
    transports = ["websocket"]


class Chat(Cases, unittest.TestCase):
    start = staticmethod(chat)

    def guest(self, name, **options):
        client = socketio.Client(**PATIENT)
        self.addCleanup(client.disconnect)
        session = queue.Queue()
        client.on("session", session.put)
        client.connect(self.server.url, auth={"name": name}, wait_timeout=DEADLINE, **options)
        client.user = session.get(timeout=DEADLINE)
        joined = client.call("join_conversation", LOBBY, timeout=DEADLINE)
        self.assertTrue(joined["success"], joined)
        return client

    def test_two_clients_chat(self):
        ada, bob = self.guest("Ada"), self.guest("Bob", transports=["polling"])
        heard = queue.Queue()
        bob.on("message", heard.put)
        answer = ada.call("message", {"conversationId": LOBBY, "content": "hello"}, timeout=DEADLINE)
        self.assertTrue(answer["success"], answer)
        self.assertEqual(answer["message"]["userId"], ada.user["userId"])
        self.assertEqual(heard.get(timeout=DEADLINE), answer["message"])
        page = bob.call("message_history", {"conversationId": LOBBY, "limit": 1}, timeout=DEADLINE)
        self.assertEqual(page["messages"], [answer["message"]])


def wait_until(condition):
    """Return whether `condition` becomes true before the deadline; the client has no event for it.
    """
    pause = threading.Event()
    for _ in range(DEADLINE * 100):
        if condition():
            return True
        pause.wait(0.01)
    return False


if __name__ == "__main__":
    unittest.main()
