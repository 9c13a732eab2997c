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
import { Turns } from "./turns.ts";
import type { Message, MessageDelivered, Requests, ServerToClientEvents, Session } from "./types.ts";

export interface SocketManagerOptions {
  /** What is sent with each CONNECT, or how to get it. Default `{}`. */
  auth?: Auth | AuthProvider;
  /**
   * Under which name the queue is kept. With it, what was written before the first session survives a reload.
   * Default: the `userId` of the session.
   */
  identity?: string;
  /** Where the queue is kept. Default: IndexedDB where there is one, memory elsewhere. */
  storage?: QueueStorage;
  /** Default 1,000 entries and 4 MiB. */
  limits?: Partial<QueueLimits>;
  /** The field of what is queued that takes the id of the entry. Default `clientMessageId`. */
  idField?: string;
  /** The event by which the server says who we are, or `false` if it has none. Default `session`. */
  sessionEvent?: string | false;
  /** One connection for several tabs: `shareConnection(name)` of `@roomcast/client/share`. Default: every tab has its own. */
  share?: Share;
  /** How many entries the log has. Default 200. */
  logSize?: number;
  /** Options of the official client. */
  socket?: Partial<EngineOptions & SocketOptions>;
}

/** What happens to the manager itself. */
export interface ManagerEvents {
  status: (status: Status) => void;
  session: (session: Session | undefined) => void;
  /** An entry of the queue is new or has changed; `stored` and discarded ones are not in the queue any more. */
  entry: (entry: Entry) => void;
  /** The server's report on a message with `confirmDelivery`. */
  delivered: (entry: Entry, report: MessageDelivered) => void;
  log: (entry: LogEntry) => void;
}

/** An event of one conversation. */
type Addressed = { conversationId?: string; conversation?: { id: string } } | undefined;

/** What a conversation does with its events. */
const HANDLERS = {
  conversation_updated: "handleUpdated",
  conversation_deleted: "handleDeleted",
  "conversation:interrupted": "handleInterrupted",
  presence: "handlePresence",
  message_edited: "handleChange",
  message_deleted: "handleChange",
  message_reaction: "handleChange",
} as const;

/** The payload of an event, which may be left out if the event takes none, and what follows it. */
type WithPayload<Payload, More extends unknown[]> = undefined extends Payload ? [payload?: Payload, ...More] : [payload: Payload, ...More];

/** A connection that comes back by itself, with all that was asked of it. */
export class SocketManager<Server = ServerToClientEvents, Client extends { [Name in keyof Client]: { payload: unknown; answer: unknown } } = Requests> {
  readonly queue: Queue;
  readonly #line: Line;
  readonly #tabs = new Tabs();
  #log: readonly LogEntry[] = [];
  readonly #events = new Emitter<ManagerEvents>();
  #conversations = new Map<string, Conversation>();
  /** Joining is limited by the server: a user with many conversations and tabs would be refused by it. */
  readonly #turns = new Turns<Conversation>((conversation) => void conversation.enter());
  readonly #subscriptions = new Set<Subscription>();
  readonly #confirmations = new Confirmations((entry, report) => this.#events.emit("delivered", entry, report));
  readonly #identity: string | undefined;
  readonly #note: Note;
  /** Who has read the content of the conversations. */
  #reader: string | undefined;
  #status: Status = { state: "idle" };
  #session: Session | undefined;

  /** `url` is where the page comes from if it is not said. */
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
      ask: (event, payload) => this.#line.ask(event, payload),
      changed: (entry) => this.#handleEntry(entry),
      note,
    });
    if (this.#identity !== undefined) void this.queue.open(this.#identity);
    this.#follow();
  }

  get status(): Status {
    return this.#line.status;
  }

  /** Who the server says we are. */
  get session(): Session | undefined {
    return this.#line.session;
  }

  /** Whether requests are sent now. */
  get isReady(): boolean {
    return this.#line.isReady;
  }

  /** Whether this tab has the connection; others use it with `share`. */
  get isLeader(): boolean {
    return this.#line.isLeader ?? true;
  }

  get log(): readonly LogEntry[] {
    return this.#log;
  }

  open(): void {
    this.#line.open();
  }

  /** Ends the connection; what waits is kept. `open` begins again. */
  close(): void {
    this.#line.close();
  }

  /** Closes for good: what waits is left to other tabs and later visits of the same user. */
  leave(): void {
    this.close();
    this.#tabs.leave();
  }

  /** Tries at once instead of waiting for the next attempt, also after a refusal. */
  retry(): void {
    this.#line.retry();
  }

  /** Listens to an event of the server; what is returned ends that. */
  on<Name extends keyof Server & string>(name: Name, listener: Server[Name]): () => void {
    return this.#line.on(name, listener as (...args: never[]) => void);
  }

  /** Listens to what happens to the manager itself; what is returned ends that. */
  watch<Name extends keyof ManagerEvents>(name: Name, listener: ManagerEvents[Name]): () => void {
    return this.#events.on(name, listener as never);
  }

  /** Asks the server now; rejects with a `RequestError`, with `DISCONNECTED` if there is no connection. */
  request<Name extends keyof Client & string>(
    name: Name,
    ...args: WithPayload<Client[Name]["payload"], [timeout?: number]>
  ): Promise<Client[Name]["answer"]>;
  request(name: string, payload?: unknown, timeout?: number): Promise<unknown> {
    return this.#line.ask(name, payload, timeout);
  }

  /** Sends an event if there is a connection; nobody waits for an answer. */
  tell<Name extends keyof Client & string>(name: Name, ...args: WithPayload<Client[Name]["payload"], []>): void;
  tell(name: string, payload?: unknown): void {
    this.#line.tell(name, payload);
  }

  /** Sends now or when that is possible, in order, until the server answers; throws `QUEUE_FULL` if there is no room. */
  send<Name extends keyof Client & string>(
    name: Name,
    payload: Client[Name]["payload"] & object,
  ): Sent<Client[Name]["answer"]> {
    return this.queue.add(name, payload as Record<string, unknown>);
  }

  /**
   * A conversation that is joined now and after each reconnect; the same object for the same id. The one that was
   * asked for last is the first to be joined after a reconnect.
   */
  conversation(id: string, { background = false, ...options }: ConversationOptions = {}): Conversation {
    const known = this.#conversations.get(id);
    const conversation = known ?? new Conversation(id, options, this.#line, this.queue, this.#note);
    if (background) this.#conversations.set(id, conversation);
    else this.#conversations = new Map([[id, conversation], ...this.#conversations]);
    // Whoever asks for it listens first.
    queueMicrotask(() => {
      const { stage } = conversation;
      if (!this.isReady || this.#conversations.get(id) !== conversation || stage === "entering" || stage === "entered") return;
      if (background) this.#turns.take(conversation);
      else this.#turns.hurry(conversation);
    });
    return conversation;
  }

  /** Leaves a conversation and forgets it. */
  leaveConversation(id: string): void {
    const conversation = this.#conversations.get(id);
    if (conversation !== undefined) this.#turns.drop(conversation);
    conversation?.wait();
    if (this.#conversations.delete(id)) this.#line.release("leave_conversation", { conversationId: id });
  }

  /** Makes a request now and after each reconnect; what is returned ends it. The payload may be left out where the event takes none. */
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
    // What one user has read is not for another. Without a key, a guest has another id with each connection.
    const reader = this.session?.guest ? "guest" : userId;
    if ((this.#reader ??= reader) !== reader) for (const conversation of this.#conversations.values()) conversation.forget(true);
    this.#reader = reader;
    // Joining goes first: the answers to what was sent before come after what was missed.
    for (const conversation of this.#conversations.values()) this.#turns.take(conversation);
    for (const subscription of this.#subscriptions) subscription.begin();
    void this.queue.begin(this.#identity ?? userId, userId);
  }

  #end(): void {
    this.#turns.clear();
    for (const conversation of this.#conversations.values()) conversation.wait();
    for (const subscription of this.#subscriptions) subscription.wait();
    this.queue.end();
  }

  #handleChange(): void {
    const { status, session } = this.#line;
    const [before, said] = [this.#status, this.#session];
    this.#status = status;
    this.#session = session;
    if (session !== said) this.#events.emit("session", session);
    if (status !== before) this.#events.emit("status", status);
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
