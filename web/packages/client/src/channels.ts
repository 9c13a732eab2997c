import { Effort } from "./effort.ts";
import { Emitter } from "./emitter.ts";
import { DISCONNECTED, NO_CREDENTIALS, QUEUE_FULL, RequestError, asFailure, isUnconfirmed } from "./failure.ts";
import { ANSWER_TIMEOUT } from "./line/line.ts";
import type { SocketManager } from "./manager.ts";
import { type PositionStorage, defaultPositions } from "./positions.ts";
import type { SubscriptionOptions } from "./subscription.ts";
import { Delay, randomId, retryDelay, within } from "./time.ts";
import type { ChannelEnded, ChannelEvent, ChannelEvents, ChannelPresence, PublishedToChannel, SubscribeChannel } from "./types.ts";

export { type PositionStorage, localPositions } from "./positions.ts";

/** The connection that a channel uses. */
type Connection = Pick<SocketManager, "isReady" | "on" | "request" | "session" | "subscribe" | "watch">;

/** The event of a channel with the types that the application declares. */
export type EventOf<Events> = { [Name in keyof Events & string]: ChannelEvent & { event: Name; data: Events[Name] } }[keyof Events & string];

/** What listeners receive besides the data of an event. */
export type EventMeta = Omit<ChannelEvent, "event" | "data"> & { channel: string };

/** A page of a channel's events, the oldest first. */
export type ChannelPage<Events> = ChannelEvents & { events: EventOf<Events>[] };

export interface ChannelOptions {
  /**
   * A token for the channel, or a function that returns one. It is called again when a token has
   * expired or is refused.
   */
  token?: string | (() => string | Promise<string>);
  /**
   * Stores the position. Default: `localPositions()` in a page, otherwise none. With `false`, each
   * visit begins with a `reset`.
   */
  storage?: PositionStorage | false;
}

/** Why the server no longer sends the events of a channel. */
export interface ChannelEnd {
  /** `refused` if the server refuses the subscription, otherwise the reason of `channel:ended`. */
  reason: Exclude<ChannelEnded["reason"], "interrupted"> | "refused";
  /** Whether the channel subscribes again with a new token. Otherwise it waits for `retry`. */
  renews: boolean;
  /** The refusal, for `refused`. */
  failure?: RequestError;
}

/** The events of a channel itself. */
export interface ChannelNotices<Events> {
  /**
   * The events do not continue those before: the application discards what it has. The listeners of
   * events receive `newest` next. `hasOlder` is whether `history` has older events.
   */
  reset: (newest: readonly EventOf<Events>[], hasOlder: boolean) => void;
  ended: (end: ChannelEnd) => void;
  /**
   * The token could not be obtained (`NO_CREDENTIALS`) and is requested again, or the storage of
   * positions has failed (`STORAGE_FAILED`).
   */
  failed: (failure: RequestError) => void;
}

/** The storage of positions has failed. The channel continues without it. */
export const STORAGE_FAILED = "STORAGE_FAILED";

/** Maximum number of events that are buffered until an answer. Further ones are read again. */
const MAX_AHEAD = 1_000;
/** Maximum number of events that wait to be published. */
const MAX_UNPUBLISHED = 1_000;
/** Maximum number of `INTERNAL` errors for an event, after which it is refused, as in the queue. */
const MAX_FAULTS = 5;

/**
 * A channel. It is subscribed again after each reconnect, from the last event that the listeners
 * have received.
 */
export class Channel<Events extends object = Record<string, unknown>> {
  readonly name: string;
  /** The payload of the next subscription. `since` is the position of the last received event. */
  readonly #payload: SubscribeChannel;
  readonly #subscription: SubscriptionOptions<ChannelEvents, "channel:unsubscribe"> = {
    answered: (answer) => this.#take(answer),
    refused: (failure) => this.#handleRefusal(failure),
  };
  #stop: (() => void) | undefined;
  /** Whether all events before the next one were received. Until then, events are buffered. */
  #isFollowing = false;
  #ahead: ChannelEvent[] = [];
  /** The user who has received the events; `guest` for all guests, as in the manager. */
  #reader: string | undefined;
  #token: Promise<string> | undefined;
  /** Whether the token was replaced since the last answer because the server had refused it. */
  #isRenewed = false;
  #hasEnded = false;
  #isClosed = false;
  #unpublished = 0;
  #publishing: Promise<unknown> = Promise.resolve();
  /** The delay before an event is published again. A new connection ends it after `DISCONNECTED`. */
  readonly #delay = new Delay();
  #isDisconnected = false;
  readonly #effort = new Effort();
  readonly #events = new Emitter<Record<string, (data: never, meta: EventMeta) => void>>();
  readonly #notices = new Emitter<ChannelNotices<Events>>();
  readonly #names = new Set<string>();
  readonly #listeners: (() => void)[];
  /** The same channel in other tabs, which may share the connection. */
  readonly #tabs: BroadcastChannel | undefined;
  readonly #connection: Connection;
  readonly #source: ChannelOptions["token"];
  readonly #storage: PositionStorage | false;

  constructor(connection: Connection, name: string, { token, storage = defaultPositions() }: ChannelOptions, closed: () => void) {
    this.name = name;
    this.#payload = { channel: name };
    this.#connection = connection;
    this.#source = token;
    this.#storage = storage;
    this.#listeners = [
      closed,
      connection.on("channel:ended", ({ channel, reason }) => {
        if (channel !== name || this.#stop === undefined) return;
        if (reason === "interrupted") this.#follow();
        else this.#end({ reason, renews: reason === "expired" && typeof token === "function" });
      }),
      connection.watch("session", () => this.#identify()),
      connection.watch("status", () => (this.#isFollowing &&= connection.isReady)),
    ];
    if (typeof BroadcastChannel !== "undefined") {
      this.#tabs = new BroadcastChannel(`roomcast:channel:${name}`);
      this.#tabs.onmessage = () => this.#stop && this.#follow();
      // In Node, it would keep the program running.
      (this.#tabs as { unref?: () => void }).unref?.();
    }
    // Lets the caller add listeners before the first answer.
    queueMicrotask(() => this.#identify());
  }

  /** Whether the listeners have received all events, and receive the next ones immediately. */
  get isFollowing(): boolean {
    return this.#isFollowing;
  }

  /**
   * Listens to an event of the channel, each of which is received once and in order. Returns a
   * function that removes the listener.
   */
  on<Name extends keyof Events & string>(event: Name, listener: (data: Events[Name], meta: EventMeta) => void): () => void {
    if (!this.#names.has(event)) {
      this.#names.add(event);
      const receive = (data: unknown, meta?: EventMeta) => this.#receive(event, data, meta);
      this.#listeners.push(this.#connection.on(event as never, receive as never));
    }
    return this.#events.on(event, listener as never);
  }

  /** Listens to an event of the channel itself. Returns a function that removes the listener. */
  watch<Name extends keyof ChannelNotices<Events>>(name: Name, listener: ChannelNotices<Events>[Name]): () => void {
    return this.#notices.on(name, listener as never);
  }

  /** Reads a page of events, by default the newest. */
  history(bounds: { before?: string; limit?: number } = {}): Promise<ChannelPage<Events>> {
    return this.#request("channel:history", bounds) as Promise<ChannelPage<Events>>;
  }

  /** Reads who follows the channel. Rejects with `CONFLICT` if its kind has no presence. */
  presence(): Promise<ChannelPresence> {
    return this.#request("channel:presence") as Promise<ChannelPresence>;
  }

  /**
   * Publishes an event, in the order of the calls. Without an answer it is sent again under the
   * same id, until the channel is closed or another user signs in. Rejects with a `RequestError` if
   * the server refuses it.
   */
  async publish<Name extends keyof Events & string>(event: Name, data: Events[Name], id = randomId()): Promise<PublishedToChannel> {
    if (this.#unpublished === MAX_UNPUBLISHED) throw new RequestError({ code: QUEUE_FULL, message: `${this.#unpublished} events wait already` });
    this.#unpublished += 1;
    const author = this.#connection.session?.userId;
    const published = this.#publishing.then(() => this.#publish({ event, data, id }, author));
    this.#publishing = published.catch(() => {});
    return published.finally(() => (this.#unpublished -= 1));
  }

  /** Subscribes again after the channel has ended. */
  retry(): void {
    if (!this.#hasEnded || this.#isClosed) return;
    this.#token = undefined;
    this.#isRenewed = false;
    this.#begin();
  }

  /** Unsubscribes and removes all listeners. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#isFollowing = false;
    this.#effort.end();
    this.#delay.end();
    this.#tabs?.close();
    for (const remove of this.#listeners) remove();
    this.#subscription.undo = "channel:unsubscribe";
    delete this.#payload.since;
    delete this.#payload.token;
    this.#stop?.();
  }

  /** Begins for the user of the session. The position of one user is not used for the next one. */
  #identify(): void {
    const { session, isReady } = this.#connection;
    if (session === undefined || this.#isClosed) return;
    if (isReady && this.#isDisconnected) this.#delay.end();
    const reader = session.guest ? "guest" : session.userId;
    if (reader === this.#reader) return;
    this.#reader = reader;
    this.#token = undefined;
    delete this.#payload.since;
    this.#begin(this.#load(session.userId));
  }

  /** Subscribes with a token, from this position or from where it was. */
  #begin(stored?: Promise<string | undefined>): void {
    this.#leave();
    this.#hasEnded = false;
    const prepare = async (isCurrent: () => boolean) => {
      const [since, token] = await Promise.all([stored, this.#getToken()]);
      if (!isCurrent()) return;
      Object.assign(this.#payload, since !== undefined && { since }, token !== undefined && { token });
      this.#follow();
    };
    void this.#effort.begin(prepare, (failure) => {
      this.#notices.emit("failed", failure);
      return true;
    });
  }

  #load(userId: string): Promise<string | undefined> {
    const load = async () => (this.#storage ? this.#storage.load(userId, this.name) : undefined);
    return within(ANSWER_TIMEOUT, load()).catch((error) => this.#complain(error));
  }

  #complain(error: unknown): undefined {
    this.#notices.emit("failed", new RequestError({ code: STORAGE_FAILED, message: String(error) }));
  }

  async #getToken(): Promise<string | undefined> {
    const source = this.#source;
    if (typeof source !== "function") return source;
    const get = async () => source();
    const token = (this.#token ??= within(ANSWER_TIMEOUT, get()));
    return token.catch((error) => {
      if (this.#token === token) this.#token = undefined;
      throw new RequestError({ code: NO_CREDENTIALS, message: String(error) });
    });
  }

  /** Subscribes from the last position. The answer has all events that were received until now. */
  #follow(): void {
    this.#leave();
    this.#stop = this.#connection.subscribe("channel:subscribe", this.#payload, this.#subscription);
  }

  /** Ends the subscription here only: without `undo`, the server is not notified. */
  #leave(): void {
    this.#isFollowing = false;
    this.#ahead = [];
    this.#stop?.();
    this.#stop = undefined;
  }

  #end(end: ChannelEnd): void {
    this.#leave();
    this.#hasEnded = true;
    this.#notices.emit("ended", end);
    if (end.renews) this.retry();
  }

  #handleRefusal(failure: RequestError): void {
    const field = refusedField(failure);
    if (field === "since" && this.#payload.since !== undefined) {
      delete this.#payload.since;
      this.#follow();
    } else if (field === "token" && typeof this.#source === "function" && !this.#isRenewed) {
      this.#isRenewed = true;
      this.#token = undefined;
      this.#begin();
    } else this.#end({ reason: "refused", renews: false, failure });
  }

  #take({ events, position, hasMore, forgotten }: ChannelEvents): void {
    const isReset = this.#payload.since === undefined || forgotten === true;
    const isBehind = hasMore && !isReset;
    this.#isRenewed = false;
    // The connection no longer follows the channel, also for other tabs that share it.
    if (isBehind) this.#tabs?.postMessage("subscribe");
    if (isReset) this.#notices.emit("reset", events as EventOf<Events>[], hasMore);
    for (const event of events) this.#deliver(event);
    this.#advance(position);
    if (this.#isClosed) return;
    if (isBehind || this.#ahead.length === MAX_AHEAD) return this.#follow();
    const positions = new Set(events.map((event) => event.position));
    const later = this.#ahead.slice(this.#ahead.findLastIndex((event) => positions.has(event.position)) + 1);
    this.#ahead = [];
    // A listener may have closed the connection.
    this.#isFollowing = this.#connection.isReady;
    for (const event of later) this.#deliver(event);
    const last = later.at(-1);
    if (last) this.#advance(last.position);
  }

  #receive(event: string, data: unknown, meta: EventMeta | undefined): void {
    // Other channels have events with this name.
    if (meta?.channel !== this.name) return;
    const { channel: _, ...rest } = meta;
    const received = { event, data, ...rest };
    if (this.#isFollowing) {
      this.#deliver(received);
      this.#advance(received.position);
    } else if (this.#ahead.length < MAX_AHEAD) this.#ahead.push(received);
  }

  #deliver({ event, data, ...rest }: ChannelEvent): void {
    if (!this.#isClosed) this.#events.emit(event, data as never, { channel: this.name, ...rest });
  }

  /** Stores the position of an event that the listeners have received. */
  #advance(position: string): void {
    const userId = this.#connection.session?.userId;
    if (this.#isClosed || position === this.#payload.since) return;
    this.#payload.since = position;
    if (!this.#storage || userId === undefined) return;
    const storage = this.#storage;
    const save = async () => storage.save(userId, this.name, position);
    save().catch((error) => this.#complain(error));
  }

  /**
   * Sends a request if `check` does not throw. If its token is refused, it is repeated once with
   * another one.
   */
  async #request(name: "channel:history" | "channel:presence" | "channel:publish", payload?: object, check?: () => void): Promise<unknown> {
    const request = async () => {
      const token = await this.#getToken();
      check?.();
      return this.#connection.request(name, { channel: this.name, ...payload, ...(token !== undefined && { token }) } as never);
    };
    return request().catch((error) => {
      if (typeof this.#source !== "function" || refusedField(asFailure(error)) !== "token") throw error;
      this.#token = undefined;
      return request();
    });
  }

  async #publish(payload: object, author: string | undefined): Promise<PublishedToChannel> {
    const check = () => {
      const userId = this.#connection.session?.userId;
      // No event of one user is sent as another one.
      if (this.#isClosed || userId !== (author ??= userId)) throw new RequestError({ code: "DISCARDED", message: "discarded" });
    };
    for (let [tries, faults] = [1, 0]; ; tries += 1) {
      try {
        return (await this.#request("channel:publish", payload, check)) as PublishedToChannel;
      } catch (error) {
        const failure = asFailure(error);
        const { code, retryAfter } = failure;
        const mayRepeat = [DISCONNECTED, NO_CREDENTIALS, "RATE_LIMITED", "BACKEND_UNAVAILABLE"].includes(code) || isUnconfirmed(failure);
        faults += Number(code === "INTERNAL");
        if (!mayRepeat || faults === MAX_FAULTS) throw failure;
        this.#isDisconnected = code === DISCONNECTED;
        await this.#delay.for(retryDelay(tries, retryAfter));
      }
    }
  }
}

/** The channels of each connection. */
const known = new WeakMap<Connection, Map<string, Channel<never>>>();

/**
 * Returns a channel, which is subscribed now and after each reconnect. The same name returns the
 * same object, with the options of the first call, until it is closed. If it has ended, it
 * subscribes again.
 */
export function channel<Events extends object = Record<string, unknown>>(
  manager: Connection,
  name: string,
  options: ChannelOptions = {},
): Channel<Events> {
  const channels = known.get(manager) ?? new Map<string, Channel<Events>>();
  known.set(manager, channels as Map<string, Channel<never>>);
  const existing = channels.get(name) as Channel<Events> | undefined;
  existing?.retry();
  if (existing) return existing;
  const created = new Channel<Events>(manager, name, options, () => channels.delete(name));
  channels.set(name, created as never);
  return created;
}

/** Returns the field that the server refuses. */
function refusedField({ code, details }: RequestError): unknown {
  return code === "INVALID_PAYLOAD" ? (details as { field?: unknown } | undefined)?.field : undefined;
}
