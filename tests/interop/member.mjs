// A member who chats over networks and servers that fail.
//
// It uses the stock client with `retries`, and does what an application must do: it joins again
// with its last `seq` unless it was recovered. It records everything that contradicts the promises.
import { setTimeout as sleep } from "node:timers/promises";

/** The view of a conversation that a member has. */
class Timeline {
  /** Everything seen, live, by catching up or in an acknowledgement: `seq` → id. */
  seen = new Map();
  /** Everything up to here was seen. */
  last = 0;
  /** Messages that arrived live, on any connection. */
  live = new Set();
  newestLive = 0;
  /** The last message that arrived on this connection. */
  newestHere = 0;
  /**
   * The numbers of joins that are not answered yet: stock clients repeat them on the next
   * connection.
   */
  asking = [];
  /**
   * The smallest number with which this connection may have joined: nothing up to it is sent again.
   */
  asked = Infinity;
  /** The position up to which this connection had caught up, or undefined before it has joined. */
  from = undefined;
  /** Messages that did not arrive live on a connection that had joined. */
  missing = new Set();

  /** Starts a new connection, which has joined nothing yet. */
  open() {
    this.newestHere = 0;
    this.asked = Math.min(...this.asking);
  }

  ask(lastSeq) {
    this.asking.push(lastSeq);
    this.asked = Math.min(this.asked, lastSeq);
  }

  isAnswered(lastSeq) {
    this.asking.splice(this.asking.indexOf(lastSeq), 1);
  }

  note(seq, id) {
    const known = this.seen.get(seq);
    this.seen.set(seq, id);
    while (this.seen.has(this.last + 1)) this.last += 1;
    return known === undefined || known === id;
  }

  has(seq) {
    return Math.max(this.last, this.newestLive) >= seq;
  }

  /**
   * Ends a connection that was not recovered: whatever is missing between its messages should have
   * arrived.
   */
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
  /** Everything that contradicts the promises. */
  wrong = [];
  counts = { connections: 0, recovered: 0, live: 0, refused: 0, lost: 0 };
  #recovery;
  /** Increases with each connection that starts a new session. */
  #connection = 0;
  #stopped = false;
  /** Recent events and requests of the member. */
  #story = [];

  /**
   * Creates a member. `recovery` is "used" for a member that joins again only if it was not
   * recovered, and "declined" for a member that never requests recovery. Without it, recovery is
   * requested, and the member joins again even when it was recovered.
   */
  constructor(socket, name, recovery) {
    this.socket = socket;
    this.name = name;
    this.#recovery = recovery;
    socket.on("session", ({ userId }) => (this.userId = userId));
    socket.on("connect", () => this.#connected());
    socket.on("disconnect", (reason) => this.#disconnected(reason));
    socket.on("message", (message) => this.#arrived(message));
  }

  /** Takes part in these conversations from now on. */
  join(conversations) {
    for (const id of conversations) this.timelines.set(id, new Timeline());
    for (const id of conversations) void this.#enter(id, this.#connection);
  }

  /** Records an event for diagnosing failures. */
  #tell(what) {
    const { id, io } = this.socket;
    this.#story.push(`${new Date().toISOString()} ${this.#connection} ${id} ${io.engine?.transport?.name} ${what}`);
    if (this.#story.length > 300) this.#story.splice(0, 100);
  }

  #blame(what) {
    this.wrong.push([`${this.name}, ${this.userId}, ${what}`, ...this.#story].join("\n"));
  }

  #connected() {
    this.counts.connections += 1;
    if (this.#recovery === "used" && this.socket.recovered) {
      // The state of the previous connection applies to this connection.
      this.#tell("is recovered");
      this.counts.recovered += 1;
      return;
    }
    this.close();
    this.#connection += 1;
    this.#tell("is connected");
    for (const timeline of this.timelines.values()) timeline.open();
    for (const id of this.timelines.keys()) void this.#enter(id, this.#connection);
  }

  #disconnected(reason) {
    this.#tell(`has ended: ${reason}`);
    // A member that does not know whether it has joined has to join anyway.
    if (this.#recovery === "declined" || (this.#recovery === "used" && !this.isIn())) this.socket._pid = undefined;
  }

  /** Returns whether it is in all of its conversations and has all their earlier messages. */
  isIn() {
    return [...this.timelines.values()].every(({ from }) => from !== undefined);
  }

  #arrived({ conversationId, seq, id }) {
    const timeline = this.timelines.get(conversationId);
    this.#tell(`got ${seq} of ${conversationId}`);
    this.counts.live += 1;
    // Messages of another connection are sent again only on request.
    if (seq <= Math.max(timeline.newestHere, Math.min(timeline.newestLive, timeline.asked))) {
      const what = timeline.live.has(seq) ? "twice" : "out of order";
      this.#blame(`got ${seq} ${what}, after ${timeline.newestHere}, having asked for what is after ${timeline.asked}, of ${conversationId}`);
    }
    timeline.live.add(seq);
    timeline.newestHere = seq;
    timeline.newestLive = Math.max(seq, timeline.newestLive);
    this.#note(timeline, seq, id);
  }

  #note(timeline, seq, id) {
    if (!timeline.note(seq, id)) this.#blame(`saw two messages under ${seq}`);
  }

  /**
   * Joins on this connection, repeatedly if needed, with the highest number that it has. Then reads
   * what it has missed, and what is missing before that number: events sent before an answer to a
   * join that was lost.
   */
  async #enter(conversationId, connection) {
    const timeline = this.timelines.get(conversationId);
    let event = "join_conversation";
    let hasMore = true;
    while (hasMore) {
      const highest = Math.max(timeline.last, timeline.newestLive);
      const command = event === "join_conversation"
        ? { conversationId, lastSeq: highest }
        : { conversationId, afterSeq: timeline.last, limit: 200 };
      this.#tell(`asks ${event} ${JSON.stringify(command)}`);
      if (event === "join_conversation") timeline.ask(highest);
      const answer = await this.#ask(event, command);
      if (event === "join_conversation") timeline.isAnswered(highest);
      const said = answer?.messages?.map(({ seq }) => seq) ?? JSON.stringify(answer?.error);
      this.#tell(`was answered on ${connection} ${conversationId} ${said}`);
      if (connection !== this.#connection) return;
      if (!answer?.success) {
        await this.#refused(answer);
        continue;
      }
      for (const { seq, id } of answer.messages) this.#note(timeline, seq, id);
      hasMore = answer.hasMore || (event === "join_conversation" && timeline.last < highest);
      event = "message_history";
    }
    timeline.from = timeline.last;
  }

  /** Returns the acknowledgement, or nothing if the client gave up. */
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
      this.#blame(`was refused: ${JSON.stringify(answer)}`);
    }
    await sleep(Math.min(retryAfter || 100, 1000)); // The requested delay, at most 1 s.
  }

  /**
   * Sends messages until it is stopped. `random` decides when and where, `pace` stretches the
   * delays.
   */
  async send(random, pace = 1) {
    const conversations = [...this.timelines.keys()];
    for (let n = 0; !this.#stopped; n++) {
      await sleep((200 + random() * 800) * pace); // Pace of a person who writes.
      const clientMessageId = `${this.name} ${n}`;
      const conversationId = conversations[Math.floor(random() * conversations.length)];
      const command = { conversationId, content: clientMessageId, clientMessageId };
      this.unacked.add(clientMessageId);
      // Some members retry, others give a message up when it is refused.
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

  /**
   * Returns whether everything of a conversation up to `seq` was seen, and requests what was not.
   */
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

  /** Returns the state, for diagnosing failures. */
  describe(conversationId) {
    const { last, newestLive, from } = this.timelines.get(conversationId);
    const { connected, id, io } = this.socket;
    const transport = io.engine?.transport?.name;
    const state = { id, connected, transport, connection: this.#connection, from, last, newestLive };
    return `${this.name} ${JSON.stringify({ ...state, waiting: this.socket._queue.map(({ args }) => args[0]) })}`;
  }

  /** Ends; messages that are missing on the last connection count as well. */
  close() {
    for (const timeline of this.timelines.values()) timeline.close();
  }
}
