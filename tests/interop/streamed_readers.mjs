// Readers of messages that are written piece by piece: they do what an application must do, and
// record everything that contradicts the promises.
import { setTimeout as sleep } from "node:timers/promises";
import { request } from "./streamed_authors.mjs";
import { lengthOf } from "./streamed_texts.mjs";

const MESSAGES_OF_A_STORY = 200;

/** Returns the place of a message, in short. */
const placeOf = ({ conversationId, seq }) => `${seq} of ${conversationId.slice(0, 4)}`;

export class Reader {
  counts = { connections: 0, recovered: 0, appended: 0, reads: 0, joins: 0, refused: 0, unknown: 0 };
  /** What the reader has of each message. */
  known = new Map();
  #socket;
  #texts;
  #conversationIds;
  /** Increases with each connection that starts a new session. */
  #session = 0;
  /** The conversations that this session has joined. */
  #joined = new Set();
  /** The messages that arrived live in this session, and those whose end did. */
  #live = new Set();
  #ended = new Set();
  /** Requests that wait for their answer. */
  #asking = 0;
  #story = [];
  #isClosed = false;

  /**
   * Creates a reader of these conversations. One that `recovers` joins again only if it was not
   * recovered, and others start a new session with each connection.
   */
  constructor({ socket, name }, texts, conversationIds, { recovers = false } = {}) {
    this.name = name;
    this.#socket = socket;
    this.#texts = texts;
    this.#conversationIds = conversationIds;
    socket.on("connect", () => this.#connected(recovers));
    socket.on("disconnect", (reason) => {
      this.#tell(`has ended: ${reason}`);
      // The answer to a request has text that later events continue, and is not sent again.
      if (!recovers || this.#asking > 0 || !this.#hasJoined()) socket._pid = undefined;
      this.#asking = 0;
    });
    socket.on("message", (message) => this.#arrived(message));
    socket.on("message_appended", (appended) => this.#appended(appended));
    socket.on("message_edited", (message) => this.#edited(message));
    if (socket.connected) this.#connected(recovers);
  }

  /** Returns whether this session has joined all conversations and knows all that grows there. */
  isIn() {
    return this.#socket.connected && this.#hasJoined();
  }

  #hasJoined() {
    return this.#conversationIds.every((id) => this.#joined.has(id));
  }

  /** Returns what the reader has of a text, if anything. */
  has(text) {
    return [...this.known.values()].find((one) => one.text === text);
  }

  /** Returns what the reader has seen last, for diagnosing failures. */
  story() {
    return [this.name, ...this.#story.slice(-60)].join("\n");
  }

  close() {
    this.#isClosed = true;
    this.#socket.disconnect();
  }

  /** Reads a page of a conversation, without waiting for its answer. */
  read(conversationId, limit) {
    if (!this.#socket.connected) return;
    this.counts.reads += 1;
    void this.#ask("message_history", { conversationId, limit });
  }

  #connected(recovers) {
    this.counts.connections += 1;
    if (recovers && this.#socket.recovered) {
      this.counts.recovered += 1;
      this.#tell("is recovered");
      return;
    }
    this.#session += 1;
    this.#tell("is connected");
    this.#joined.clear();
    this.#live.clear();
    this.#ended.clear();
    for (const id of this.#conversationIds) void this.#join(id, this.#session);
  }

  async #join(conversationId, session) {
    const isCurrent = () => session === this.#session && this.#socket.connected;
    const of = () => [...this.known.values()].filter((one) => one.conversationId === conversationId);
    const lastSeq = Math.max(0, ...of().map(({ seq }) => seq));
    this.counts.joins += 1;
    const joined = await this.#insist("join_conversation", { conversationId, lastSeq }, isCurrent);
    if (joined === undefined) return;
    for (let afterSeq = joined.messages.at(-1)?.seq, { hasMore } = joined; hasMore; ) {
      const page = await this.#insist("message_history", { conversationId, afterSeq }, isCurrent);
      if (page === undefined) return;
      ({ hasMore } = page);
      afterSeq = page.messages.at(-1)?.seq;
    }
    // What grew before and is not in the list has ended before the socket joined, or was not read.
    const listed = new Set(joined.streaming?.map(({ id }) => id));
    for (const [id, { seq, streaming }] of [...this.known].filter(([, one]) => one.conversationId === conversationId)) {
      if (!streaming || listed.has(id)) continue;
      const page = await this.#insist("message_history", { conversationId, afterSeq: seq - 1, limit: 1 }, isCurrent);
      if (page === undefined) return;
    }
    this.#joined.add(conversationId);
  }

  /** Repeats a request until it succeeds, and returns nothing once another session has begun. */
  async #insist(event, payload, isCurrent) {
    while (isCurrent() && !this.#isClosed) {
      const answer = await this.#ask(event, payload);
      if (answer?.success) return answer;
      if (answer === undefined) continue;
      this.counts.refused += 1;
      const { code, retryAfter } = answer.error;
      if (code !== "STORE_UNAVAILABLE") this.#blame(`was refused ${event}: ${JSON.stringify(answer.error)}`);
      await sleep(Math.min(retryAfter || 100, 1000)); // The requested delay, at most 1 s.
    }
    return undefined;
  }

  #ask(event, payload) {
    this.#asking += 1;
    const stored = new Map([...this.known.values()].map(({ text }) => [text, text.stored]));
    this.#tell(`asks ${event} ${JSON.stringify(payload)}`);
    // Later events continue the texts of an answer, so these are noted when it arrives.
    const note = (answer) => {
      this.#asking -= 1;
      this.#tell(`is answered ${event} ${JSON.stringify(answer.error) ?? ""}`);
      if (!answer.success) return;
      for (const message of [...answer.messages, ...(answer.streaming ?? [])]) this.#answered(message, stored);
    };
    return request(this.#socket, event, payload, { note });
  }

  /**
   * Notes a message of an answer, which replaces what the reader has. `stored` has how much of each
   * text was stored when the reader asked: a killed server has lost the rest.
   */
  #answered(message, stored) {
    const text = this.#check(message, "was answered");
    if (text === undefined) return;
    const before = this.known.get(message.id);
    // The end may have arrived before the answer.
    if (before !== undefined && before.version > message.version) return;
    const length = lengthOf(message.content);
    const least = Math.min(before?.length ?? 0, stored.get(text) ?? 0);
    const isShorter = message.streaming && before?.session === this.#session && length < least;
    if (isShorter) this.#blame(`had ${before.length} characters of ${message.seq}, ${least} were stored, and it was answered ${length}`);
    this.#note(text, message);
  }

  #arrived(message) {
    const text = this.#check(message, "got");
    if (text === undefined) return;
    if (this.#live.has(message.id)) this.#blame(`got ${message.seq} twice`);
    this.#live.add(message.id);
    // An answer that was ahead of this event has more.
    const before = this.known.get(message.id);
    if (before === undefined || before.session !== this.#session) this.#note(text, message);
  }

  #appended({ conversationId, messageId, seq, offset, text: piece }) {
    const one = this.known.get(messageId);
    if (one === undefined) {
      this.counts.unknown += 1;
      return;
    }
    this.counts.appended += 1;
    const length = lengthOf(piece);
    const found = `${length} characters at ${offset} of ${placeOf({ conversationId, seq })}`;
    this.#tell(`got ${found}`);
    if (seq !== one.seq || conversationId !== one.conversationId) this.#blame(`got ${found}, which is ${one.seq}`);
    if (!one.streaming) this.#blame(`got ${found} after its end`);
    else if (offset !== one.length) this.#blame(`had ${one.length} characters, and got ${found}`);
    else if (length === 0) this.#blame(`got ${found}`);
    if (one.text.slice(offset, offset + length) !== piece) this.#blame(`got ${found}, which the author did not write`);
    if (offset + length > one.text.sent) this.#blame(`got ${found}, of which ${one.text.sent} were sent`);
    one.length = offset + length;
    one.pieces += 1;
  }

  #edited(message) {
    const text = this.#check(message, "got the end, and it");
    if (text === undefined) return;
    if (message.streaming) this.#blame(`got an end of ${message.seq} that grows`);
    if (this.#ended.has(message.id)) this.#blame(`got the end of ${message.seq} twice`);
    this.#ended.add(message.id);
    this.#note(text, message);
  }

  #check(message, what) {
    const text = this.#texts.of(message);
    if (text !== undefined) this.#tell(`${what} ${placeOf(message)} ${message.streaming ? "with" : "ended with"} ${lengthOf(message.content)}`);
    const problem = text?.problemOf(message);
    if (problem !== undefined) this.#blame(`${what} ${message.seq}: text ${text.id} (${text.fate}) ${problem}`);
    return text;
  }

  #note(text, { id, conversationId, seq, version, content, streaming = false, interrupted = false }) {
    const pieces = this.known.get(id)?.pieces ?? 0;
    const ended = streaming ? {} : { content };
    this.known.set(id, { text, conversationId, seq, version, length: lengthOf(content), streaming, interrupted, pieces, session: this.#session, ...ended });
  }

  /** Records an event for diagnosing failures. */
  #tell(what) {
    this.#story.push(`${new Date().toISOString()} ${this.#session} ${this.#socket.id} ${what}`);
    if (this.#story.length > MESSAGES_OF_A_STORY * 1.5) this.#story.splice(0, MESSAGES_OF_A_STORY / 2);
  }

  #blame(what) {
    this.#texts.blame([`${this.name} ${what}`, ...this.#story.slice(-60)].join("\n"));
  }
}
