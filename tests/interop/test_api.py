"""The HTTP API of the real server against its own document, by the official validator. The rest is in `random_requests.py`."""

import os
import subprocess
import unittest

import openapi_spec_validator

from test_python import BUILT, Server

SECRET = "a secret of at least thirty-two bytes"
READER = "a-token-of-at-least-thirty-two-characters"


class ApiCase(unittest.TestCase):
    """Has a server, the address of its document, and a token of a service."""

    @classmethod
    def setUpClass(cls):
        environment = {
            "ROOMCAST_AUTH__JWT__SECRET": SECRET,
            "ROOMCAST_LIMITS__API_CALLS_PER_SECOND": "0",
            "ROOMCAST_LISTEN": "127.0.0.1:0",
            "ROOMCAST_SERVER__METRICS_TOKEN": READER,
            "ROOMCAST_STORE": "memory:",
            "NO_COLOR": "1",
        }
        program = str(BUILT / "roomcast")
        cls.server = Server([program], r"listening.*?(127\.0\.0\.1:\d+)", **environment)
        minted = [program, "token", "--sub", "backend", "--role", "service"]
        cls.token = subprocess.run(
            minted, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.strip()
        cls.document = f"{cls.server.url}/api/v1/openapi.json"

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()


class HttpApi(ApiCase):
    def test_the_document_is_valid(self):
        openapi_spec_validator.validate_url(self.document)
