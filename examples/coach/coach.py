"""A coach in the chat: a service that answers questions word by word.

The answers come from any endpoint with the API of OpenAI (OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL), or
without one from a generator in this file. COACH_URL is the server, COACH_TOKEN a token with the role `ai`.
"""

import asyncio
import contextlib
import json
import os
import uuid
from collections import deque
from collections.abc import AsyncIterator

import aiohttp
import socketio
from fastapi import FastAPI, Response

URL = os.environ.get("COACH_URL", "http://localhost:3000")
TOKEN = os.environ["COACH_TOKEN"]
LOBBY = "00000000-0000-4000-8000-000000000001"
CONTEXT = 20  # The maximum number of messages that the model reads.
RETRY_TIMEOUT = 30  # Seconds. After that, the server ends the message of an author without a connection.
SHUTDOWN_TIMEOUT = 5  # Seconds.


class Refused(Exception):
    """The server refused an event."""

    def __init__(self, event: str, error: dict):
        super().__init__(f"{event}: {error['code']}: {error['message']}")
        self.offset = (error.get("details") or {}).get("offset")


class Coach:
    def __init__(self, session: aiohttp.ClientSession):
        self.session = session
        self.socket = socketio.AsyncClient(reconnection=False, handle_sigint=False, http_session=session)
        self.user_id = ""
        self.joined: set[str] = set()
        self.answering: set[asyncio.Task] = set()
        self.is_closing = False
        # The last messages that members have stopped. A request can arrive before the coach knows its message.
        self.stopped: deque[str] = deque(maxlen=100)
        self.socket.on("connect_error", self.log_refusal)
        self.socket.on("session", self.begin)
        self.socket.on("message", self.read)
        self.socket.on("conversation_updated", self.admit)
        self.socket.on("message_stop_requested", self.stop)

    async def run(self) -> None:
        """Connects to the server, also after a lost connection and after a refusal."""
        while True:
            try:
                async with asyncio.timeout(10):
                    await self.socket.disconnect()  # Closes a connection whose attempt has timed out.
                    await self.socket.connect(URL, auth={"token": TOKEN}, transports=["websocket"], wait_timeout=10)
                await self.socket.wait()
            except socketio.exceptions.ConnectionError:
                pass  # `log_refusal` has received the reason.
            except Exception as error:
                self.log_refusal(repr(error))
            await asyncio.sleep(1)

    async def close(self) -> None:
        """Aborts the open answers and disconnects, within SHUTDOWN_TIMEOUT."""
        self.is_closing = True
        print(f"shuts down, with {len(self.answering)} open answers", flush=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_TIMEOUT):
                await asyncio.gather(*self.answering, return_exceptions=True)
                await self.socket.disconnect()

    async def call(self, event: str, payload: dict) -> dict:
        """Sends an event and returns its answer. Repeats it while the server is busy or unreachable."""
        async with asyncio.timeout(RETRY_TIMEOUT):
            while True:
                try:
                    answer = await self.socket.call(event, payload, timeout=10)
                    if answer["success"]:
                        return answer
                    error = answer["error"]
                    if error["code"] not in ("RATE_LIMITED", "STORE_UNAVAILABLE", "INTERNAL"):
                        raise Refused(event, error)
                    await asyncio.sleep(error.get("retryAfter", 1000) / 1000)
                except (socketio.exceptions.TimeoutError, socketio.exceptions.BadNamespaceError):
                    await asyncio.sleep(0.2)

    async def begin(self, session: dict) -> None:
        """Joins the Lobby and all conversations of the coach, after each connect."""
        self.user_id, self.joined = session["userId"], set()
        cursor: dict | None = {}
        while cursor is not None:
            page = await self.call("conversations", cursor)
            for conversation in page["conversations"]:
                await self.join(conversation["id"])
            cursor = {"cursor": page["cursor"]} if page["hasMore"] else None
        print(f"answers as {self.user_id}", flush=True)

    async def admit(self, event: dict) -> None:
        conversation = event["conversation"]
        if self.user_id in conversation["memberIds"] and conversation["id"] not in self.joined:
            await self.join(conversation["id"])

    async def join(self, conversation_id: str) -> None:
        await self.call("join_conversation", {"conversationId": conversation_id})
        self.joined.add(conversation_id)

    def log_refusal(self, error: object) -> None:
        print(f"not connected to {URL}: {error}", flush=True)

    async def stop(self, request: dict) -> None:
        self.stopped.append(request["messageId"])

    async def read(self, message: dict) -> None:
        """Answers a person. In the Lobby, which belongs to everyone, only a person who asks for the coach."""
        if message["type"] != "user" or message["userId"] == self.user_id or self.is_closing:
            return
        is_asked = self.user_id in message.get("mentions", []) or "@coach" in message["content"].lower()
        if message["conversationId"] != LOBBY or is_asked:
            task = asyncio.create_task(Answer(self, message).write())
            self.answering.add(task)
            task.add_done_callback(self.end)

    def end(self, task: asyncio.Task) -> None:
        self.answering.discard(task)
        if not task.cancelled() and (error := task.exception()):
            print(f"an answer ended early: {error!r}", flush=True)


class Answer:
    """The text of one message: what the model has written, and how much of it the server has."""

    def __init__(self, coach: Coach, question: dict):
        self.coach, self.question = coach, question
        self.message_id, self.text, self.sent = "", "", 0

    async def write(self) -> None:
        """Begins the message, sends what the model writes, and ends the message."""
        place = {"conversationId": self.question["conversationId"], "replyTo": self.question["id"]}
        # The id makes repeats harmless: the message begins once.
        begin = place | {"clientMessageId": str(uuid.uuid4()), "type": "ai"}
        begun = await self.coach.call("begin_message", begin)
        self.message_id = begun["message"]["id"]
        model, reason = asyncio.create_task(self.ask()), None
        try:
            while not model.done():
                if reason := self.reason_to_stop():
                    model.cancel()
                await asyncio.wait([model], timeout=0.04)
                await self.append()
        finally:
            model.cancel()  # After a refusal, for example of a deleted message, the rest is not needed.
        if not model.cancelled() and (error := model.exception()):
            print(f"the model failed: {error!r}", flush=True)
            reason = "the model failed"
        end = {"messageId": self.message_id}
        if reason:
            await self.coach.call("abort_message", end | {"reason": reason})
        else:
            await self.coach.call("finish_message", end | {"offset": self.sent})

    def reason_to_stop(self) -> str | None:
        if self.message_id in self.coach.stopped:
            return "stopped by a member"
        return "the coach shuts down" if self.coach.is_closing else None

    async def ask(self) -> None:
        """Asks the model, which reads the question and the messages before it."""
        history = {"conversationId": self.question["conversationId"], "beforeSeq": self.question["seq"] + 1, "limit": CONTEXT}
        before = await self.coach.call("message_history", history)
        model = ask_endpoint if "OPENAI_BASE_URL" in os.environ else generate
        async for word in model(self.coach, before["messages"]):
            self.text += word
        if not self.text:
            raise ValueError("the answer is empty")

    async def append(self) -> None:
        """Sends the text that the server does not have. All text that grew during a request is one piece."""
        while self.sent < len(self.text):
            piece = self.text[self.sent : self.sent + 8_000]
            try:
                place = {"messageId": self.message_id, "offset": self.sent}
                self.sent = (await self.coach.call("append_message", place | {"text": piece}))["offset"]
            except Refused as refused:
                # After a server was lost, less may be stored than was sent.
                if refused.offset is None or refused.offset == self.sent or refused.offset > len(self.text):
                    raise
                self.sent = refused.offset


async def generate(_: Coach, messages: list[dict]) -> AsyncIterator[str]:
    """Answers without a model, so that the example runs anywhere."""
    text = (
        f"You asked: “{messages[-1]['content']}”. Three things help with **every** plan:\n\n"
        "1. Write down the *one* result that matters.\n2. Do the first step today.\n3. Look back after a week.\n\n"
        "```\nwhile not done:\n    take_the_next_step()\n```\n\nWhat would the first step be?"
    )
    for word in text.split(" "):
        yield word + " "
        await asyncio.sleep(0.03)


async def ask_endpoint(coach: Coach, messages: list[dict]) -> AsyncIterator[str]:
    """Asks an endpoint with the API of OpenAI, whose answer is a stream of server-sent events."""
    conversation = [{"role": "system", "content": "You are a coach. Answer briefly, in Markdown."}]
    for message in messages:
        if message["content"]:
            role = "assistant" if message["userId"] == coach.user_id else "user"
            conversation.append({"role": role, "content": message["content"]})
    body = {"model": os.environ.get("OPENAI_MODEL", "default"), "stream": True, "messages": conversation}
    headers = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"}
    url = f"{os.environ['OPENAI_BASE_URL'].rstrip('/')}/chat/completions"
    timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=60)
    async with coach.session.post(url, json=body, headers=headers, timeout=timeout, raise_for_status=True) as response:
        async for line in response.content:
            data = line.decode().strip().removeprefix("data:").strip()
            if data.startswith("{") and (choices := json.loads(data)["choices"]):
                yield choices[0]["delta"].get("content") or ""


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    async with aiohttp.ClientSession() as session:
        app.state.coach = coach = Coach(session)
        running = asyncio.create_task(coach.run())
        yield
        await coach.close()
        running.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health(response: Response):
    """Answers 200 while the coach is connected to Roomcast, and 503 otherwise."""
    coach = app.state.coach
    response.status_code = 200 if coach.socket.connected else 503
    return {"connected": coach.socket.connected, "openAnswers": len(coach.answering)}
