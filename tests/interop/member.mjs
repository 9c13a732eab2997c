// One who chats over a network and servers that fail: the stock client with `retries`, and what an
// application has to do beside it, which is to join again with the last `seq` it has. It writes down
// whatever contradicts the promises.
import { setTimeout as sleep } from "node:timers/promises";

/** What one member has of one conversation. */
class Timeline {
  /** All that was seen, live, by catching up or in an acknowledgement: `seq` → id. */
  seen = new Map();
  /** Everything up to here was seen. */
  last = 0;
  /** What came live, on any connection. */
  live = new Set();
  newestLive = 0;
  /** Where this connection had caught up; nothing before it has joined. */
  from = undefined;
  /** What did not come live on a connection that had joined. */
  missing = new Set();

  note(seq, id) {
    const known = this.seen.get(seq);
    this.seen.set(seq, id);
    while (this.seen.has(this.last + 1)) this.last += 1;
    return known === undefined || known === id;
  }

  has(seq) {
    return Math.max(this.last, this.newestLive) >= seq;
  }

  /** The connection has ended: what is missing between its messages should have come. */
  close() {
    if (this.from === undefined) return;
    for (let seq = this.from + 1; seq < this.newestLive; seq++) if (!this.seen.has(seq)) this.missing.add(seq);
    this.from = undefined;
  }
}

export class Member {
  userId;
  timelines = new Map();
  /** Acknowledged messages: the client's id → the row. */
  acked = new Map();
  /** Ids that the member gave up without an acknowledgement. */
  unacked = new Set();
  /** What contradicts the promises. */
  wrong = [];
  counts = { connections: 0, live: 0, refused: 0, lost: 0 };
  #connection = 0;
  #stopped = false;

  constructor(socket, name) {
    this.socket = socket;
    this.name = name;
    socket.on("session", ({ userId }) => (this.userId = userId));
    socket.on("connect", () => this.#connected());
    socket.on("disconnect", () => this.#closeTimelines());
    socket.on("message", (message) => this.#arrived(message));
  }

  /** Takes part in these conversations from now on. */
  join(conversations) {
    for (const id of conversations) this.timelines.set(id, new Timeline());
    for (const id of conversations) void this.#enter(id, this.#connection);
  }

  #connected() {
    this.#connection += 1;
    this.counts.connections += 1;
    for (const id of this.timelines.keys()) void this.#enter(id, this.#connection);
  }

  #closeTimelines() {
    for (const timeline of this.timelines.values()) timeline.close();
  }

  #arrived({ conversationId, seq, id }) {
    const timeline = this.timelines.get(conversationId);
    this.counts.live += 1;
    if (seq <= timeline.newestLive) {
      const what = timeline.live.has(seq) ? "twice" : "out of order";
      this.wrong.push(`${this.name} got ${seq} ${what}, after ${timeline.newestLive}, of ${conversationId}`);
    }
    timeline.live.add(seq);
    timeline.newestLive = Math.max(seq, timeline.newestLive);
    this.#note(timeline, seq, id);
  }

  #note(timeline, seq, id) {
    if (!timeline.note(seq, id)) this.wrong.push(`${this.name} saw two messages under ${seq}`);
  }

  /** Joins on this connection, again and again if need be, and reads what came meanwhile. */
  async #enter(conversationId, connection) {
    const timeline = this.timelines.get(conversationId);
    let event = "join_conversation";
    let hasMore = true;
    while (hasMore) {
      const command = event === "join_conversation"
        ? { conversationId, lastSeq: timeline.last }
        : { conversationId, afterSeq: timeline.last, limit: 200 };
      const answer = await this.#ask(event, command);
      if (connection !== this.#connection) return;
      if (!answer?.success) {
        await this.#refused(answer);
        continue;
      }
      for (const { seq, id } of answer.messages) this.#note(timeline, seq, id);
      ({ hasMore } = answer);
      event = "message_history";
    }
    timeline.from = timeline.last;
  }

  /** The acknowledgement; none if the client gave up. */
  #ask(event, command) {
    return new Promise((done) => this.socket.emit(event, command, (error, answer) => done(error ? undefined : answer)));
  }

  async #refused(answer) {
    if (!answer) {
      this.counts.lost += 1;
      return;
    }
    this.counts.refused += 1;
    const { code, retryAfter } = answer.error;
    if (code !== "STORE_UNAVAILABLE" || !(retryAfter > 0)) {
      this.wrong.push(`${this.name} was refused: ${JSON.stringify(answer)}`);
    }
    await sleep(Math.min(retryAfter || 100, 1000)); // As long as the server asked for, within a second.
  }

  /** Sends one message after another until it is told to stop; `random` decides when and where. */
  async send(random) {
    const conversations = [...this.timelines.keys()];
    for (let n = 0; !this.#stopped; n++) {
      await sleep(200 + random() * 800); // The pace of a person who writes.
      const clientMessageId = `${this.name} ${n}`;
      const conversationId = conversations[Math.floor(random() * conversations.length)];
      const command = { conversationId, content: clientMessageId, clientMessageId };
      this.unacked.add(clientMessageId);
      // Some are patient, others give a message up when it is refused.
      for (let tries = random() < 0.5 ? 1 : 20; tries > 0; tries--) {
        const answer = await this.#ask("message", command);
        if (answer?.success) {
          const { message } = answer;
          this.unacked.delete(clientMessageId);
          this.acked.set(clientMessageId, message);
          this.#note(this.timelines.get(conversationId), message.seq, message.id);
          break;
        }
        await this.#refused(answer);
      }
    }
  }

  stop() {
    this.#stopped = true;
  }

  /** Whether all of a conversation up to `seq` was seen; asks again for what was not. */
  async catchUp(conversationId, seq) {
    const timeline = this.timelines.get(conversationId);
    while (timeline.last < seq) {
      const command = { conversationId, afterSeq: timeline.last, limit: 200 };
      const answer = await this.#ask("message_history", command);
      if (!answer?.success) {
        await this.#refused(answer);
        continue;
      }
      for (const { seq, id } of answer.messages) this.#note(timeline, seq, id);
      if (answer.messages.length === 0) return;
    }
  }

  /** For whoever has to find out what went wrong. */
  describe(conversationId) {
    const { last, newestLive, from } = this.timelines.get(conversationId);
    const { connected, id, io } = this.socket;
    const transport = io.engine?.transport?.name;
    const state = { id, connected, transport, connection: this.#connection, from, last, newestLive };
    return `${this.name} ${JSON.stringify({ ...state, waiting: this.socket._queue.map(({ args }) => args[0]) })}`;
  }

  /** Ends; what was missing on the last connection counts too. */
  close() {
    this.#closeTimelines();
  }
}
