// Clients that subscribe to channels, subscribe again after a lost connection, and record what they
// receive of a channel that they do not follow. What else must hold depends on the kind.
import { NAMES, PASSING } from "./channel_ledger.mjs";

const LINES_OF_A_STORY = 200;

/** What a subscriber has of one channel. */
class Followed {
  /** The position up to which it has everything. */
  position;
  /** The ids of the events that it has, in order. */
  seen = [];
  /** Whether it has received the beginning of the channel. */
  isWhole = false;
  /** How often an answer had `forgotten`. */
  forgotten = 0;
  /**
   * `asking`, `following`, `waiting` before a further attempt, `ended`, `refused`, `idle` until it
   * follows, or `left`.
   */
  phase = "waiting";
  /** The number of requests; the answer to an earlier one than the last has no meaning. */
  requests = 0;
  /** The number of lost connections when it sent the last request. */
  askedAfter;
  /** Whether the socket may follow although the subscriber waits for an answer. */
  mayFollow = false;

  constructor(channel) {
    this.channel = channel;
  }
}

/**
 * Does what an application must do. Each kind of followers has its own `take`, which is called for
 * each event, and extends what follows it: `isPassing`, `accept` and `lose`.
 */
export class Subscriber {
  counts = { connections: 0, recovered: 0, live: 0, answered: 0, ignored: 0, subscriptions: 0, pages: 0, interrupted: 0, refused: 0, forgotten: 0 };
  /** By the channel. */
  all = new Map();
  /** Returns the token for a channel, if it follows by one. */
  token;
  user;
  /** The server to which it connected last. */
  url;
  ledger;
  #socket;
  #recovers;
  /** The number of lost connections, and how many there were when a request was sent. */
  #cuts = 0;
  #sentAfter = new WeakMap();
  #story = [];

  /**
   * Creates a subscriber of these channels. One that `recovers` continues if it was recovered, and
   * others start a new session with each connection. With `isGranted`, it waits until a service
   * subscribes it.
   */
  constructor(user, ledger, channels, { recovers = false, token = () => undefined, isGranted = false } = {}) {
    this.user = user;
    this.#socket = user.socket;
    this.ledger = ledger;
    this.#recovers = recovers;
    this.token = token;
    this.isGranted = isGranted;
    this.name = user.name;
    for (const channel of channels) this.add(channel);
    this.#socket.on("connect", () => this.#connected());
    this.#socket.onAnyOutgoing((_, payload) => this.#sentAfter.set(payload, this.#cuts));
    this.#socket.on("disconnect", (reason) => {
      this.#cuts += 1;
      this.tell(`has lost its connection: ${reason}`);
      if (!recovers) this.#socket._pid = undefined;
      // The answer to a request may be lost, whose channel a recovered socket then follows.
      for (const one of this.all.values()) one.mayFollow ||= one.phase === "asking";
    });
    this.#socket.onAny((name, data, meta) => NAMES.includes(name) && this.#arrived(name, data, meta));
    this.#socket.on("channel:ended", (ended) => this.#ended(ended));
    this.#socket.on("channel:subscribed", (answer) => this.#granted(answer));
    if (this.#socket.connected) this.#connected();
  }

  /** Adds a channel without following it yet. */
  add(channel) {
    const one = new Followed(channel);
    this.all.set(channel, one);
    return one;
  }

  /** Returns whether it follows all of its channels, except those that are `lost`. */
  isIn() {
    return this.#socket.connected && [...this.all.values()].every((one) => one.phase === "following" || this.isLost(one.channel));
  }

  /** Returns whether it must not follow a channel any longer. */
  isLost() {
    return false;
  }

  /** Returns whether an event is the newest that it has of its channel. */
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

  #connected() {
    this.counts.connections += 1;
    const isRecovered = this.#recovers && this.#socket.recovered;
    this.url = this.user.server();
    this.tell(`is ${isRecovered ? "recovered" : "connected"} at ${this.url}`);
    if (isRecovered) this.counts.recovered += 1;
    for (const one of this.all.values()) {
      // The end of a subscription can arrive with the recovery, before "connect".
      const isAsking = one.phase === "asking" && one.askedAfter !== this.#cuts;
      if (isRecovered && !isAsking && one.phase !== "waiting") continue;
      if (!isRecovered) one.mayFollow = false;
      if (one.phase !== "idle" && one.phase !== "left") this.follow(one);
    }
  }

  /** Subscribes to a channel from its position on. */
  follow(one) {
    if (!this.#socket.connected || this.isGranted) {
      // It follows when it is connected, or when a service subscribes it.
      if (this.isGranted || ["idle", "ended"].includes(one.phase)) one.phase = "waiting";
      return;
    }
    const since = one.position;
    const request = ++one.requests;
    const askedAt = Date.now();
    one.phase = "asking";
    one.askedAfter = this.#cuts;
    this.tell(`asks for ${one.channel} since ${since}`);
    const payload = { channel: one.channel, since, token: this.token(one.channel) };
    this.#socket.emit("channel:subscribe", payload, (answer) => {
      if (request !== one.requests) {
        // A client that finds its connection dead keeps the request, and sends it with the next one.
        const isOfThis = this.#sentAfter.get(payload) === this.#cuts;
        return isOfThis || this.blame(`was answered a request for ${one.channel} of an earlier connection`);
      }
      if (answer.success) this.#answered(one, answer, { since, askedAt });
      else this.#refused(one, answer.error, request);
    });
  }

  /** Returns whether a refusal is to be expected now, so that the request is repeated. */
  isPassing(_, code) {
    return PASSING.has(code);
  }

  #refused(one, { code, message, retryAfter }, request) {
    this.tell(`is refused ${one.channel}: ${code} ${message}`);
    if (this.isLost(one.channel) && !PASSING.has(code)) {
      one.phase = "refused";
      return;
    }
    this.counts.refused += 1;
    if (!this.isPassing(one, code)) this.blame(`was refused ${one.channel}: ${code} ${message}`);
    one.phase = "waiting";
    // The requested delay, at most 1 s.
    setTimeout(() => request === one.requests && one.phase === "waiting" && this.follow(one), Math.min(retryAfter || 100, 1000));
  }

  /** Checks an answer before its events are taken. */
  accept() {}

  #answered(one, answer, { since, askedAt }) {
    const { events, position, hasMore, forgotten } = answer;
    const { channel } = one;
    this.tell(`is answered ${events.length} events of ${channel} to ${position}${hasMore ? ", and there are more" : ""}${forgotten ? ", and some are forgotten" : ""}`);
    this.accept(one, answer, { since, askedAt });
    if (forgotten) {
      one.forgotten += 1;
      this.counts.forgotten += 1;
    } else if (since === undefined && !hasMore) {
      one.isWhole = true;
    }
    const isFirst = one.position === undefined || forgotten;
    for (const [n, { event, data, ...meta }] of events.entries()) {
      this.take(one, event, data, { channel, ...meta }, { isFirst: isFirst && n === 0 });
      this.counts.answered += 1;
    }
    if (events.length > 0 && events.at(-1).position !== position) this.blame(`was answered ${position} after ${events.at(-1).position}`);
    one.position = position;
    one.mayFollow = false;
    if (hasMore && since !== undefined && !forgotten) {
      this.counts.pages += 1;
      this.follow(one);
      return;
    }
    this.counts.subscriptions += 1;
    one.phase = "following";
  }

  /** A service has subscribed the socket, which sends what an answer would have. */
  #granted({ channel, ...answer }) {
    const one = this.all.get(channel);
    // A server that handles two requests at the same time sends this twice.
    if (!this.isGranted || !["waiting", "following"].includes(one?.phase)) return this.blame(`was subscribed to ${channel} while it is ${one?.phase}`);
    // Since the last subscription it may have missed events.
    one.seen.length = 0;
    one.position = undefined;
    return this.#answered(one, answer, { since: undefined, askedAt: -Infinity });
  }

  #arrived(name, data, meta) {
    const one = this.all.get(meta.channel);
    if (one === undefined) return this.blame(`received ${meta.id} of ${meta.channel}, which it does not follow`);
    if (one.phase === "following") {
      this.counts.live += 1;
      this.tell(`receives ${meta.id} at ${meta.position}`);
      this.take(one, name, data, meta, { isLive: true });
    } else if ((one.phase === "asking" && one.mayFollow) || one.phase === "left") {
      // The answer will have it, or the server has not received the end yet.
      this.counts.ignored += 1;
    } else {
      this.blame(`received ${meta.id} of ${meta.channel} while it is ${one.phase}`);
    }
    return undefined;
  }

  /** Is told that it no longer follows a channel, for another reason than an interruption. */
  lose(one, reason) {
    this.blame(`has lost ${one.channel}: ${reason}`);
  }

  #ended({ channel, reason }) {
    this.tell(`is told that ${channel} has ended: ${reason}`);
    const one = this.all.get(channel);
    if (one === undefined) return this.blame(`was told of the end of ${channel}`);
    one.mayFollow = false;
    // An answer is still to come.
    if (one.phase !== "following") return undefined;
    if (reason === "interrupted") {
      this.counts.interrupted += 1;
      this.follow(one);
    } else {
      one.phase = "ended";
      this.lose(one, reason);
    }
    return undefined;
  }

  /** Records an event for diagnosing failures. */
  tell(what) {
    this.#story.push(`${new Date().toISOString()} ${this.#socket.id} ${what}`);
    if (this.#story.length > LINES_OF_A_STORY * 1.5) this.#story.splice(0, LINES_OF_A_STORY / 2);
  }

  blame(what) {
    this.ledger.blame(this.name, [what, ...this.#story.slice(-60)].join("\n"));
  }
}
