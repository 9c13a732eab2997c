#!/usr/bin/env python3
"""Measures bursts of prices: two servers on one PostgreSQL, one that is published to and one whose clients follow.

    benches/instructions/prices.py target/dist/roomcast postgres://USER@HOST/DATABASE [SECONDS]

The database must be empty, and PostgreSQL must have `fsync`. Prints a table for benches/README.md: how long a lone
`POST /prices` takes, without load and during a burst of 9,000 new symbols, and how long after the first server took a
price a client of the other server has it, while each of 10,000 symbols changes once a second. Only Python is needed.
"""

import base64, http.client, json, os, socket, subprocess, sys, tempfile, threading, time

SECRET = "a secret that is good enough for a bench"
SYMBOLS, BATCH, FOLLOWED = 10_000, 1_000, 100


def start(binary, url, folder):
    settings = dict(
        os.environ, ROOMCAST_LISTEN="127.0.0.1:0", ROOMCAST_SERVER__ADMIN_LISTEN="127.0.0.1:0", ROOMCAST_STORE=url,
        ROOMCAST_PROFILE="development", ROOMCAST_AUTH__JWT__SECRET=SECRET, NO_COLOR="1",
        ROOMCAST_LIMITS__API_CALLS_PER_SECOND="0", ROOMCAST_LIMITS__REQUESTS_PER_SECOND="0")
    process = subprocess.Popen([binary, "serve"], cwd=folder, env=settings, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "listening on" in line:
            port = int(line.split("listening on")[1].split("://")[1].split(":")[1].split()[0].strip("/"))
            threading.Thread(target=lambda: [None for _ in process.stdout], daemon=True).start()
            return process, port
    sys.exit("the server does not start")


def token(binary, folder, *words):
    settings = dict(os.environ, ROOMCAST_AUTH__JWT__SECRET=SECRET)
    return subprocess.run([binary, "token", *words], cwd=folder, env=settings, capture_output=True, text=True,
                          check=True).stdout.strip()


class Service:
    def __init__(self, port, bearer):
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.head = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}

    def publish(self, body):
        """Publishes, and returns the milliseconds that took."""
        begin = time.perf_counter()
        self.connection.request("POST", "/api/v1/prices", json.dumps(body), self.head)
        answer = self.connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (answer.status, text)
        return (time.perf_counter() - begin) * 1e3


class Follower:
    """A client of FOLLOWED symbols, over one WebSocket."""

    def __init__(self, port, bearer, symbols):
        self.socket = socket.create_connection(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode())
        self.file = self.socket.makefile("rb")
        while self.file.readline() != b"\r\n":
            pass
        self.until("0{")
        self.send("40" + json.dumps({"token": bearer}))
        self.until("40{")
        self.send("420" + json.dumps(["subscribe:prices", {"symbols": symbols}]))
        self.until('430[{"success":true')

    def send(self, text):
        data = text.encode()
        length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + len(data).to_bytes(2, "big")
        self.socket.sendall(b"\x81" + length + bytes(4) + data)

    def frame(self):
        length = self.file.read(2)[1]
        if length >= 126:
            length = int.from_bytes(self.file.read(2 if length == 126 else 8), "big")
        text = self.file.read(length).decode()
        if text == "2":
            self.send("3")
        return text

    def until(self, begin):
        while not self.frame().startswith(begin):
            pass

    def price(self):
        while True:
            text = self.frame()
            if text.startswith('42["price:update"'):
                return json.loads(text[2:])[1]


def quantiles(times):
    times = sorted(times)
    at = [times[min(len(times) - 1, int(len(times) * part))] for part in (0.5, 0.99, 1)]
    return ", ".join(f"{one:.1f}" for one in at)


def main():
    binary, url = os.path.abspath(sys.argv[1]), sys.argv[2]
    seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 30
    folder = tempfile.mkdtemp()
    servers = [start(binary, url, folder) for _ in range(2)]
    try:
        bearer = token(binary, folder, "--sub", "backend", "--role", "service")
        reader = token(binary, folder, "--sub", "reader")
        (_, first), (_, second) = servers
        lone = Service(first, bearer)
        quiet = []
        for value in range(seconds * 10):
            quiet.append(lone.publish({"symbol": "S0", "price": value + 1}))
            time.sleep(0.1)  # The pace of publishing.

        # All batches of the burst are sent at once, and a lone price again and again until all are stored.
        burst = []
        batches = [{"prices": [{"symbol": f"S{n}", "price": 1} for n in range(begin, begin + BATCH)]}
                   for begin in range(0, 9 * BATCH, BATCH)]
        threads = [threading.Thread(target=lambda body=body: burst.append(Service(first, bearer).publish(body)))
                   for body in batches]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        during = []
        while any(thread.is_alive() for thread in threads):
            during.append(lone.publish({"symbol": "S0", "price": 1}))
        stored = (time.perf_counter() - begin) * 1e3

        # The price is the time, in microseconds since the begin.
        start_of = time.perf_counter()
        micros = lambda: int((time.perf_counter() - start_of) * 1e6)
        lags, answers = [], []
        step = SYMBOLS // FOLLOWED
        follower = Follower(second, reader, [f"S{n}" for n in range(0, SYMBOLS, step)])

        def follow():
            while micros() < (seconds + 1) * 1e6:
                price = follower.price()["price"]
                # The first second creates the last symbols.
                if price > 1e6:
                    lags.append((micros() - price) / 1e3)

        following = threading.Thread(target=follow, daemon=True)
        following.start()
        services = [Service(first, bearer) for _ in range(2)]

        def publish(which):
            due = 0.2 * which * 0.5
            batch = which
            while micros() < (seconds + 2) * 1e6:
                time.sleep(max(0, due - micros() / 1e6))  # The pace of publishing.
                names = range(batch % 10 * BATCH, (batch % 10 + 1) * BATCH)
                now = max(1, micros())
                answers.append(services[which].publish({"prices": [{"symbol": f"S{n}", "price": now} for n in names]}))
                batch, due = batch + 2, due + 0.2

        publishing = [threading.Thread(target=publish, args=(which,)) for which in range(2)]
        for thread in publishing:
            thread.start()
        for thread in publishing:
            thread.join()
        following.join(5)
        print("| a lone price p50, p99, max ms | 9,000 new symbols stored after ms | a lone price meanwhile p50, p99, max ms "
              "| 10,000 symbols, one change a second each: batches of 1,000 p50, p99, max ms | at the other node p50, p99, max ms |")
        print("|---|---|---|---|---|")
        print(f"| {quantiles(quiet)} | {stored:.0f} | {quantiles(during)} | {quantiles(answers)} | {quantiles(lags)} |")
    finally:
        for process, _ in servers:
            process.kill()


main()
