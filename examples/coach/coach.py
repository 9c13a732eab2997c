"""A coach in the chat: it answers questions word by word.

The answers come from any endpoint with the API of OpenAI (OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL), or
without one from a generator in this file. COACH_URL is the server, COACH_TOKEN a token with the role `ai`.
"""

import asyncio
import json
import os
import uuid
from collections import deque
from collections.abc import AsyncIterator

import aiohttp
import socketio

URL = os.environ.get("COACH_URL", "http://localhost:3000")
LOBBY = "00000000-0000-4000-8000-000000000001"
# Messages that the model gets to read.
CONTEXT = 20
# A lost connection may come back, also to another server, until the server ends the message.
PATIENCE = 30


class Refused(Exception):
    """The server refused an event."""

    def __init__(self, event: str, error: dict):
        super().__init__(f"{event}: {error['code']}: {error['message']}")
        self.code = error["code"]
        self.offset = (error.get("details") or {}).get("offset")
        self.delay = error.get("retryAfter", 1000) / 1000


class Coach:
    def __init__(self, model, session: aiohttp.ClientSession):
        self.model = model
        self.socket = socketio.AsyncClient(reconnection_delay_max=2, handle_sigint=False, http_session=session)
        self.user_id = ""
        self.joined: set[str] = set()
        # The answer that is being written, by the id of its message.
        self.writing: dict[str, asyncio.Task] = {}
        # The last messages that members have stopped: a request may come before the coach knows its message.
        self.stopped: deque[str] = deque(maxlen=100)
        self.answering: set[asyncio.Task] = set()
        self.socket.on("session", self.begin)
        self.socket.on("message", self.read)
        self.socket.on("conversation_updated", self.admit)
        self.socket.on("message_stop_requested", self.stop)

    async def run(self, token: str) -> None:
        await self.socket.connect(URL, auth={"token": token}, transports=["websocket"], retry=True)
        await self.socket.wait()

    async def call(self, event: str, payload: dict) -> dict:
        """Sends an event and returns its answer. Repeats it while the server is busy or out of reach."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    answer = await self.socket.call(event, payload, timeout=10)
                    if answer["success"]:
                        return answer
                    refused = Refused(event, answer["error"])
                    if refused.code not in ("RATE_LIMITED", "STORE_UNAVAILABLE", "INTERNAL"):
                        raise refused
                    await asyncio.sleep(refused.delay)
                except (socketio.exceptions.TimeoutError, socketio.exceptions.BadNamespaceError):
                    await asyncio.sleep(0.2)

    async def begin(self, session: dict) -> None:
        """Joins the Lobby and all conversations of the coach, after each connect."""
        self.user_id, self.joined = session["userId"], set()
        cursor = {}
        while True:
            page = await self.call("conversations", cursor)
            for conversation in page["conversations"]:
                await self.join(conversation["id"])
            if not page["hasMore"]:
                return print(f"answers as {self.user_id}", flush=True)
            cursor = {"cursor": page["cursor"]}

    async def admit(self, event: dict) -> None:
        conversation = event["conversation"]
        if self.user_id in conversation["memberIds"] and conversation["id"] not in self.joined:
            await self.join(conversation["id"])

    async def join(self, conversation_id: str) -> None:
        await self.call("join_conversation", {"conversationId": conversation_id})
        self.joined.add(conversation_id)

    async def read(self, message: dict) -> None:
        """Answers a person. In the Lobby, which belongs to everyone, only one who asks for the coach."""
        is_asked = self.user_id in message.get("mentions", []) or "@coach" in message["content"].lower()
        if message["type"] != "user" or message["userId"] == self.user_id:
            return
        if message["conversationId"] != LOBBY or is_asked:
            task = asyncio.create_task(self.answer(message))
            self.answering.add(task)
            task.add_done_callback(self.end)

    def end(self, task: asyncio.Task) -> None:
        self.answering.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            print(f"an answer ended early: {error or type(error).__name__}", flush=True)

    async def answer(self, question: dict) -> None:
        conversation_id = question["conversationId"]
        # The id makes repeats harmless: the message begins once.
        begin = {"conversationId": conversation_id, "clientMessageId": str(uuid.uuid4()), "type": "ai", "replyTo": question["id"]}
        begun = await self.call("begin_message", begin)
        message_id = begun["message"]["id"]
        answer = Answer(self, message_id)
        taking = self.writing[message_id] = asyncio.create_task(answer.take(question))
        if message_id in self.stopped:
            taking.cancel()
        try:
            await answer.send(taking)
        finally:
            # After a refusal, for example of a deleted message, the rest is not needed.
            taking.cancel()
            del self.writing[message_id]

    async def stop(self, request: dict) -> None:
        """A member asks to stop: the answer ends where it is."""
        self.stopped.append(request["messageId"])
        if task := self.writing.get(request["messageId"]):
            task.cancel(f"stopped by {request['userId']}")


class Answer:
    """The text of one message: as much as the model has written, and as much as the server has."""

    def __init__(self, coach: Coach, message_id: str):
        self.coach, self.message_id = coach, message_id
        self.text, self.sent = "", 0
        self.grown = asyncio.Event()

    async def take(self, question: dict) -> None:
        """Asks the model, which gets to read the question and what came before it."""
        history = {"conversationId": question["conversationId"], "beforeSeq": question["seq"] + 1, "limit": CONTEXT}
        before = await self.coach.call("message_history", history)
        async for word in self.coach.model(self.coach.user_id, before["messages"]):
            self.text += word
            self.grown.set()

    async def send(self, taking: asyncio.Task) -> None:
        """Sends the text as it grows. What grows during a request is sent together."""
        taking.add_done_callback(lambda _: self.grown.set())
        while not taking.done() or self.sent < len(self.text):
            await self.grown.wait()
            self.grown.clear()
            await self.append()
            if not taking.done():
                await asyncio.sleep(0.04)
        end = {"messageId": self.message_id}
        if taking.cancelled():
            await self.coach.call("abort_message", end | {"reason": "stopped by a member"})
        elif taking.exception() is not None or self.text == "":
            problem = taking.exception() or "it wrote nothing"
            print(f"the model failed: {problem or type(problem).__name__}", flush=True)
            await self.coach.call("abort_message", end | {"reason": "the model failed"})
        else:
            await self.coach.call("finish_message", end | {"offset": self.sent})

    async def append(self) -> None:
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


async def generated(_: str, messages: list[dict]) -> AsyncIterator[str]:
    """Answers without a model, so that the example runs anywhere."""
    question = messages[-1]["content"]
    text = (
        f"You asked: “{question}”. Three things help with **every** plan:\n\n"
        "1. Write down the *one* result that matters.\n2. Do the first step today.\n3. Look back after a week.\n\n"
        "```\nwhile not done:\n    take_the_next_step()\n```\n\nWhat would the first step be?"
    )
    for word in text.split(" "):
        yield word + " "
        await asyncio.sleep(0.03)


async def asked(user_id: str, messages: list[dict]) -> AsyncIterator[str]:
    """Asks an endpoint with the API of OpenAI, whose answer comes as server-sent events."""
    system = {"role": "system", "content": "You are a coach. Answer briefly, in Markdown."}
    said = [
        {"role": "assistant" if message["userId"] == user_id else "user", "content": message["content"]}
        for message in messages
        if message["content"]
    ]
    body = {"model": os.environ.get("OPENAI_MODEL", "default"), "stream": True, "messages": [system, *said]}
    headers = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"}
    url = f"{os.environ['OPENAI_BASE_URL'].rstrip('/')}/chat/completions"
    timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=60)
    async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
        async with session.post(url, json=body, headers=headers) as response:
            async for line in response.content:
                data = line.decode().strip().removeprefix("data:").strip()
                if data.startswith("{") and (choices := json.loads(data)["choices"]):
                    yield choices[0]["delta"].get("content") or ""


async def main() -> None:
    model = asked if "OPENAI_BASE_URL" in os.environ else generated
    async with aiohttp.ClientSession() as session:
        await Coach(model, session).run(os.environ["COACH_TOKEN"])


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
