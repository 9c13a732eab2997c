"""The HTTP API of the real server against its own document, by Schemathesis, which takes over a minute."""

import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

from test_api import READER, ApiCase

DEADLINE = 600
"""Decides only how long a failing test waits, in seconds."""
UNSTATED = [
    "eraseUser",
    "exportUser",
    "setLogLevel",
    "listAlerts",
    "findConversations",
    "streamMessage",
    "readChannel",
]
"""Operations whose cursors and filters have a syntax that their schema does not state, and those whose
parameters exclude each other, or depend on the media type or on the path. They may refuse what fits
their schema."""
EXCLUDED = ["trace"]
"""A stream without an end."""
METHODS = {"get", "put", "post", "patch", "delete"}


class RandomRequests(ApiCase):
    def test_random_requests_are_answered_as_the_document_says(self):
        with urllib.request.urlopen(self.document) as document:
            paths = json.load(document)["paths"].values()
        found = [path[method]["operationId"] for path in paths for method in path if method in METHODS]
        excluded = UNSTATED + EXCLUDED
        self.assertLessEqual(set(excluded), set(found))
        operations = len(found) - len(excluded)
        self.assertGreater(operations, 30)
        self.request(operations, ["--exclude-operation-id=" + operation for operation in excluded])
        self.request(
            len(UNSTATED),
            ["--include-operation-id=" + operation for operation in UNSTATED]
            + ["--exclude-checks=positive_data_acceptance"],
        )
        request = urllib.request.Request(f"{self.server.url}/metrics")
        request.add_header("Authorization", "Bearer " + READER)
        with urllib.request.urlopen(request) as metrics:
            self.assertIn('roomcast_api_calls_total{result="failed"} 0\n', metrics.read().decode())

    def request(self, operations, options):
        """Sends random requests to a number of operations, which the options select."""
        command = [
            str(pathlib.Path(sys.executable).with_name("schemathesis")),
            "run",
            self.document,
            "--header=Authorization: Bearer " + self.token,
            "--seed=1",
            "--max-examples=10",
            "--phases=coverage,fuzzing",
            *options,
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
        self.assertRegex(run.stdout, rf"Tested: {operations}\b")
