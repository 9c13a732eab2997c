// Followers of channels: they do what an application must do, and record everything that
// contradicts the promises.
import assert from "node:assert/strict";
import { Loss, NAMES, PASSING, offsetOf } from "./channel_ledger.mjs";

const LINES_OF_A_STORY = 200;

/** What a follower has of one channel. */
class Followed {
  /** The position up to which it has everything. */
  position;
  /** The ids of the events that it has, in order. */
  seen = [];
  /** Whether it has received the beginning of the channel. */
  isWhole = false;
  /** How often an answer had `forgotten`. */
  forgotten = 0;
  /** `asking`, `following`, `waiting` before a further attempt, `ended` or `refused`. */
  phase = "waiting";
  /** The number of requests; the answer to an earlier one than the last has no meaning. */
  requests = 0;
  /** Whether the socket may follow although the follower waits for an answer. */
  mayFollow = false;

  constructor(channel) {
    this.channel = channel;
  }
}

export class Follower {
  counts = { connections: 0, recovered: 0, live: 0, answered: 0, ignored: 0, subscriptions: 0, pages: 0, interrupted: 0, refused: 0, forgotten: 0 };
  /** The rights that it has lost, by the channel. */
  lost = new Map();
  /** By the channel. */
  all = new Map();
  /** Whether its right may end at any moment, and whether it is away then. */
  isAboutToLose = false;
  isAway = false;
  /** Returns the token for a channel, if it follows by one. */
  token;
  #user;
  #socket;
  #ledger;
  #recovers;
  #known = new Set();
  /** The number of lost connections, and how many there were when a request was sent. */
  #cuts = 0;
  #sentAfter = new WeakMap();
  #story = [];

  /**
   * Creates a follower of these channels. One that `recovers` continues if it was recovered, and
   * others start a new session with each connection.
   */
  constructor(user, ledger, channels, { recovers = false, token = () => undefined } = {}) {
    this.#user = user;
    this.#socket = user.socket;
    this.#ledger = ledger;
    this.#recovers = recovers;
    this.token = token;
    this.name = user.name;
    for (const channel of channels) this.all.set(channel, new Followed(channel));
    this.#socket.on("connect", () => this.#connected());
    this.#socket.onAnyOutgoing((_, payload) => this.#sentAfter.set(payload, this.#cuts));
    this.#socket.on("disconnect", (reason) => {
      this.#cuts += 1;
      this.#tell(`has lost its connection: ${reason}`);
      if (!recovers) this.#socket._pid = undefined;
      // The answer to a request may be lost, whose channel a recovered socket then follows.
      for (const one of this.all.values()) one.mayFollow ||= one.phase === "asking";
    });
    this.#socket.onAny((name, data, meta) => NAMES.includes(name) && this.#arrived(name, data, meta));
    this.#socket.on("channel:ended", (ended) => this.#ended(ended));
    if (this.#socket.connected) this.#connected();
  }

  /** Returns whether it follows all of its channels, except those that it must not follow. */
  isIn() {
    const isSettled = ({ channel, phase }) => phase === "following" || this.lost.has(channel);
    return this.#socket.connected && [...this.all.values()].every(isSettled);
  }

  /** Returns whether it has an event. */
  has({ channel, id }) {
    return this.all.get(channel).seen.at(-1) === id;
  }

  /** Returns what it has done and received last, for diagnosing failures. */
  story() {
    return [this.name, ...this.#story.slice(-60)].join("\n");
  }

  /** Reads a page of a channel without waiting for the answer. */
  read(channel, limit) {
    if (this.#socket.connected) this.#socket.emit("channel:history", { channel, limit, token: this.token(channel) }, () => {});
  }

  /** Notes that the right to follow these channels ends at a time, perhaps by a call to a server. */
  loseAt(channels, at, url) {
    const { connections } = this.counts;
    for (const channel of channels) this.lost.set(channel, new Loss(at, { url, connections }));
    this.#tell(`has no right to ${channels} from ${new Date(at).toISOString()} on, at ${url ?? "any server"}${this.isAway ? ", and is away" : ""}`);
  }

  /** Asserts that it has a part of what is stored: without a gap, each event once, in order. */
  assertSaw(stored, { isWhole }) {
    for (const { channel, seen, forgotten, isWhole: hasBeginning } of this.all.values()) {
      if (forgotten > 0) continue;
      const ids = stored.get(channel).map(({ id }) => id);
      const start = hasBeginning || seen.length === 0 ? 0 : ids.indexOf(seen[0]);
      const end = isWhole && !this.lost.has(channel) ? ids.length : start + seen.length;
      const expected = ids.slice(start, end);
      const n = expected.findIndex((id, n) => seen[n] !== id);
      const isEqual = n === -1 && seen.length === expected.length;
      const around = (list, at) => list.slice(Math.max(0, at - 3), at + 3);
      assert.ok(isEqual, `${this.name} has ${seen.length} of ${expected.length} events of ${channel}, and at ${n} ${around(seen, n)} instead of ${around(expected, n)}`);
    }
  }

  #connected() {
    this.counts.connections += 1;
    const isRecovered = this.#recovers && this.#socket.recovered;
    this.#tell(`is ${isRecovered ? "recovered" : "connected"} at ${this.#user.server()}`);
    if (isRecovered) this.counts.recovered += 1;
    for (const one of this.all.values()) {
      if (isRecovered && one.phase !== "asking" && one.phase !== "waiting") continue;
      if (!isRecovered) one.mayFollow = false;
      this.#follow(one);
    }
  }

  #follow(one) {
    // It follows when it is connected.
    if (!this.#socket.connected) return;
    const since = one.position;
    const request = ++one.requests;
    const askedAfter = this.#cuts;
    const askedAt = Date.now();
    one.phase = "asking";
    this.#tell(`asks for ${one.channel} since ${since}`);
    const payload = { channel: one.channel, since, token: this.token(one.channel) };
    this.#socket.emit("channel:subscribe", payload, (answer) => {
      if (request !== one.requests) {
        // A client that finds its connection dead keeps the request, and sends it with the next one.
        const sentAfter = this.#sentAfter.get(payload);
        const wasKept = askedAfter < sentAfter && sentAfter === this.#cuts;
        return wasKept || this.#blame(`was answered a request for ${one.channel} of an earlier connection`);
      }
      if (answer.success) this.#answered(one, answer, { since, askedAt });
      else this.#refused(one, answer.error, request);
    });
  }

  #refused(one, { code, message, retryAfter }, request) {
    this.#tell(`is refused ${one.channel}: ${code} ${message}`);
    if (this.lost.has(one.channel) && !PASSING.has(code)) {
      one.phase = "refused";
      return;
    }
    this.counts.refused += 1;
    if (!PASSING.has(code) && !this.isAboutToLose) this.#blame(`was refused ${one.channel}: ${code} ${message}`);
    one.phase = "waiting";
    // The requested delay, at most 1 s.
    setTimeout(() => request === one.requests && one.phase === "waiting" && this.#follow(one), Math.min(retryAfter || 100, 1000));
  }

  #answered(one, { events, position, hasMore, forgotten }, { since, askedAt }) {
    const { channel } = one;
    this.#tell(`is answered ${events.length} events of ${channel} to ${position}${hasMore ? ", and there are more" : ""}`);
    const overdue = this.#overdue(channel, askedAt);
    if (overdue > 0) this.#blame(`follows ${channel}, to which it had lost the right ${overdue} ms before`);
    if (forgotten) {
      one.forgotten += 1;
      this.counts.forgotten += 1;
    } else if (since === undefined && !hasMore) {
      one.isWhole = true;
    }
    const isFirst = one.position === undefined || forgotten;
    for (const [n, { event, data, ...meta }] of events.entries()) {
      this.#take(one, event, data, { channel, ...meta }, isFirst && n === 0);
      this.counts.answered += 1;
    }
    if (events.length > 0 && events.at(-1).position !== position) this.#blame(`was answered ${position} after ${events.at(-1).position}`);
    one.position = position;
    one.mayFollow = false;
    if (hasMore && since !== undefined && !forgotten) {
      this.counts.pages += 1;
      this.#follow(one);
      return;
    }
    this.counts.subscriptions += 1;
    one.phase = "following";
  }

  #arrived(name, data, meta) {
    const one = this.all.get(meta.channel);
    if (one === undefined) return this.#blame(`received ${meta.id} of ${meta.channel}, which it does not follow`);
    if (one.phase === "following") {
      this.counts.live += 1;
      this.#tell(`receives ${meta.id} at ${meta.position}`);
      this.#take(one, name, data, meta, false);
    } else if (one.phase === "asking" && one.mayFollow) {
      // The answer will have it.
      this.counts.ignored += 1;
    } else {
      this.#blame(`received ${meta.id} of ${meta.channel} while it is ${one.phase}`);
    }
  }

  /** Notes an event. Only the first one of all may have any place. */
  #take(one, name, data, meta, isFirst) {
    const event = this.#ledger.received(name, data, meta, this.name);
    if (event === undefined) return;
    const { id, channel, position } = meta;
    const overdue = this.#overdue(channel, event.sentAt);
    if (overdue > 0) this.#blame(`received ${id} of ${channel}, which was published ${overdue} ms after the end of its right`);
    if (this.#known.has(id)) this.#blame(`received ${id} of ${channel} twice`);
    const before = one.position === undefined ? 0 : offsetOf(one.position);
    if (!isFirst && offsetOf(position) !== before + 1) this.#blame(`received ${id} of ${channel} at ${position} after ${one.position}`);
    this.#known.add(id);
    one.seen.push(id);
    one.position = position;
  }

  /** Returns how long after the end of its right something was published or requested. */
  #overdue(channel, time) {
    const { connections } = this.counts;
    return this.lost.get(channel)?.overdue(time, { server: this.#user.server(), connections }) ?? 0;
  }

  #ended({ channel, reason }) {
    this.#tell(`is told that ${channel} has ended: ${reason}`);
    const one = this.all.get(channel);
    if (one === undefined) return this.#blame(`was told of the end of ${channel}`);
    one.mayFollow = false;
    // An answer is still to come.
    if (one.phase !== "following") return undefined;
    if (reason === "interrupted") {
      this.counts.interrupted += 1;
      this.#follow(one);
    } else {
      one.phase = "ended";
      if (!this.isAboutToLose && !this.lost.has(channel)) this.#blame(`has lost ${channel}: ${reason}`);
    }
    return undefined;
  }

  /** Records an event for diagnosing failures. */
  #tell(what) {
    this.#story.push(`${new Date().toISOString()} ${this.#socket.id} ${what}`);
    if (this.#story.length > LINES_OF_A_STORY * 1.5) this.#story.splice(0, LINES_OF_A_STORY / 2);
  }

  #blame(what) {
    this.#ledger.blame(this.name, [what, ...this.#story.slice(-60)].join("\n"));
  }
}
