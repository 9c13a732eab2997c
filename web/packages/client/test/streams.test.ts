import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { DISCONNECTED, RequestError } from "../src/failure.ts";
import { writeMessage } from "../src/streams.ts";
import type { Message } from "../src/types.ts";
import { message } from "./message.ts";

/** A server with one message that is being written, and a connection that fails as `failing` says. */
class FakeServer {
  isReady = true;
  /** What is there, and how much of it is stored: after a change of servers, the rest is lost. */
  text: string[] = [];
  requests: string[] = [];
  ended: Message | undefined;
  failing: (name: string, count: number) => "before" | "after" | "moved" | RequestError | undefined = () => undefined;
  readonly #listeners = new Map<string, (event: never) => void>();

  on = (name: string, listener: (event: never) => void): (() => void) => {
    this.#listeners.set(name, listener);
    return () => this.#listeners.delete(name);
  };

  watch = this.on;

  emit(name: string, event?: unknown): void {
    this.#listeners.get(name)?.(event as never);
  }

  get listening(): number {
    return this.#listeners.size;
  }

  request = async (name: string, payload: never): Promise<never> => {
    const count = this.requests.push(name);
    const failing = this.failing(name, count);
    await sleep(1); // The way to the server.
    if (failing instanceof RequestError) throw failing;
    if (failing === "moved") this.text = this.text.slice(0, -3);
    if (failing === "before") throw new RequestError({ code: DISCONNECTED, message: "" });
    const answer = this.#answer(name, payload);
    if (failing === "after") throw new RequestError({ code: DISCONNECTED, message: "" });
    return answer as never;
  };

  #answer(name: string, { offset, text = "", content }: { offset: number; text?: string; content?: string }): unknown {
    if (name === "begin_message") return { message: message(1, { content: "", streaming: true }), offset: this.text.length };
    if (name === "abort_message") return { message: (this.ended ??= message(1, { content: this.text.join(""), version: 2, interrupted: true })) };
    const conflict = () => new RequestError({ code: "CONFLICT", message: "", details: { offset: this.text.length } });
    if (offset > this.text.length) throw conflict();
    if (name === "finish_message") {
      if (offset !== this.text.length) throw conflict();
      return { message: (this.ended ??= message(1, { content: content ?? this.text.join(""), version: 2 })) };
    }
    assert.ok(text.isWellFormed(), JSON.stringify(text));
    const piece = [...text];
    const known = this.text.slice(offset, offset + piece.length);
    if (piece.slice(0, known.length).join() !== known.join()) throw conflict();
    this.text.push(...piece.slice(known.length));
    return { offset: this.text.length, stored: 0 };
  }
}

const WORDS = Array.from({ length: 200 }, (_, n) => ["grün ", "€", "😀", "\n- item", "word "][n % 5] as string);
const payload = { conversationId: "lobby", type: "ai" } as const;
const write = (server: FakeServer, options = {}) => writeMessage(server as never, payload, { interval: 1, ...options });

async function* paced(units: string): AsyncIterable<string> {
  for (let at = 0; at < units.length; at += 7) {
    yield units.slice(at, at + 7);
    if (at % 70 === 0) await sleep(1); // The pace of a model.
  }
}

test("text of a stream arrives whole, in fewer pieces, whatever the boundaries of its pieces", async () => {
  const server = new FakeServer();
  const written = write(server, { interval: 5 });
  await written.appendFrom(paced(WORDS.join("")));
  const stored = await written.finish();
  assert.equal(stored.content, WORDS.join(""));
  assert.ok(server.requests.length < WORDS.join("").length / 7, `${server.requests.length} requests`);
  assert.equal(server.listening, 0);
});

test("text is whole after requests that failed before or after the server took them", async () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    let random = seed * 7919;
    const below = (bound: number) => (random = (random * 48271) % 2147483647) % bound;
    const server = new FakeServer();
    server.failing = () => (["before", "after", "moved"] as const)[below(8)];
    const written = write(server);
    await written.appendFrom(paced(WORDS.slice(0, 50).join("")));
    assert.equal((await written.finish()).content, WORDS.slice(0, 50).join(""), `seed ${seed}`);
  }
});

test("without a connection the text waits, and goes on when there is one", async () => {
  const server = new FakeServer();
  const written = write(server);
  written.append("one ");
  while (server.text.length < 4) await sleep(1);
  const before = server.requests.length;
  server.isReady = false;
  server.failing = () => (server.isReady ? undefined : "before");
  written.append("two");
  const ended = written.finish({ content: "corrected" });
  while (server.requests.length === before) await sleep(1);
  await sleep(20); // The answer to the second piece, which has failed.
  assert.deepEqual(server.requests.slice(before), ["append_message"]);
  server.isReady = true;
  server.emit("status");
  assert.equal((await ended).content, "corrected");
  assert.deepEqual(server.requests.slice(before), ["append_message", "append_message", "finish_message"]);
});

test("the author is asked to stop, and aborts without the text that was not sent", async () => {
  const server = new FakeServer();
  const asked: string[] = [];
  const written = write(server, { interval: 10_000, stopRequested: ({ userId }: { userId: string }) => asked.push(userId) });
  written.append("half");
  while (server.text.length < 4) await sleep(1);
  server.emit("message_stop_requested", { messageId: "another", userId: "eve" });
  server.emit("message_stop_requested", { messageId: written.message?.id, userId: "bob" });
  assert.deepEqual(asked, ["bob"]);
  written.append(" and what follows");
  const stored = await written.abort("stopped");
  assert.deepEqual([stored.content, stored.interrupted], ["half", true]);
});

test("a refusal ends the message, and a source that fails aborts it", async () => {
  const server = new FakeServer();
  server.failing = (name) => (name === "append_message" ? new RequestError({ code: "FORBIDDEN", message: "" }) : undefined);
  const refused = write(server);
  refused.append("x");
  await assert.rejects(refused.finish(), { code: "FORBIDDEN" });
  const late = new FakeServer();
  late.failing = (_, count) => (count === 1 ? new RequestError({ code: "RATE_LIMITED", message: "", retryAfter: 5 }) : undefined);
  const failing = write(late);
  const source = async function* () {
    yield "half";
    throw new Error("the model failed");
  };
  await assert.rejects(failing.appendFrom(source()), /the model failed/);
  assert.equal((await failing.ended).interrupted, true);
});
