"""The HTTP API of the real server against its own document, by the official validator and by Schemathesis."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import urllib.request

import openapi_spec_validator

from test_python import BUILT, Server

SECRET = "a secret of at least thirty-two bytes"
READER = "a-token-of-at-least-thirty-two-characters"
DEADLINE = 600
"""Decides only how long a failing test waits, in seconds."""
EXCLUDED = ["trace", "eraseUser", "exportUser", "setLogLevel", "listAlerts", "findConversations"]
"""A stream, operations whose cursors and filters have a syntax that their schema does not state, and
one whose parameters exclude each other."""
METHODS = {"get", "put", "post", "patch", "delete"}


class HttpApi(unittest.TestCase):
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

    def test_the_document_is_valid(self):
        openapi_spec_validator.validate_url(self.document)

    def test_random_requests_are_answered_as_the_document_says(self):
        command = [
            str(pathlib.Path(sys.executable).with_name("schemathesis")),
            "run",
            self.document,
            "--header=Authorization: Bearer " + self.token,
            "--seed=1",
            "--max-examples=10",
            "--phases=coverage,fuzzing",
            *("--exclude-operation-id=" + operation for operation in EXCLUDED),
            # The time that a busy machine takes to create a request, and to answer it, is no fault
            # of the server.
            "--suppress-health-check=too_slow",
            "--request-timeout=60",
            "--continue-on-failure",
            "--warnings=off",
            "--no-color",
        ]
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run(
                command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE
            )
        self.assertEqual(run.returncode, 0, run.stdout)
        with urllib.request.urlopen(self.document) as document:
            paths = json.load(document)["paths"].values()
        found = [path[method]["operationId"] for path in paths for method in path if method in METHODS]
        self.assertLessEqual(set(EXCLUDED), set(found))
        operations = len(found) - len(EXCLUDED)
        self.assertGreater(operations, 30)
        self.assertRegex(run.stdout, rf"Tested: {operations}\b")
        request = urllib.request.Request(f"{self.server.url}/metrics")
        request.add_header("Authorization", "Bearer " + READER)
        with urllib.request.urlopen(request) as metrics:
            self.assertIn('roomcast_api_calls_total{result="failed"} 0\n', metrics.read().decode())


if __name__ == "__main__":
    unittest.main()
