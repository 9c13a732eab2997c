import { Emitter } from "../emitter.ts";
import { DISCONNECTED, type Failure, RequestError, asFailure, plain } from "../failure.ts";
import { ANSWER_TIMEOUT, IDLE, type Line, type LineState, ObservedLine } from "./line.ts";
import type { Note } from "../log.ts";
import { Tabs } from "../queue/tabs.ts";
import type { SocketLine } from "./socket.ts";
import { randomId, within } from "../time.ts";
import type { ChangedConversation, MarkAsRead, ReadMark, ServerToClientEvents, StoredMessage } from "../types.ts";

/** Interval in milliseconds at which a tab checks the leader. */
const CHECK_INTERVAL = 2_000;
/**
 * After this number of checks without a message from the leader, it counts as frozen and another
 * tab takes over. Checks are counted instead of time: a tab that was frozen itself has not run its
 * checks, and may have unread messages from the leader.
 */
const MAX_MISSED_CHECKS = 3;
/** Milliseconds that a follower waits for an answer in addition to the leader's timeout. */
const ANSWER_MARGIN = 5_000;

/**
 * The events that the server sends to the user's other sockets after requests. `typing` and
 * `notification:ack_all` are missing: their answers do not contain what the server sends.
 */
const ECHOES = new Map<string, keyof ServerToClientEvents>([
  ["message", "message"],
  ["edit_message", "message_edited"],
  ["delete_message", "message_deleted"],
  ["add_reaction", "message_reaction"],
  ["remove_reaction", "message_reaction"],
  ["pin_message", "message_pinned"],
  ["unpin_message", "message_unpinned"],
  ["mark_read", "message_read"],
  ["create_conversation", "conversation_updated"],
  ["rename_conversation", "conversation_updated"],
  ["add_member", "conversation_updated"],
  ["remove_member", "conversation_updated"],
  ["join_invite", "conversation_updated"],
  ["delete_conversation", "conversation_deleted"],
  ["set_notification_level", "notification_level"],
  ["set_status", "status"],
  ["notification:ack", "notification:acked"],
]);

/** A message between tabs. */
type TabMessage =
  | { kind: "hello"; from: string }
  | ({ kind: "state"; from: string } & LineState)
  | { kind: "event"; except?: string; name: string; args: unknown[] }
  | { kind: "ask"; from: string; id: string; name: string; payload: unknown; timeout: number | undefined }
  | { kind: "answer"; to: string; id: string; answer?: unknown; failure?: Failure }
  | { kind: "tell" | "release"; from: string; name: string; payload: unknown }
  | { kind: "retry" };

/** One connection for all tabs. The leader, which is the tab that holds the lock, owns it. */
export class SharedLine extends ObservedLine implements Line {
  /** The identity of this tab, renewed each time the line is opened. */
  #tabs = new Tabs();
  readonly #lock: string;
  readonly #make: () => SocketLine;
  readonly #note: Note;
  readonly #server = new Emitter<Record<string, (...args: never[]) => void>>();
  readonly #pendingRequests = new Map<string, { resolve: (answer: unknown) => void; reject: (error: Error) => void }>();
  /** The open tabs that have sent a message to the leader. */
  readonly #followers = new Set<string>();
  /** The connection, in the leader. */
  #line: SocketLine | undefined;
  #channel: BroadcastChannel | undefined;
  #leader: string | undefined;
  /** Number of checks since the leader's last message. */
  #missedChecks = 0;
  #timer: ReturnType<typeof setInterval> | undefined;
  #resign: (() => void) | undefined;

  constructor(name: string, make: () => SocketLine, note: Note) {
    super();
    this.#lock = `roomcast:leader:${name}`;
    this.#make = make;
    this.#note = note;
  }

  /** Whether this tab owns the connection. */
  get isLeader(): boolean {
    return this.#line !== undefined;
  }

  open(): void {
    if (this.#timer !== undefined) return;
    this.#missedChecks = 0;
    this.#channel = new BroadcastChannel(this.#lock);
    this.#channel.onmessage = ({ data }: MessageEvent<TabMessage>) => this.#handle(data);
    this.become({ ...IDLE, status: { state: "connecting" } });
    this.#requestLock({});
    this.#post({ kind: "hello", from: this.#own });
    this.#timer = setInterval(() => this.#check(), CHECK_INTERVAL);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#tabs.leave();
    this.#tabs = new Tabs();
    this.#stepDown();
    this.become(IDLE);
    this.#channel?.close();
    this.#channel = undefined;
  }

  retry(): void {
    if (this.#line !== undefined) this.#line.retry();
    else this.#post({ kind: "retry" });
  }

  on(name: string, listener: (...args: never[]) => void): () => void {
    return this.#server.on(name, listener as never);
  }

  async request(name: string, payload?: unknown, timeout?: number): Promise<unknown> {
    if (this.#line !== undefined) return this.#requestFor(this.#own, this.#line, name, payload, timeout);
    if (!this.isReady) throw disconnected();
    const id = randomId();
    const answer = new Promise<unknown>((resolve, reject) => this.#pendingRequests.set(id, { resolve, reject }));
    this.#post({ kind: "ask", from: this.#own, id, name, payload, timeout });
    // The leader has its own timeout. This one covers a leader that leaves in the meantime.
    return within((timeout ?? ANSWER_TIMEOUT) + ANSWER_MARGIN, answer).finally(() => this.#pendingRequests.delete(id));
  }

  emit(name: string, payload?: unknown): void {
    if (this.#line !== undefined) this.#line.emit(name, payload);
    else this.#post({ kind: "tell", from: this.#own, name, payload });
  }

  release(name: string, payload?: unknown): void {
    // Other tabs may still need it, and all tabs share one connection.
    if (this.#line !== undefined && this.#followers.size === 0) this.#line.release(name, payload);
  }

  get #own(): string {
    return this.#tabs.own;
  }

  /**
   * Registers another tab, until its lock shows that it was closed or has crashed, or has opened
   * another line.
   */
  #addFollower(tab: string): void {
    if (this.#followers.has(tab)) return;
    this.#followers.add(tab);
    void this.#tabs.inherit(tab, true, async () => void this.#followers.delete(tab));
  }

  /**
   * Requests the leader's lock. With `steal`, this tab takes it from a leader that does not
   * respond.
   */
  #requestLock(options: LockOptions): void {
    const lead = () => new Promise<void>((resign) => this.#lead(resign));
    navigator.locks.request(this.#lock, options, lead).catch(() => {
      // Another tab has taken the lock while this one was frozen.
      this.#stepDown();
      if (this.#timer !== undefined) this.#requestLock({});
    });
  }

  #lead(resign: () => void): void {
    if (this.#timer === undefined) return resign();
    this.#resign = resign;
    this.#note("leader");
    this.#follow(this.#own);
    const line = (this.#line = this.#make());
    line.onAny((name, ...args) => {
      this.#server.emit(name, ...(args as never[]));
      // Functions cannot be posted to other tabs. The leader has acknowledged for all of them.
      this.#post({ kind: "event", name, args: args.filter((arg) => typeof arg !== "function") });
    });
    const update = () => {
      if (line === this.#line) this.become(line.state);
    };
    for (const name of ["changed", "ready", "lost"] as const) line.watch(name, update);
    line.open();
  }

  /** Closes the connection of this tab after it has lost the lock, or when it closes. */
  #stepDown(): void {
    this.#resign?.();
    this.#resign = undefined;
    const line = this.#line;
    this.#line = undefined;
    if (line === undefined) return;
    line.close();
    this.become({ ...IDLE, status: { state: "connecting" } });
  }

  #check(): void {
    if (this.#line !== undefined) return this.#announce();
    this.#missedChecks += 1;
    if (this.#missedChecks === MAX_MISSED_CHECKS) {
      this.#missedChecks = 0;
      this.#note("leader is silent");
      this.#requestLock({ steal: true });
    } else this.#post({ kind: "hello", from: this.#own });
  }

  #handle(message: TabMessage): void {
    const line = this.#line;
    switch (message.kind) {
      case "state":
        // Two tabs act as leader: the one that was frozen loses its lock and then steps down.
        if (line !== undefined) return;
        this.#missedChecks = 0;
        this.#follow(message.from);
        return this.become({ status: message.status, session: message.session, isReady: message.isReady });
      case "event":
        if (line === undefined && message.except !== this.#own) this.#server.emit(message.name, ...(message.args as never[]));
        return;
      case "answer":
        return this.#takeAnswer(message);
      case "retry":
        return line?.retry();
    }
    if (line === undefined) return;
    this.#addFollower(message.from);
    if (message.kind === "hello") this.#announce();
    else if (message.kind === "tell") line.emit(message.name, message.payload);
    else if (message.kind === "ask") void this.#answer(line, message);
  }

  async #answer(line: SocketLine, { from, id, name, payload, timeout }: Extract<TabMessage, { kind: "ask" }>): Promise<void> {
    try {
      this.#post({ kind: "answer", to: from, id, answer: await this.#requestFor(from, line, name, payload, timeout) });
    } catch (error) {
      this.#post({ kind: "answer", to: from, id, failure: plain(asFailure(error)) });
    }
  }

  /**
   * Sends a request, and forwards to other tabs the event that the server sends to all sockets
   * except the requesting one.
   */
  async #requestFor(tab: string, line: SocketLine, name: string, payload: unknown, timeout?: number): Promise<unknown> {
    const answer = await line.request(name, payload, timeout);
    const event = ECHOES.get(name);
    const echo = event && echoOf(event, payload, answer, this.session?.userId);
    if (event !== undefined && echo !== undefined) {
      this.#post({ kind: "event", except: tab, name: event, args: [echo] });
      if (tab !== this.#own) this.#server.emit(event, echo as never);
    }
    return answer;
  }

  #takeAnswer({ to, id, answer, failure }: Extract<TabMessage, { kind: "answer" }>): void {
    if (to !== this.#own) return;
    if (failure !== undefined) this.#pendingRequests.get(id)?.reject(new RequestError(failure));
    else this.#pendingRequests.get(id)?.resolve(answer);
  }

  /** Follows a new leader. Requests to the previous leader stay unanswered and are rejected. */
  #follow(leader: string): void {
    if (leader === this.#leader) return;
    this.#leader = leader;
    this.become({ isReady: false });
  }

  protected override become(change: Partial<LineState>): void {
    super.become(change);
    if (this.#line !== undefined) this.#announce();
    if (!this.isReady) for (const { reject } of this.#pendingRequests.values()) reject(disconnected());
  }

  #announce(): void {
    this.#post({ kind: "state", from: this.#own, ...this.state });
  }

  #post(message: TabMessage): void {
    this.#channel?.postMessage(message);
  }
}

/**
 * Returns the payload of an event that other sockets receive for a request of this socket, or
 * `undefined` if a server of another kind has given the answer.
 */
function echoOf(event: string, payload: unknown, answer: unknown, userId: string | undefined): unknown {
  const { success: _, ...rest } = { ...(answer as { success?: boolean } & Partial<StoredMessage & ChangedConversation & ReadMark>) };
  const { message, conversation, seq } = rest;
  switch (event) {
    case "message":
    case "message_edited":
      return message;
    case "message_deleted":
      return message && { conversationId: message.conversationId, messageId: message.id, seq: message.seq, deletedAt: message.deletedAt, deletedBy: userId };
    case "message_read":
      return seq === undefined ? undefined : { conversationId: (payload as MarkAsRead).conversationId, userId, seq };
    case "conversation_updated":
      return conversation && { conversation, timestamp: conversation.updatedAt };
    default:
      return Object.keys(rest).length > 0 ? rest : undefined;
  }
}

function disconnected(): RequestError {
  return new RequestError({ code: DISCONNECTED, message: "not connected" });
}
