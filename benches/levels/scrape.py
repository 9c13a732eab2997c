#!/usr/bin/env python3
"""Measures how long a scrape of /metrics takes while clients are connected.

    benches/levels/scrape.py PROGRAM [CLIENTS]

PROGRAM is the roomcast binary, CLIENTS their number (10,000). Needs 1,000 more descriptors than clients
(`ulimit -n`). Prints the times of 200 scrapes over a connection that stays open, in milliseconds, and the
number of series.
"""

import http.client
import os
import re
import subprocess
import sys
import tempfile
import time

SCRAPES = 200


def main():
    program, clients = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        env = {
            **os.environ,
            "XDG_STATE_HOME": folder,
            "NO_COLOR": "1",
            "ROOMCAST_LISTEN": "127.0.0.1:0",
            "ROOMCAST_STORE": "memory:",
            "ROOMCAST_LIMITS__CONNECTIONS_PER_ADDRESS": "100000",
            "ROOMCAST_LIMITS__CONNECTS": "100000",
        }
        server = subprocess.Popen([program], env=env, stdout=subprocess.PIPE, text=True)
        load = None
        try:
            main_url, admin = addresses(server.stdout)
            args = [program, "bench", "idle", main_url, "-n", str(clients), "-d", "60"]
            load = subprocess.Popen(args, env=env, stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + 120
            while value(scrape(admin)[1], "roomcast_connections") < clients:
                if time.monotonic() > deadline or load.poll() is not None:
                    sys.exit("the clients did not connect")
                time.sleep(0.5)
            connection = http.client.HTTPConnection(admin)
            scrape(admin, connection)
            times, text = [], ""
            for _ in range(SCRAPES):
                took, text = scrape(admin, connection)
                times.append(took * 1000)
                time.sleep(0.02)
            times.sort()
            series = sum(not line.startswith("#") for line in text.splitlines())
            print(f"{clients} clients, {series} series, {len(text)} bytes: p50 {times[SCRAPES // 2]:.2f} ms, "
                  f"p95 {times[SCRAPES * 95 // 100]:.2f} ms, maximum {times[-1]:.2f} ms")
        finally:
            for process in filter(None, (load, server)):
                process.kill()
                process.wait()


def addresses(lines):
    """Returns the addresses of the server and of its admin listener."""
    main_url = admin = None
    for line in lines:
        if found := re.search(r"admin listener ready.*http://(127\.0\.0\.1:\d+)", line):
            admin = found[1]
        elif found := re.search(r"listening on (http://127\.0\.0\.1:\d+)", line):
            main_url = found[1]
        if main_url and admin:
            return main_url, admin
    sys.exit("the server did not start")


def scrape(admin, connection=None):
    """Returns the time of a scrape and its text."""
    connection = connection or http.client.HTTPConnection(admin)
    begin = time.perf_counter()
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    return time.perf_counter() - begin, text


def value(text, name):
    return float(re.search(rf"^{name} (\S+)$", text, re.M)[1])


main()
