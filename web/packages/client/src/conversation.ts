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

/** The largest page the server gives. */
const CATCH_UP_PAGE = 200;
/** What was missed beyond this is not caught up on: `reset` begins anew with the newest page. */
const CATCH_UP_PAGES = 10;
/** A hole in `seq` usually closes by itself: the missing message is just behind. */
const HOLE_PATIENCE = 1_000;
/** More messages behind a hole are not kept; they are read again when it is filled. */
const MAX_AHEAD = 1_000;
/** The number of messages that are retained for listeners that are added later. */
const MAX_RETAINED = 1_000;

export interface ConversationEvents {
  /** Messages that follow all before, in order of `seq`, each once, without a hole: live, sent or caught up on. */
  messages: (messages: readonly Message[]) => void;
  /**
   * What was given before does not go on: here is the newest page, and whether there are older messages. A listener that is added
   * later gets what is retained.
   */
  reset: (newest: readonly Message[], hasOlder: boolean) => void;
  stage: (stage: Stage) => void;
  /** Who is there, as told when joining. */
  users: (users: readonly PresentUser[]) => void;
  /** All that the server says of it when it is joined, again after each reconnect. */
  joined: (answer: Joined) => void;
  /** Joining has failed and is tried again. */
  failed: (failure: Failure) => void;
  /** The server cannot read what is missing, or it can again. */
  interrupted: (isInterrupted: boolean) => void;
}

/** `waiting` for a connection, `entering`, `entered`, or `absent`: the conversation is none, or not ours. */
export type Stage = "waiting" | "entering" | "entered" | "absent";

export interface ConversationOptions {
  /** Where to go on: the highest `seq` that was processed. Without it, the newest page comes first. */
  since?: number;
  /** How many messages the newest page has. Default 50. */
  page?: number;
  /**
   * It may wait for its turn: of those that are asked for like that, and of all after a reconnect, 20 are joined at once
   * and one every two seconds after that. Asked for again without it, it is joined at once.
   */
  background?: boolean;
}

/** One conversation, joined again after each reconnect and kept complete. */
export class Conversation {
  readonly id: string;
  #stage: Stage = "waiting";
  #isInterrupted = false;
  /** The newest messages that were given, for listeners that are added later. */
  #content: readonly Message[] = [];
  /** Whether there are messages before the content; `undefined` while it goes back to `since`. */
  #hasOlder: boolean | undefined;
  /** What listeners that are added later get, by event. */
  #retained: { [Name in keyof ConversationEvents]?: readonly unknown[] } = {};
  /** Whether messages of the content may have changed since they were given. */
  #isStale = false;
  /** The request for changed messages of the content, while there is one. */
  #renewal: Promise<boolean> | undefined;
  /** The newest message that was given, all before it having been given too. */
  #last: { seq: number; id?: string } | undefined;
  /** What has come and waits for a message before it. */
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

  /** The highest `seq` up to which everything was given; keep it to go on from there on another visit. */
  get lastSeq(): number | undefined {
    return this.#last?.seq;
  }

  /**
   * Adds a listener and returns a function that removes it. A listener that is added after the event, such as that of a component
   * that is mounted again, is called immediately: of `reset` with the newest 1,000 messages, of `joined` and `users` with the newest.
   * With `since`, and until a first `reset`, it is the listener of `messages` that gets all since then.
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

  /** Sends a message, now or when that is possible; throws if the queue is full. */
  send(content: string, options: Omit<SendMessage, "conversationId" | "content" | "clientMessageId"> = {}): Sent<{ message: Message }> {
    return this.#queue.add("message", { conversationId: this.id, content, ...options });
  }

  history(bounds: { beforeSeq?: number; afterSeq?: number; limit?: number }): Promise<Page> {
    return this.#ask("message_history", { conversationId: this.id, ...bounds });
  }

  /** Enters after each connect, again and again until it has worked. */
  enter(): Promise<void> {
    this.wait();
    const enter = async (isCurrent: IsCurrent) => {
      this.#set("entering");
      await this.#join(isCurrent);
      if (!isCurrent()) return;
      this.#set("entered");
      // What has come since the last look waits to be given.
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

  /** The connection is gone. */
  wait(): void {
    this.#effort.end();
    clearTimeout(this.#holeTimer);
    this.#holeTimer = undefined;
    delete this.#retained.users;
    this.#interrupt(false);
    if (this.#stage !== "absent") this.#set("waiting");
  }

  /** The title or members have changed, or an interruption has ended. */
  handleUpdated(): void {
    // A user who was not admitted may be a member now.
    if (this.#stage === "absent") void this.enter();
    if (!this.#isInterrupted) return;
    this.#interrupt(false);
    this.#fill();
  }

  /** There is no such conversation any more, or it is not ours. */
  handleDeleted(): void {
    this.forget();
    this.wait();
    this.#set("absent");
  }

  /** The server emits nothing until it can read what is missing. */
  handleInterrupted(): void {
    if (this.#stage !== "entered") return;
    this.#interrupt(true);
    this.#fill();
  }

  handlePresence({ users }: Presence): void {
    this.#retained.users = [users];
  }

  /** A message was edited, deleted or reacted to. */
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

  /** Discards what is retained. With `all`, what comes next does not follow it. */
  forget(all = false): void {
    this.#hasOlder = this.#content.length > 0 || this.#hasOlder;
    this.#content = [];
    this.#retained = {};
    if (all) this.#last = undefined;
  }

  /** A message has come, by whatever way. */
  receive(message: Message): void {
    if (this.#last !== undefined && message.seq <= this.#last.seq) return;
    if (this.#ahead.size < MAX_AHEAD) this.#ahead.set(message.seq, message);
    // While entering, what came before is on its way.
    if (this.#stage === "entered" && !this.#isCatchingUp) this.#advance();
  }

  async #join(isCurrent: IsCurrent): Promise<void> {
    const known = this.#last;
    // One message more than needed: it proves that this is still the same history.
    const lastSeq = known === undefined ? {} : { lastSeq: known.id === undefined ? known.seq : known.seq - 1 };
    const answer = await this.#ask("join_conversation", { conversationId: this.id, ...lastSeq });
    if (!isCurrent()) return;
    const { users, messages, hasMore } = answer;
    this.#tell("joined", answer);
    this.#tell("users", users);
    this.#isStale = this.#content.length > 0;
    const isSame = known !== undefined && (known.id === undefined || messages[0]?.id === known.id);
    if (!isSame) return this.#readNewest(isCurrent);
    this.#give(messages);
    if (hasMore) await this.#catchUp(isCurrent);
    this.#advance();
  }

  /** Reads on until nothing is missing. */
  async #catchUp(isCurrent: IsCurrent): Promise<void> {
    this.#isCatchingUp = true;
    try {
      for (let page = 0; page < CATCH_UP_PAGES; page += 1) {
        const { messages, hasMore } = await this.history({ afterSeq: this.#last?.seq ?? 0, limit: CATCH_UP_PAGE });
        if (!isCurrent()) return;
        this.#give(messages);
        if (!hasMore) return;
      }
      await this.#readNewest(isCurrent);
    } finally {
      this.#isCatchingUp = false;
    }
  }

  async #readNewest(isCurrent: IsCurrent): Promise<void> {
    // What was ahead of the former history is on the newest page, or comes after it.
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

  /** Gives messages that the server says follow: what is not among them is not there any more. */
  #give(messages: readonly Message[]): void {
    const last = this.#last?.seq ?? 0;
    const following = inOrder(messages).filter(({ seq }) => seq > last);
    const newest = following.at(-1);
    if (newest === undefined) return;
    this.#last = { seq: newest.seq, id: newest.id };
    this.#retain([...this.#content, ...following]);
    this.#events.emit("messages", following);
  }

  /** Gives what has come and follows, and sees to what is missing. */
  #advance(): void {
    const following: Message[] = [];
    let last = this.#last?.seq ?? 0;
    for (const seq of this.#ahead.keys()) if (seq <= last) this.#ahead.delete(seq);
    for (let next = this.#ahead.get(last + 1); next !== undefined; next = this.#ahead.get(last + 1)) {
      this.#ahead.delete(next.seq);
      following.push(next);
      last = next.seq;
    }
    this.#give(following);
    if (this.#ahead.size > 0 || this.#isInterrupted) this.#watchHole();
  }

  #watchHole(): void {
    this.#holeTimer ??= setTimeout(() => {
      this.#holeTimer = undefined;
      if (this.#stage !== "entered" || (this.#ahead.size === 0 && !this.#isInterrupted)) return;
      this.#note("hole", `${this.id} after ${this.#last?.seq}`);
      this.#fill();
    }, HOLE_PATIENCE);
  }

  /** Reads what is missing, again and again until it has worked. */
  #fill(): void {
    void this.#effort.begin(
      async (isCurrent) => {
        await this.#catchUp(isCurrent);
        if (isCurrent()) this.#advance();
      },
      () => true,
    );
  }

  /** Reads the newest page again, for what has changed in the content; returns whether that has worked. */
  async #renew(): Promise<boolean> {
    try {
      this.#isStale = false;
      const { messages } = await this.history({ limit: this.#page });
      // It may have been discarded since.
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

  /** Calls listeners, also those that are added later. */
  #tell<Name extends "joined" | "users">(name: Name, ...args: Parameters<ConversationEvents[Name]>): void {
    this.#retained[name] = args;
    this.#events.emit(name, ...(args as never));
  }

  #interrupt(isInterrupted: boolean): void {
    if (isInterrupted === this.#isInterrupted) return;
    this.#isInterrupted = isInterrupted;
    this.#events.emit("interrupted", isInterrupted);
  }

  #ask<Name extends keyof Requests>(name: Name, payload: Requests[Name]["payload"]): Promise<Requests[Name]["answer"]> {
    return this.#line.ask(name, payload) as Promise<Requests[Name]["answer"]>;
  }

  #set(stage: Stage): void {
    if (stage === this.#stage) return;
    this.#stage = stage;
    this.#events.emit("stage", stage);
  }
}

/** The messages of a page, each once and in order, also where a server does not keep to that. */
function inOrder(messages: readonly Message[]): Message[] {
  return messages.toSorted((one, other) => one.seq - other.seq).filter(({ seq }, index, all) => seq !== all[index - 1]?.seq);
}
