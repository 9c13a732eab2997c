// Authors who write messages piece by piece over networks and servers that fail.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { lengthOf } from "./streamed_texts.mjs";

/** The time after which an author that is not answered goes on at another server. */
const PATIENCE = 3000;
/** Codes after which a request is repeated. */
const PASSING = new Set(["STORE_UNAVAILABLE", "RATE_LIMITED", "SERVER_BUSY"]);

/**
 * Sends a request once its socket is connected. Returns the answer, or nothing if the connection is
 * lost or `patience` is over before. `note` receives the answer in any case.
 */
export async function request(socket, event, payload, { patience = Infinity, note = () => {} } = {}) {
  if (!socket.connected) {
    await new Promise((done) => socket.once("connect", done));
  }
  return new Promise((done) => {
    const timer = patience === Infinity ? undefined : setTimeout(end, patience); // The author's patience.
    function end(answer) {
      clearTimeout(timer);
      socket.off("disconnect", lose);
      done(answer);
    }
    const lose = () => end();
    socket.on("disconnect", lose);
    socket.emit(event, payload, (answer) => {
      note(answer);
      end(answer);
    });
  });
}

/** Writes one text after the other. */
export class Author {
  counts = { begun: 0, appends: 0, resumed: 0, unanswered: 0, refused: 0, finished: 0, interrupted: 0 };
  #socket;
  #texts;
  #random;
  #move;
  #isOver = false;

  /** Creates an author. `move` makes its client connect to another server. */
  constructor({ socket, name, move }, texts, random) {
    this.name = name;
    this.#socket = socket;
    this.#texts = texts;
    this.#random = random;
    this.#move = move;
  }

  /** Writes texts in these conversations until it is stopped. */
  async write(conversationIds) {
    while (!this.#isOver) {
      const conversationId = conversationIds[Math.floor(this.#random() * conversationIds.length)];
      await this.writeOne(this.#texts.create(conversationId, this.#random));
      await sleep(this.#random() * 200); // Pace of an author.
    }
  }

  stop() {
    this.#isOver = true;
  }

  /** Writes a text. `beforeEnd` runs when all of it is sent. */
  async writeOne(text, beforeEnd = async () => {}) {
    const clientMessageId = randomUUID();
    const begin = () => this.#insist(text, "begin_message", { conversationId: text.conversationId, clientMessageId, metadata: { text: text.id } });
    this.counts.begun += 1;
    // From a few large pieces to more small ones than a second permits.
    const [pieces, duration] = [5 + this.#random() * 150, 500 + this.#random() * 6000];
    const [most, pause] = [Math.ceil((2 * text.characters.length) / pieces), (2 * duration) / pieces];
    let { message, offset } = this.#begun(text, await begin());
    const resume = async () => {
      this.counts.resumed += 1;
      ({ message, offset } = this.#begun(text, await begin()));
    };
    while (message.streaming) {
      const isEnd = offset >= text.last;
      if (isEnd && text.fate === "abandon") return;
      if (isEnd) await beforeEnd();
      const answer = isEnd ? await this.#end(text, message.id) : await this.#append(text, message.id, offset, most);
      if (answer === undefined) {
        // An author knows from its own count, or asks.
        if (this.#random() < 0.5) await resume();
      } else if (answer.success && isEnd) {
        message = answer.message;
        text.isAcked = true;
      } else if (answer.success) {
        offset = answer.offset;
      } else {
        const place = answer.error.details?.offset;
        if (place === undefined) await resume();
        else if (place < text.stored || place > text.sent) this.#blame(text, `goes on at ${place} of ${text.stored} to ${text.sent}`);
        offset = place ?? offset;
      }
      if (message.streaming) await sleep(this.#random() < 0.02 ? this.#random() * 1000 : this.#random() * pause); // Pace of a model.
    }
    this.counts[message.interrupted ? "interrupted" : "finished"] += 1;
    this.#check(text, message);
    if (text.isAcked) this.#checkAcked(text, message);
  }

  #begun(text, { message, offset }) {
    this.#texts.of(message);
    this.#check(text, message);
    if (offset !== lengthOf(message.content)) this.#blame(text, `begins at ${offset}, with ${lengthOf(message.content)} characters`);
    if (message.streaming && offset < text.stored) this.#blame(text, `begins at ${offset} of ${text.stored} stored ones`);
    return { message, offset };
  }

  /** Sends a piece, sometimes with text that the server has already. */
  async #append(text, messageId, offset, most) {
    const back = this.#random() < 0.1 ? Math.floor(this.#random() * 20) : 0;
    const from = Math.max(0, offset - back);
    const to = Math.min(text.last, offset + Math.ceil(this.#random() * most));
    text.sent = Math.max(text.sent, to);
    this.counts.appends += 1;
    const answer = await this.#ask(text, "append_message", { messageId, offset: from, text: text.slice(from, to) });
    if (answer?.success) {
      const { offset: end, stored } = answer;
      if (end < to || end > text.sent) this.#blame(text, `has ${end} characters after those from ${from} to ${to}`);
      if (stored > end) this.#blame(text, `has ${end} characters, and ${stored} are stored`);
      text.stored = Math.max(text.stored, stored);
    }
    return answer;
  }

  #end(text, messageId) {
    if (text.fate === "abort") {
      text.isAbortSent = true;
      return this.#ask(text, "abort_message", { messageId });
    }
    text.isFinishSent = true;
    const correction = text.fate === "correct" ? { content: text.content } : {};
    return this.#ask(text, "finish_message", { messageId, offset: text.last, ...correction });
  }

  /** An acknowledged end is what the author asked for, unless the message had ended before. */
  #checkAcked(text, message) {
    if (text.fate === "abort" && !message.interrupted) this.#blame(text, "was aborted, and is finished");
  }

  #check(text, message) {
    const problem = text.problemOf(message);
    if (problem !== undefined) this.#blame(text, problem);
  }

  #blame(text, what) {
    this.#texts.blame(`${this.name} was answered: text ${text.id} (${text.fate}) ${what}`);
  }

  /** Returns the answer, or nothing if the author should try again. */
  async #ask(text, event, payload) {
    const socket = this.#socket;
    const sentAt = Date.now();
    const answer = await request(socket, event, payload, { patience: PATIENCE });
    if (answer === undefined) {
      this.counts.unanswered += 1;
      // The server may be suspended: it writes on when it is resumed.
      if (socket.connected) this.#move();
      return undefined;
    }
    if (answer.success) {
      // What has ended was not touched.
      if (event === "append_message" || (event === "begin_message" && answer.message.streaming)) text.touchedAt = sentAt;
      return answer;
    }
    const { code, retryAfter } = answer.error;
    if (code === "CONFLICT") return answer;
    this.counts.refused += 1;
    if (!PASSING.has(code)) this.#blame(text, `${event} was refused: ${JSON.stringify(answer.error)}`);
    await sleep(Math.min(retryAfter || 100, 1000)); // The requested delay, at most 1 s.
    return undefined;
  }

  /** Repeats a request until it succeeds. */
  async #insist(text, event, payload) {
    for (;;) {
      const answer = await this.#ask(text, event, payload);
      if (answer?.success) return answer;
      if (answer !== undefined) {
        this.#blame(text, `${event} was refused: ${JSON.stringify(answer.error)}`);
        await sleep(100); // The next attempt may succeed.
      }
    }
  }
}
