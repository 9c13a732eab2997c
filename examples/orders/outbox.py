"""The outbox: events that are written in the transaction of the change that they report.

The database has an event exactly if it has the change. `Outbox.publish` sends the events to Roomcast,
in order, until they are stored there. So no event is lost, whichever of the programs is down, and none
reports a change that was rolled back.
"""
import asyncio
import json
import logging
import sqlite3
import uuid
from collections.abc import Callable

import httpx

BATCH = 100  # Events in one request.
TIMEOUT = 10.0  # Seconds that a request may take.
FIRST_DELAY, LAST_DELAY = 0.2, 5.0  # Seconds between attempts. The delay doubles in between.
WRONG = (400, 413)  # Refusals of an event. Other refusals may end, such as a missing permission.

log = logging.getLogger("uvicorn.error")


class Outbox:
    def __init__(self, db: sqlite3.Connection, url: str, token: Callable[[], str]):
        self.db, self.url, self.token = db, url, token
        self.has_events = asyncio.Event()
        self.has_events.set()  # Events of an earlier process.
        # `refusal` has the reason of Roomcast. Such an event is not sent again.
        db.execute(
            "CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT,"
            " id TEXT, channel TEXT, event TEXT, data TEXT, refusal TEXT)"
        )

    def add(self, channel: str, event: str, data: dict) -> None:
        """Adds an event in the transaction of the caller."""
        row = (str(uuid.uuid4()), channel, event, json.dumps(data))
        self.db.execute("INSERT INTO outbox (id, channel, event, data) VALUES (?, ?, ?, ?)", row)
        self.has_events.set()

    async def publish(self) -> None:
        """Publishes events until it is cancelled.

        Later events wait until earlier ones are stored, so they are stored in the order of the changes.
        Events without an answer are sent again. Roomcast stores an event once for each `id`.
        """
        limit, delay = BATCH, FIRST_DELAY
        async with httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT) as http:
            while True:
                await self.has_events.wait()
                try:
                    limit = await self.publish_next(http, limit)
                    delay = FIRST_DELAY
                except Exception as error:  # The events stay in the outbox.
                    log.warning("outbox: %r, next attempt in %.1f s", error, delay)
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, LAST_DELAY)

    async def publish_next(self, http: httpx.AsyncClient, limit: int) -> int:
        """Publishes the oldest events, at most `limit`. Returns the limit of the next request."""
        rows = self.db.execute("SELECT * FROM outbox WHERE refusal IS NULL ORDER BY seq LIMIT ?", (limit,)).fetchall()
        if not rows:
            self.has_events.clear()
            return limit
        events = [{**{key: row[key] for key in ("channel", "event", "id")}, "data": json.loads(row["data"])} for row in rows]
        headers = {"Authorization": f"Bearer {self.token()}"}
        answer = await http.post("/api/v1/channels/events", headers=headers, json={"events": events})
        if answer.status_code in WRONG and len(rows) > 1:
            return 1  # None is stored. One by one, only the wrong event is left out.
        with self.db:
            if answer.status_code in WRONG:
                log.error("outbox: event %s is refused: %s", rows[0]["id"], answer.text)
                self.db.execute("UPDATE outbox SET refusal = ? WHERE seq = ?", (answer.text, rows[0]["seq"]))
                return 1
            answer.raise_for_status()
            self.db.executemany("DELETE FROM outbox WHERE seq = ?", [(row["seq"],) for row in rows])
        return BATCH
