import { Emitter } from "./emitter.ts";
import { Effort } from "./effort.ts";
import { DISCONNECTED, type Failure } from "./failure.ts";
import type { Line } from "./line/line.ts";
import type { Note } from "./log.ts";
import type { Queue, Sent } from "./queue/queue.ts";
import type { Joined, Message, Page, PresentUser, Requests, SendMessage } from "./types.ts";

type IsCurrent = () => boolean;

/** The largest page the server gives. */
const CATCH_UP_PAGE = 200;
/** What was missed beyond this is not caught up on: `reset` begins anew with the newest page. */
const CATCH_UP_PAGES = 10;
/** A hole in `seq` usually closes by itself: the missing message is just behind. */
const HOLE_PATIENCE = 1_000;
/** More messages behind a hole are not kept; they are read again when it is filled. */
const MAX_AHEAD = 1_000;

export interface ConversationEvents {
  /** Messages that follow all before, in order of `seq`, each once, without a hole: live, sent or caught up on. */
  messages: (messages: readonly Message[]) => void;
  /** What was given before does not go on: here is the newest page, and whether there are older messages. */
  reset: (newest: readonly Message[], hasOlder: boolean) => void;
  stage: (stage: Stage) => void;
  /** Who is there, as told when joining. */
  users: (users: readonly PresentUser[]) => void;
  /** All that the server says of it when it is joined, again after each reconnect. */
  joined: (answer: Joined) => void;
  /** Joining has failed and is tried again. */
  failed: (failure: Failure) => void;
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

  /** The highest `seq` up to which everything was given; keep it to go on from there on another visit. */
  get lastSeq(): number | undefined {
    return this.#last?.seq;
  }

  on<Name extends keyof ConversationEvents>(name: Name, listener: ConversationEvents[Name]): () => void {
    return this.#events.on(name, listener as never);
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
      if (isAbsent) this.#set("absent");
      else if (failure.code !== DISCONNECTED) this.#events.emit("failed", failure);
      return !isAbsent;
    });
  }

  /** The connection is gone. */
  wait(): void {
    this.#effort.end();
    clearTimeout(this.#holeTimer);
    this.#holeTimer = undefined;
    if (this.#stage !== "absent") this.#set("waiting");
  }

  /** Its title or members have changed: who was not let in may be a member now. */
  handleUpdated(): void {
    if (this.#stage === "absent") void this.enter();
  }

  /** There is no such conversation any more. */
  handleDeleted(): void {
    this.wait();
    this.#set("absent");
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
    this.#events.emit("joined", answer);
    this.#events.emit("users", users);
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
    if (this.#ahead.size > 0) this.#watchHole();
  }

  #watchHole(): void {
    this.#holeTimer ??= setTimeout(() => {
      this.#holeTimer = undefined;
      if (this.#stage !== "entered" || this.#ahead.size === 0) return;
      this.#note("hole", `${this.id} after ${this.#last?.seq}`);
      void this.#effort.begin(
        async (isCurrent) => {
          await this.#catchUp(isCurrent);
          if (isCurrent()) this.#advance();
        },
        () => true,
      );
    }, HOLE_PATIENCE);
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
