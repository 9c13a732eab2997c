// Clients and services that publish events to channels: each repeats an event under its id until it
// is acknowledged.
import { setTimeout as sleep } from "node:timers/promises";
import { PASSING } from "./channel_ledger.mjs";
import { service } from "./channel_backend.mjs";
import { request } from "./streamed_authors.mjs";

/** The time after which a publisher that is not answered repeats an event elsewhere. */
const PATIENCE = 3000;

/** Publishes one event after the other. */
class Publisher {
  counts = { published: 0, unanswered: 0, refused: 0 };
  #isOver = false;

  constructor(name, channels, ledger, random) {
    Object.assign(this, { name, channels, ledger, random });
  }

  /** Publishes until it is stopped, with this pause in milliseconds on average. */
  async publish(pause) {
    while (!this.#isOver) {
      await this.publishSome();
      await sleep(this.random() * 2 * pause); // Pace of a publisher.
    }
  }

  stop() {
    this.#isOver = true;
  }

  /** Makes up the next event, by default for any of the channels, of which the first have more. */
  create(channel = this.channels[Math.floor(this.random() ** 2 * this.channels.length)]) {
    return this.ledger.create(this.name, channel, this.random);
  }

  /** Sends events until they are acknowledged, and sometimes once more. */
  async insist(events, send) {
    const times = this.random() < 0.05 ? 2 : 1;
    for (let n = 0; n < times; n++) {
      let positions;
      while (positions === undefined) positions = await send();
      for (const [n, event] of events.entries()) this.ledger.acknowledge(event, positions[n]);
    }
    this.counts.published += events.length;
  }

  /** Notes a failure. A wrong request is a fault of the server or of this test. */
  async refused(code, message, isPassing, retryAfter = 100) {
    this.counts.refused += 1;
    if (!isPassing) this.ledger.blame(this.name, `was refused: ${code} ${message}`);
    await sleep(Math.min(retryAfter || 100, 1000)); // The requested delay, at most 1 s.
  }
}

/** Notes when events were first sent, before which no follower can receive them. */
function noteSent(events) {
  for (const event of events) event.sentAt ??= Date.now();
}

/** A user who publishes with `channel:publish`. */
export class ClientPublisher extends Publisher {
  #user;

  constructor(user, channels, ledger, random) {
    super(user.name, channels, ledger, random);
    this.#user = user;
  }

  publishSome() {
    const event = this.create();
    return this.insist([event], () => this.#send(event));
  }

  async #send(event) {
    const { socket, move } = this.#user;
    if (!socket.connected) await new Promise((done) => socket.once("connect", done));
    noteSent([event]);
    const { channel, event: name, data, id } = event;
    const answer = await request(socket, "channel:publish", { channel, event: name, data, id }, { patience: PATIENCE });
    if (answer?.success) return [answer.position];
    if (answer === undefined) {
      this.counts.unanswered += 1;
      // The server may be suspended: it stores the event when it is resumed.
      if (socket.connected) move();
    } else {
      const { code, message, retryAfter } = answer.error;
      await this.refused(code, message, PASSING.has(code), retryAfter);
    }
    return undefined;
  }
}

/** A service that publishes with the HTTP API at any of these servers: one event, or a list. */
export class ServicePublisher extends Publisher {
  #urls;

  constructor(urls, ...rest) {
    super(...rest);
    this.#urls = urls;
  }

  publishSome() {
    const kind = this.random();
    const first = this.create();
    if (kind < 0.5) return this.publishOne(first);
    const isToOne = kind < 0.75;
    const rest = Array.from({ length: 1 + Math.floor(this.random() * 4) }, () => this.create(isToOne ? first.channel : undefined));
    return isToOne ? this.#publishToOne([first, ...rest]) : this.#publishToMany([first, ...rest]);
  }

  publishOne(event) {
    const { channel, event: name, data, id } = event;
    const body = { event: name, data, id };
    return this.insist([event], () => this.#post(`${channel}/events`, body, [event]));
  }

  #publishToMany(events) {
    const all = events.map(({ channel, event, data, id }) => ({ channel, event, data, id }));
    return this.insist(events, () => this.#post("events", { events: all }, events));
  }

  #publishToOne(events) {
    const all = events.map(({ event, data, id }) => ({ event, data, id }));
    return this.insist(events, () => this.#post(`${events[0].channel}/events`, { events: all }, events));
  }

  async #post(path, body, events) {
    const url = this.#urls[Math.floor(this.random() * this.#urls.length)];
    noteSent(events);
    const answer = await callOnce(url, "POST", `/api/v1/channels/${path}`, body, service, PATIENCE);
    if (answer?.status === 200) return answer.body.positions ?? [answer.body.position];
    if (answer === undefined) {
      this.counts.unanswered += 1;
      await sleep(50); // The server may be down.
    } else {
      const { code, message } = answer.body.error;
      await this.refused(code, message, answer.status >= 500 || answer.status === 429);
    }
    return undefined;
  }
}

/** Returns the answer to a request, or nothing if there is none within `patience` milliseconds. */
export async function callOnce(url, method, path, body, authorization, patience) {
  try {
    const headers = { authorization, ...(body && { "content-type": "application/json" }) };
    const response = await fetch(url + path, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(patience) });
    return { status: response.status, body: await response.json() };
  } catch {
    return undefined;
  }
}
