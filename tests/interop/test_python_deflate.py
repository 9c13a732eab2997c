"""permessage-deflate of Python's `websockets` against the interop server."""

import asyncio
import json
import unittest

from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from python_cases import DEADLINE, interop

LONG = "the same words again and again, " * 500


class Deflate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = interop()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    async def exchange(self, **parameters):
        """Echoes texts of several sizes, and returns the answered extension."""
        url = f"{self.server.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket"
        extension = ClientPerMessageDeflateFactory(**parameters)
        async with asyncio.timeout(DEADLINE), connect(url, compression=None, extensions=[extension]) as socket:
            self.assertTrue((await socket.recv()).startswith("0{"))
            await socket.send("40")
            self.assertTrue((await self.message(socket)).startswith("40{"))
            for content in ["", "short", LONG, "".join(map(chr, range(1000, 30_000)))]:
                await socket.send("421" + json.dumps(["echo", content]))
                answer = await self.message(socket)
                self.assertEqual(json.loads(answer.removeprefix("431")), [content])
            return socket.response.headers.get("Sec-WebSocket-Extensions")

    @staticmethod
    async def message(socket):
        while (message := await socket.recv()) == "2":
            await socket.send("3")
        return message

    def test_offers(self):
        none = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        for parameters, more in [
            ({}, ""),
            ({"server_no_context_takeover": True, "client_no_context_takeover": True}, ""),
            ({"server_max_window_bits": 9}, "; server_max_window_bits=9"),
            ({"client_max_window_bits": 10}, "; client_max_window_bits=10"),
        ]:
            with self.subTest(parameters):
                self.assertEqual(asyncio.run(self.exchange(**parameters)), none + more)

    def test_window_of_8_bits_is_declined(self):
        self.assertIsNone(asyncio.run(self.exchange(server_max_window_bits=8)))


if __name__ == "__main__":
    unittest.main()
