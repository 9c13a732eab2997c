import { Emitter } from "../emitter.ts";
import { DISCONNECTED, type Failure, RequestError, asFailure, plain } from "../failure.ts";
import { ANSWER_TIMEOUT, IDLE, type Line, type LineState, ObservedLine } from "./line.ts";
import type { Note } from "../log.ts";
import { Tabs } from "../queue/tabs.ts";
import type { SocketLine } from "./socket.ts";
import { randomId, within } from "../time.ts";
import type { Message } from "../types.ts";

/** How often a tab looks whether the leader is there. */
const LOOK = 2_000;
/**
 * A leader that says nothing between so many looks is frozen: another tab takes its place. Looks are counted, and not the time: a
 * tab that stood still itself has not looked meanwhile, and what the leader has said may be just behind.
 */
const LOOKS = 3;
/** So much longer than the leader another tab waits for an answer. */
const PATIENCE = 5_000;

/** What tabs say to each other. */
type Word =
  | { kind: "hello"; from: string }
  | ({ kind: "state"; from: string } & LineState)
  | { kind: "event"; except?: string; name: string; args: unknown[] }
  | { kind: "ask"; from: string; id: string; name: string; payload: unknown; timeout: number | undefined }
  | { kind: "answer"; to: string; id: string; answer?: unknown; failure?: Failure }
  | { kind: "tell" | "release"; from: string; name: string; payload: unknown }
  | { kind: "retry" };

/** One connection for all tabs: that of the leader, which is the tab that has the lock. */
export class SharedLine extends ObservedLine implements Line {
  /** This tab among the others; another one each time it is opened. */
  #tabs = new Tabs();
  readonly #lock: string;
  readonly #make: () => SocketLine;
  readonly #note: Note;
  readonly #server = new Emitter<Record<string, (...args: never[]) => void>>();
  readonly #asked = new Map<string, { resolve: (answer: unknown) => void; reject: (error: Error) => void }>();
  /** The tabs that have asked the leader for anything and are still there. */
  readonly #others = new Set<string>();
  /** The connection, in the leader. */
  #line: SocketLine | undefined;
  #channel: BroadcastChannel | undefined;
  #leader: string | undefined;
  /** How often this tab has looked since the leader was heard. */
  #looks = 0;
  #timer: ReturnType<typeof setInterval> | undefined;
  #resign: (() => void) | undefined;

  constructor(name: string, make: () => SocketLine, note: Note) {
    super();
    this.#lock = `roomcast:leader:${name}`;
    this.#make = make;
    this.#note = note;
  }

  /** Whether this tab has the connection. */
  get isLeader(): boolean {
    return this.#line !== undefined;
  }

  open(): void {
    if (this.#timer !== undefined) return;
    this.#looks = 0;
    this.#channel = new BroadcastChannel(this.#lock);
    this.#channel.onmessage = ({ data }: MessageEvent<Word>) => this.#hear(data);
    this.become({ ...IDLE, status: { state: "connecting" } });
    this.#stand({});
    this.#say({ kind: "hello", from: this.#own });
    this.#timer = setInterval(() => this.#look(), LOOK);
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
    else this.#say({ kind: "retry" });
  }

  on(name: string, listener: (...args: never[]) => void): () => void {
    return this.#server.on(name, listener as never);
  }

  async ask(name: string, payload?: unknown, timeout?: number): Promise<unknown> {
    if (this.#line !== undefined) return this.#askFor(this.#own, this.#line, name, payload, timeout);
    if (!this.isReady) throw disconnected();
    const id = randomId();
    const answer = new Promise<unknown>((resolve, reject) => this.#asked.set(id, { resolve, reject }));
    this.#say({ kind: "ask", from: this.#own, id, name, payload, timeout });
    // The leader has its own deadline; this is for a leader that leaves in the meantime.
    return within((timeout ?? ANSWER_TIMEOUT) + PATIENCE, answer).finally(() => this.#asked.delete(id));
  }

  tell(name: string, payload?: unknown): void {
    if (this.#line !== undefined) this.#line.tell(name, payload);
    else this.#say({ kind: "tell", from: this.#own, name, payload });
  }

  release(name: string, payload?: unknown): void {
    // Other tabs may still want it, and there is one connection for all.
    if (this.#line !== undefined && this.#others.size === 0) this.#line.release(name, payload);
  }

  get #own(): string {
    return this.#tabs.own;
  }

  /** Another tab is there, until its lock says that it was closed, has crashed or is elsewhere. */
  #meet(tab: string): void {
    if (this.#others.has(tab)) return;
    this.#others.add(tab);
    void this.#tabs.inherit(tab, true, async () => void this.#others.delete(tab));
  }

  /** Stands for leadership; with `steal` it is taken from a leader that does not answer. */
  #stand(options: LockOptions): void {
    const lead = () => new Promise<void>((resign) => this.#lead(resign));
    navigator.locks.request(this.#lock, options, lead).catch(() => {
      // Another tab has taken it, while this one was frozen.
      this.#stepDown();
      if (this.#timer !== undefined) this.#stand({});
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
      // Functions cannot be handed over; the leader has answered for all.
      this.#say({ kind: "event", name, args: args.filter((arg) => typeof arg !== "function") });
    });
    const tell = () => {
      if (line === this.#line) this.become(line.state);
    };
    for (const name of ["changed", "ready", "lost"] as const) line.watch(name, tell);
    line.open();
  }

  /** The connection is another tab's, or nobody's. */
  #stepDown(): void {
    this.#resign?.();
    this.#resign = undefined;
    const line = this.#line;
    this.#line = undefined;
    if (line === undefined) return;
    line.close();
    this.become({ ...IDLE, status: { state: "connecting" } });
  }

  #look(): void {
    if (this.#line !== undefined) return this.#announce();
    this.#looks += 1;
    if (this.#looks === LOOKS) {
      this.#looks = 0;
      this.#note("leader is silent");
      this.#stand({ steal: true });
    } else this.#say({ kind: "hello", from: this.#own });
  }

  #hear(word: Word): void {
    const line = this.#line;
    switch (word.kind) {
      case "state":
        // Two leaders at once: the one that was frozen learns from its lock that it is none.
        if (line !== undefined) return;
        this.#looks = 0;
        this.#follow(word.from);
        return this.become({ status: word.status, session: word.session, isReady: word.isReady });
      case "event":
        if (line === undefined && word.except !== this.#own) this.#server.emit(word.name, ...(word.args as never[]));
        return;
      case "answer":
        return this.#take(word);
      case "retry":
        return line?.retry();
    }
    if (line === undefined) return;
    this.#meet(word.from);
    if (word.kind === "hello") this.#announce();
    else if (word.kind === "tell") line.tell(word.name, word.payload);
    else if (word.kind === "ask") void this.#answer(line, word);
  }

  async #answer(line: SocketLine, { from, id, name, payload, timeout }: Extract<Word, { kind: "ask" }>): Promise<void> {
    try {
      this.#say({ kind: "answer", to: from, id, answer: await this.#askFor(from, line, name, payload, timeout) });
    } catch (error) {
      this.#say({ kind: "answer", to: from, id, failure: plain(asFailure(error)) });
    }
  }

  /** Asks, and tells other tabs what the server tells all sockets but the one that has asked. */
  async #askFor(tab: string, line: SocketLine, name: string, payload: unknown, timeout?: number): Promise<unknown> {
    const answer = await line.ask(name, payload, timeout);
    const echo = echoOf(name, answer);
    if (echo !== undefined) {
      this.#say({ kind: "event", except: tab, ...echo });
      if (tab !== this.#own) this.#server.emit(echo.name, ...(echo.args as never[]));
    }
    return answer;
  }

  #take({ to, id, answer, failure }: Extract<Word, { kind: "answer" }>): void {
    if (to !== this.#own) return;
    if (failure !== undefined) this.#asked.get(id)?.reject(new RequestError(failure));
    else this.#asked.get(id)?.resolve(answer);
  }

  /** Who leads; what another has been asked is not answered any more. */
  #follow(leader: string): void {
    if (leader === this.#leader) return;
    this.#leader = leader;
    this.become({ isReady: false });
  }

  protected override become(change: Partial<LineState>): void {
    super.become(change);
    if (this.#line !== undefined) this.#announce();
    if (!this.isReady) for (const { reject } of this.#asked.values()) reject(disconnected());
  }

  #announce(): void {
    this.#say({ kind: "state", from: this.#own, ...this.state });
  }

  #say(word: Word): void {
    this.#channel?.postMessage(word);
  }
}

/** What a change in the chat looks like to those who did not make it. */
function echoOf(name: string, answer: unknown): { name: string; args: unknown[] } | undefined {
  if (name === "delete_conversation") return { name: "conversation_deleted", args: [answer] };
  const message = (answer as { message?: Message } | undefined)?.message;
  if (message === undefined) return undefined;
  if (name === "message") return { name, args: [message] };
  if (name === "edit_message") return { name: "message_edited", args: [message] };
  if (name !== "delete_message") return undefined;
  const { id, conversationId, seq, deletedAt, userId } = message;
  return { name: "message_deleted", args: [{ conversationId, messageId: id, seq, deletedAt, deletedBy: userId }] };
}

function disconnected(): RequestError {
  return new RequestError({ code: DISCONNECTED, message: "not connected" });
}
