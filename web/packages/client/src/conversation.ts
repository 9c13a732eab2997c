import { Emitter, call } from "./emitter.ts";
import { Effort } from "./effort.ts";
import { DISCONNECTED, type Failure, asFailure } from "./failure.ts";
import type { Line } from "./line/line.ts";
import type { Note } from "./log.ts";
import type { Queue, Sent } from "./queue/queue.ts";
import type { Joined, Message, MessageDeleted, Page, Presence, PresentUser, Requests, SendMessage } from "./types.ts";

type IsCurrent = () => boolean;

/** `message_edited`, `message_deleted` or `message_reaction`. */
export type MessageChange = Partial<Message & MessageDeleted>;

/** The largest page that the server returns. */
const CATCH_UP_PAGE = 200;
/** If more pages are missing, `reset` restarts at the newest page. */
const CATCH_UP_PAGES = 10;
/**
 * Delay in milliseconds before a hole in `seq` is filled by a request. Usually the missing message
 * arrives shortly after.
 */
const HOLE_TIMEOUT = 1_000;
/**
 * Maximum number of messages that are buffered after a hole. Further ones are read again when it is
 * filled.
 */
const MAX_AHEAD = 1_000;
/** The number of messages that are retained for listeners that are added later. */
const MAX_RETAINED = 1_000;

export interface ConversationEvents {
  /**
   * New messages in order of `seq`, each once and without a hole: received live, sent by this tab,
   * or caught up on.
   */
  messages: (messages: readonly Message[]) => void;
  /**
   * Restarts the conversation at its newest page, which does not follow the messages emitted
   * before. `hasOlder` is whether older messages exist. A listener that is added later receives the
   * retained messages.
   */
  reset: (newest: readonly Message[], hasOlder: boolean) => void;
  stage: (stage: Stage) => void;
  /** The present users, as the server lists them at the join. */
  users: (users: readonly PresentUser[]) => void;
  /** The server's answer to the join, again after each reconnect. */
  joined: (answer: Joined) => void;
  /** The join has failed and is retried. */
  failed: (failure: Failure) => void;
  /** Whether the server is currently unable to read missing messages. */
  interrupted: (isInterrupted: boolean) => void;
}

/**
 * `waiting` for a connection, `entering`, `entered`, or `absent` if the conversation does not exist
 * or the user is not a member.
 */
export type Stage = "waiting" | "entering" | "entered" | "absent";

export interface ConversationOptions {
  /**
   * The highest `seq` that was processed: only later messages are emitted. Without it, the newest
   * page is emitted first.
   */
  since?: number;
  /** Number of messages in the newest page. Default 50. */
  page?: number;
  /**
   * Whether the join may be delayed. 20 background conversations, or conversations after a
   * reconnect, are joined immediately, and one every two seconds after that. A later call without
   * `background` joins the conversation immediately.
   */
  background?: boolean;
}

/**
 * One conversation. It is joined again after each reconnect, and missed messages are read from the
 * history.
 */
export class Conversation {
  readonly id: string;
  #stage: Stage = "waiting";
  #isInterrupted = false;
  /** The newest emitted messages, for listeners that are added later. */
  #content: readonly Message[] = [];
  /**
   * Whether messages before the content exist; `undefined` while the content goes back to `since`.
   */
  #hasOlder: boolean | undefined;
  /** The latest arguments of each event, for listeners that are added later. */
  #retained: { [Name in keyof ConversationEvents]?: readonly unknown[] } = {};
  /** Whether messages of the content may have changed since they were emitted. */
  #isStale = false;
  /** The current request for changed messages of the content. */
  #renewal: Promise<boolean> | undefined;
  /** The newest emitted message. All messages before it were emitted. */
  #last: { seq: number; id?: string } | undefined;
  /** Received messages that wait for a message before them. */
  readonly #ahead = new Map<number, Message>();
  #isCatchingUp = false;
  #holeTimer: ReturnType<typeof setTimeout> | undefined;
  readonly #effort = new Effort();
  readonly #events = new Emitter<ConversationEvents>();
  readonly #page: number;
  readonly #line: Line;
  readonly #queue: Queue;
  readonly #note: Note;

  constructor(id: string, { since, page = 50 }: ConversationOptions, line: Line, queue: Queue, note: Note) {
    this.id = id;
    this.#page = page;
    this.#line = line;
    this.#queue = queue;
    this.#note = note;
    if (since !== undefined) this.#last = { seq: since };
  }

  get stage(): Stage {
    return this.#stage;
  }

  /** Whether messages are missing that the server cannot read at the moment. */
  get isInterrupted(): boolean {
    return this.#isInterrupted;
  }

  /**
   * The highest `seq` up to which all messages were emitted. Pass it as `since` to continue from
   * there on a later visit.
   */
  get lastSeq(): number | undefined {
    return this.#last?.seq;
  }

  /**
   * Adds a listener and returns a function that removes it. A listener that is added after the
   * event, such as that of a component that is mounted again, is called immediately: for `reset`
   * with the newest 1,000 messages, for `joined` and `users` with the latest values. With `since`,
   * and until the first `reset`, a listener of `messages` receives all messages since then.
   */
  on<Name extends keyof ConversationEvents>(name: Name, listener: ConversationEvents[Name]): () => void {
    const end = this.#events.on(name, listener as never);
    const give = () => {
      const retained = this.#retained[name];
      if (retained) call(listener, retained);
    };
    give();
    if (name !== "reset" || !this.#retained.reset || (!this.#isStale && !this.#renewal)) return end;
    let isAdded = true;
    this.#renewal ??= this.#renew().finally(() => (this.#renewal = undefined));
    void this.#renewal.then((isRenewed) => isRenewed && isAdded && give());
    return () => {
      isAdded = false;
      end();
    };
  }

  /** Queues a message. Throws a `RequestError` with `QUEUE_FULL` if the queue is full. */
  send(content: string, options: Omit<SendMessage, "conversationId" | "content" | "clientMessageId"> = {}): Sent<{ message: Message }> {
    return this.#queue.add("message", { conversationId: this.id, content, ...options });
  }

  history(bounds: { beforeSeq?: number; afterSeq?: number; limit?: number }): Promise<Page> {
    return this.#request("message_history", { conversationId: this.id, ...bounds });
  }

  /** Joins the conversation, with retries until it succeeds. Called after each connect. */
  enter(): Promise<void> {
    this.wait();
    const enter = async (isCurrent: IsCurrent) => {
      this.#set("entering");
      await this.#join(isCurrent);
      if (!isCurrent()) return;
      this.#set("entered");
      // Messages may have arrived since `#join` has emitted the last ones.
      this.#advance();
    };
    return this.#effort.begin(enter, (failure) => {
      this.#note("join failed", failure.code);
      const isAbsent = failure.code === "NOT_FOUND" || failure.code === "FORBIDDEN";
      if (isAbsent) this.handleDeleted();
      else if (failure.code !== DISCONNECTED) this.#events.emit("failed", failure);
      return !isAbsent;
    });
  }

  /** Stops all requests after the connection is lost. */
  wait(): void {
    this.#effort.end();
    clearTimeout(this.#holeTimer);
    this.#holeTimer = undefined;
    delete this.#retained.users;
    this.#interrupt(false);
    if (this.#stage !== "absent") this.#set("waiting");
  }

  /** Handles a change of the title or the members, or the end of an interruption. */
  handleUpdated(): void {
    // A user who was not admitted may be a member now.
    if (this.#stage === "absent") void this.enter();
    if (!this.#isInterrupted) return;
    this.#interrupt(false);
    this.#fill();
  }

  /** Handles that the conversation was deleted, or that the user is no longer a member. */
  handleDeleted(): void {
    this.forget();
    this.wait();
    this.#set("absent");
  }

  /** Handles an interruption: the server emits no messages until it can read the missing ones. */
  handleInterrupted(): void {
    if (this.#stage !== "entered") return;
    this.#interrupt(true);
    this.#fill();
  }

  handlePresence({ users }: Presence): void {
    this.#retained.users = [users];
  }

  /** Updates the content after a message was edited, deleted or reacted to. */
  handleChange(change: MessageChange): void {
    if (this.#content.length === 0) return;
    this.#isStale = true;
    const { id, messageId = id, deletedAt, version = 0 } = change;
    const content = this.#content.map((known) => {
      if (known.id !== messageId || known.deletedAt) return known;
      if (deletedAt) return { ...known, content: "", reactions: [], deletedAt };
      return version > known.version ? (change as Message) : known;
    });
    this.#retain(content);
  }

  /** Discards the retained messages. With `all`, the next messages do not follow them. */
  forget(all = false): void {
    this.#hasOlder = this.#content.length > 0 || this.#hasOlder;
    this.#content = [];
    this.#retained = {};
    if (all) this.#last = undefined;
  }

  /** Takes a message, received live or as an answer. */
  receive(message: Message): void {
    if (this.#last !== undefined && message.seq <= this.#last.seq) return;
    if (this.#ahead.size < MAX_AHEAD) this.#ahead.set(message.seq, message);
    // While the conversation is being joined, the messages before this one are still on their way.
    if (this.#stage === "entered" && !this.#isCatchingUp) this.#advance();
  }

  async #join(isCurrent: IsCurrent): Promise<void> {
    const known = this.#last;
    // Requests one message more than needed, to verify that the history is still the same.
    const lastSeq = known === undefined ? {} : { lastSeq: known.id === undefined ? known.seq : known.seq - 1 };
    const answer = await this.#request("join_conversation", { conversationId: this.id, ...lastSeq });
    if (!isCurrent()) return;
    const { users, messages, hasMore } = answer;
    this.#emitRetained("joined", answer);
    this.#emitRetained("users", users);
    this.#isStale = this.#content.length > 0;
    const isSame = known !== undefined && (known.id === undefined || messages[0]?.id === known.id);
    if (!isSame) return this.#readNewest(isCurrent);
    this.#emitFollowing(messages);
    if (hasMore) await this.#catchUp(isCurrent);
    this.#advance();
  }

  /** Reads pages until no message is missing. */
  async #catchUp(isCurrent: IsCurrent): Promise<void> {
    this.#isCatchingUp = true;
    try {
      for (let page = 0; page < CATCH_UP_PAGES; page += 1) {
        const { messages, hasMore } = await this.history({ afterSeq: this.#last?.seq ?? 0, limit: CATCH_UP_PAGE });
        if (!isCurrent()) return;
        this.#emitFollowing(messages);
        if (!hasMore) return;
      }
      await this.#readNewest(isCurrent);
    } finally {
      this.#isCatchingUp = false;
    }
  }

  async #readNewest(isCurrent: IsCurrent): Promise<void> {
    // Buffered messages of the previous history are on the newest page, or arrive after it.
    if (this.#last !== undefined) this.#ahead.clear();
    const page = await this.history({ limit: this.#page });
    if (!isCurrent()) return;
    const messages = inOrder(page.messages);
    this.#note("reset", `${this.id} ${this.#last?.seq ?? ""}`);
    const newest = messages.at(-1);
    this.#last = newest === undefined ? { seq: 0 } : { seq: newest.seq, id: newest.id };
    this.#isStale = false;
    this.#retain(messages, page.hasMore);
    this.#events.emit("reset", messages, page.hasMore);
    this.#advance();
  }

  /**
   * Emits messages that follow the last one according to the server. Missing numbers between them
   * no longer exist.
   */
  #emitFollowing(messages: readonly Message[]): void {
    const last = this.#last?.seq ?? 0;
    const following = inOrder(messages).filter(({ seq }) => seq > last);
    const newest = following.at(-1);
    if (newest === undefined) return;
    this.#last = { seq: newest.seq, id: newest.id };
    this.#retain([...this.#content, ...following]);
    this.#events.emit("messages", following);
  }

  /** Emits buffered messages up to the first hole, and schedules a request for the missing ones. */
  #advance(): void {
    const following: Message[] = [];
    let last = this.#last?.seq ?? 0;
    for (const seq of this.#ahead.keys()) if (seq <= last) this.#ahead.delete(seq);
    for (let next = this.#ahead.get(last + 1); next !== undefined; next = this.#ahead.get(last + 1)) {
      this.#ahead.delete(next.seq);
      following.push(next);
      last = next.seq;
    }
    this.#emitFollowing(following);
    if (this.#ahead.size > 0 || this.#isInterrupted) this.#watchHole();
  }

  #watchHole(): void {
    this.#holeTimer ??= setTimeout(() => {
      this.#holeTimer = undefined;
      if (this.#stage !== "entered" || (this.#ahead.size === 0 && !this.#isInterrupted)) return;
      this.#note("hole", `${this.id} after ${this.#last?.seq}`);
      this.#fill();
    }, HOLE_TIMEOUT);
  }

  /** Reads the missing messages, with retries until it succeeds. */
  #fill(): void {
    void this.#effort.begin(
      async (isCurrent) => {
        await this.#catchUp(isCurrent);
        if (isCurrent()) this.#advance();
      },
      () => true,
    );
  }

  /** Reads the newest page again to update the content. Returns whether this succeeded. */
  async #renew(): Promise<boolean> {
    try {
      this.#isStale = false;
      const { messages } = await this.history({ limit: this.#page });
      // `forget` may have been called since.
      if (!this.#retained.reset) return false;
      const oldest = messages[0]?.seq ?? 0;
      const fresh = new Map(messages.map((message) => [message.id, message]));
      const content = this.#content.filter(({ seq }) => seq >= oldest);
      const renewed = content.map((known) => {
        const message = fresh.get(known.id);
        return !message || known.deletedAt || message.version < known.version ? known : message;
      });
      this.#retain(renewed, content.length < this.#content.length || this.#hasOlder);
      return true;
    } catch (error) {
      asFailure(error);
      this.#isStale = true;
      return false;
    }
  }

  #retain(messages: readonly Message[], hasOlder = this.#hasOlder): void {
    this.#content = messages.slice(-MAX_RETAINED);
    this.#hasOlder = this.#content.length < messages.length || hasOlder;
    if (this.#hasOlder === undefined) this.#retained.messages = [this.#content];
    else {
      delete this.#retained.messages;
      this.#retained.reset = [this.#content, this.#hasOlder];
    }
  }

  /** Calls the listeners, and retains the arguments for later ones. */
  #emitRetained<Name extends "joined" | "users">(name: Name, ...args: Parameters<ConversationEvents[Name]>): void {
    this.#retained[name] = args;
    this.#events.emit(name, ...(args as never));
  }

  #interrupt(isInterrupted: boolean): void {
    if (isInterrupted === this.#isInterrupted) return;
    this.#isInterrupted = isInterrupted;
    this.#events.emit("interrupted", isInterrupted);
  }

  #request<Name extends keyof Requests>(name: Name, payload: Requests[Name]["payload"]): Promise<Requests[Name]["answer"]> {
    return this.#line.request(name, payload) as Promise<Requests[Name]["answer"]>;
  }

  #set(stage: Stage): void {
    if (stage === this.#stage) return;
    this.#stage = stage;
    this.#events.emit("stage", stage);
  }
}

/**
 * Returns the messages of a page in order and without duplicates, even if the server did not
 * guarantee this.
 */
function inOrder(messages: readonly Message[]): Message[] {
  return messages.toSorted((one, other) => one.seq - other.seq).filter(({ seq }, index, all) => seq !== all[index - 1]?.seq);
}
