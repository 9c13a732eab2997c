import type { ManagerOptions as EngineOptions, SocketOptions } from "socket.io-client";
import type { Auth, AuthProvider } from "./line/auth.ts";
import { Confirmations } from "./queue/confirmations.ts";
import { Conversation, type ConversationOptions } from "./conversation.ts";
import { Emitter } from "./emitter.ts";
import type { Line, Status } from "./line/line.ts";
import type { LogEntry, Note } from "./log.ts";
import { type Entry, Queue, type QueueLimits, type Sent } from "./queue/queue.ts";
import type { Share } from "./share.ts";
import { SocketLine } from "./line/socket.ts";
import { type QueueStorage, defaultStorage } from "./queue/storage.ts";
import { Subscription, type SubscriptionOptions } from "./subscription.ts";
import { Tabs } from "./queue/tabs.ts";
import { JoinPacer } from "./join_pacer.ts";
import type { Message, MessageDelivered, Requests, ServerToClientEvents, Session } from "./types.ts";

export interface SocketManagerOptions {
  /** The credentials sent with each CONNECT, or a function that returns them. Default `{}`. */
  auth?: Auth | AuthProvider;
  /**
   * The name under which the queue is stored. If it is set, entries written before the first
   * session survive a reload. Default: the `userId` of the session.
   */
  identity?: string;
  /** The storage of the queue. Default: IndexedDB if available, otherwise memory. */
  storage?: QueueStorage;
  /** Limits of the queue. Default: 1,000 entries and 4 MiB. */
  limits?: Partial<QueueLimits>;
  /** The payload field that receives the id of a queued entry. Default `clientMessageId`. */
  idField?: string;
  /**
   * The event with which the server announces the session, or `false` if the server has none.
   * Default `session`.
   */
  sessionEvent?: string | false;
  /**
   * Shares one connection between tabs: `shareConnection(name)` of `@roomcast/client/share`.
   * Default: every tab has its own connection.
   */
  share?: Share;
  /** Maximum number of log entries. Default 200. */
  logSize?: number;
  /** Options for `socket.io-client`. */
  socket?: Partial<EngineOptions & SocketOptions>;
}

/** The events of the manager itself. */
export interface ManagerEvents {
  status: (status: Status) => void;
  session: (session: Session | undefined) => void;
  /**
   * An entry of the queue was added or changed. Stored and discarded entries are no longer in the
   * queue.
   */
  entry: (entry: Entry) => void;
  /** The server's delivery report on a message with `confirmDelivery`. */
  delivered: (entry: Entry, report: MessageDelivered) => void;
  log: (entry: LogEntry) => void;
}

/** An event that concerns one conversation. */
type Addressed = { conversationId?: string; conversation?: { id: string } } | undefined;

/** The method of `Conversation` that handles each event. */
const HANDLERS = {
  conversation_updated: "handleUpdated",
  conversation_deleted: "handleDeleted",
  "conversation:interrupted": "handleInterrupted",
  presence: "handlePresence",
  message_edited: "handleChange",
  message_deleted: "handleChange",
  message_reaction: "handleChange",
} as const;

/** The payload of an event, optional if the event takes none, and the arguments after it. */
type WithPayload<Payload, More extends unknown[]> = undefined extends Payload ? [payload?: Payload, ...More] : [payload: Payload, ...More];

/**
 * A connection that reconnects by itself and then repeats subscriptions, joins and unanswered
 * queued requests.
 */
export class SocketManager<Server = ServerToClientEvents, Client extends { [Name in keyof Client]: { payload: unknown; answer: unknown } } = Requests> {
  readonly queue: Queue;
  readonly #line: Line;
  readonly #tabs = new Tabs();
  #log: readonly LogEntry[] = [];
  readonly #events = new Emitter<ManagerEvents>();
  #conversations = new Map<string, Conversation>();
  /** Paces joins: the server's rate limit would refuse a user with many conversations and tabs. */
  readonly #joins = new JoinPacer<Conversation>((conversation) => void conversation.enter());
  readonly #subscriptions = new Set<Subscription>();
  readonly #confirmations = new Confirmations((entry, report) => this.#events.emit("delivered", entry, report));
  readonly #identity: string | undefined;
  readonly #note: Note;
  /** The user who has read the content of the conversations; `guest` for all guests. */
  #reader: string | undefined;
  #status: Status = { state: "idle" };
  #session: Session | undefined;

  /** `url` defaults to the origin of the page. */
  constructor(url?: string, options: SocketManagerOptions = {}) {
    const { auth = {}, storage = defaultStorage(), limits, share, socket = {} } = options;
    const { idField = "clientMessageId", sessionEvent = "session", logSize = 200 } = options;
    this.#identity = options.identity;
    const note = (this.#note = (what, detail = "") => {
      const entry = { at: new Date().toISOString(), what, detail };
      this.#log = [...this.#log, entry].slice(-logSize);
      this.#events.emit("log", entry);
    });
    const make = () => new SocketLine(url, { auth, sessionEvent, socket }, note);
    this.#line = share ? share(make, note) : make();
    this.queue = new Queue({
      storage,
      tabs: this.#tabs,
      limits: { entries: 1_000, bytes: 4 * 1024 * 1024, ...limits },
      idField,
      request: (event, payload) => this.#line.request(event, payload),
      changed: (entry) => this.#handleEntry(entry),
      note,
    });
    if (this.#identity !== undefined) void this.queue.open(this.#identity);
    this.#follow();
  }

  get status(): Status {
    return this.#line.status;
  }

  /** The current session as the server announced it. */
  get session(): Session | undefined {
    return this.#line.session;
  }

  /** Whether requests can be sent now. */
  get isReady(): boolean {
    return this.#line.isReady;
  }

  /**
   * Whether this tab owns the connection. With `share`, other tabs use the connection of this one.
   */
  get isLeader(): boolean {
    return this.#line.isLeader ?? true;
  }

  get log(): readonly LogEntry[] {
    return this.#log;
  }

  open(): void {
    this.#line.open();
  }

  /** Closes the connection. Queued entries are retained, and `open` connects again. */
  close(): void {
    this.#line.close();
  }

  /**
   * Closes the connection permanently. Queued entries are left to other tabs and later visits of
   * the same user.
   */
  leave(): void {
    this.close();
    this.#tabs.leave();
  }

  /** Connects immediately instead of waiting for the next attempt, even after a refusal. */
  retry(): void {
    this.#line.retry();
  }

  /** Listens to an event of the server. Returns a function that removes the listener. */
  on<Name extends keyof Server & string>(name: Name, listener: Server[Name]): () => void {
    return this.#line.on(name, listener as (...args: never[]) => void);
  }

  /** Listens to an event of the manager itself. Returns a function that removes the listener. */
  watch<Name extends keyof ManagerEvents>(name: Name, listener: ManagerEvents[Name]): () => void {
    return this.#events.on(name, listener as never);
  }

  /**
   * Sends a request now. Rejects with a `RequestError`, with `DISCONNECTED` if there is no
   * connection.
   */
  request<Name extends keyof Client & string>(
    name: Name,
    ...args: WithPayload<Client[Name]["payload"], [timeout?: number]>
  ): Promise<Client[Name]["answer"]>;
  request(name: string, payload?: unknown, timeout?: number): Promise<unknown> {
    return this.#line.request(name, payload, timeout);
  }

  /** Sends an event if there is a connection, without waiting for an answer. */
  emit<Name extends keyof Client & string>(name: Name, ...args: WithPayload<Client[Name]["payload"], []>): void;
  emit(name: string, payload?: unknown): void {
    this.#line.emit(name, payload);
  }

  /**
   * Queues a request, which is sent in order until the server answers. Throws `QUEUE_FULL` if the
   * queue is full.
   */
  send<Name extends keyof Client & string>(
    name: Name,
    payload: Client[Name]["payload"] & object,
  ): Sent<Client[Name]["answer"]> {
    return this.queue.add(name, payload as Record<string, unknown>);
  }

  /**
   * Returns a conversation, which is joined now and after each reconnect. The same id returns the
   * same object. The conversation that was requested last is joined first after a reconnect.
   */
  conversation(id: string, { background = false, ...options }: ConversationOptions = {}): Conversation {
    const known = this.#conversations.get(id);
    const conversation = known ?? new Conversation(id, options, this.#line, this.queue, this.#note);
    if (background) this.#conversations.set(id, conversation);
    else this.#conversations = new Map([[id, conversation], ...this.#conversations]);
    // Lets the caller add listeners before the join.
    queueMicrotask(() => {
      const { stage } = conversation;
      if (!this.isReady || this.#conversations.get(id) !== conversation || stage === "entering" || stage === "entered") return;
      if (background) this.#joins.take(conversation);
      else this.#joins.hurry(conversation);
    });
    return conversation;
  }

  /** Leaves a conversation and discards its state. */
  leaveConversation(id: string): void {
    const conversation = this.#conversations.get(id);
    if (conversation !== undefined) this.#joins.drop(conversation);
    conversation?.wait();
    if (this.#conversations.delete(id)) this.#line.release("leave_conversation", { conversationId: id });
  }

  /**
   * Makes a request now and after each reconnect. Returns a function that ends the subscription.
   * The payload is optional if the event takes none.
   */
  subscribe<Name extends keyof Client & string>(
    event: Name,
    ...args: WithPayload<Client[Name]["payload"], [options?: SubscriptionOptions<Client[Name]["answer"], keyof Client & string>]>
  ): () => void;
  subscribe(event: string, payload: unknown = {}, options: SubscriptionOptions<never> = {}): () => void {
    const subscription = new Subscription(event, payload, options, this.#line, this.#note);
    this.#subscriptions.add(subscription);
    if (this.isReady) subscription.begin();
    return () => {
      if (this.#subscriptions.delete(subscription)) subscription.stop();
    };
  }

  #follow(): void {
    const line = this.#line;
    line.watch("ready", () => this.#begin());
    line.watch("lost", () => this.#end());
    line.watch("changed", () => this.#handleChange());
    line.on("message", (message: Message, confirm?: () => void) => {
      if (typeof confirm === "function") confirm();
      this.#conversations.get(message?.conversationId)?.receive(message);
    });
    for (const [name, handler] of Object.entries(HANDLERS)) {
      line.on(name, (event: Addressed) => {
        const conversation = this.#conversations.get((event?.conversationId ?? event?.conversation?.id) as string);
        conversation?.[handler](event as never);
      });
    }
    line.on("message_delivered", (report: MessageDelivered) => this.#confirmations.handleReport(report));
  }

  #begin(): void {
    const userId = this.session?.userId ?? this.#identity ?? "";
    // One user must not see the content of another. Without a key, a guest has a new id with each
    // connection.
    const reader = this.session?.guest ? "guest" : userId;
    if ((this.#reader ??= reader) !== reader) for (const conversation of this.#conversations.values()) conversation.forget(true);
    this.#reader = reader;
    // Joins precede the queue, so that missed messages arrive before the answers to queued
    // messages.
    for (const conversation of this.#conversations.values()) this.#joins.take(conversation);
    for (const subscription of this.#subscriptions) subscription.begin();
    void this.queue.begin(this.#identity ?? userId, userId);
  }

  #end(): void {
    this.#joins.clear();
    for (const conversation of this.#conversations.values()) conversation.wait();
    for (const subscription of this.#subscriptions) subscription.wait();
    this.queue.end();
  }

  #handleChange(): void {
    const { status, session } = this.#line;
    const [previousStatus, previousSession] = [this.#status, this.#session];
    this.#status = status;
    this.#session = session;
    if (session !== previousSession) this.#events.emit("session", session);
    if (status !== previousStatus) this.#events.emit("status", status);
  }

  #handleEntry(entry: Entry): void {
    if (entry.state === "stored") this.#handleStored(entry);
    this.#events.emit("entry", entry);
  }

  #handleStored(entry: Entry): void {
    const message = (entry.answer as { message?: Message } | undefined)?.message;
    if (entry.event !== "message" || message === undefined) return;
    this.#conversations.get(message.conversationId)?.receive(message);
    if (entry.payload["confirmDelivery"] === true) this.#confirmations.handleStored(message.id, entry);
  }
}
