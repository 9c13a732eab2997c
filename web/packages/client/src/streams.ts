import { DISCONNECTED, type RequestError, asFailure, isUnconfirmed } from "./failure.ts";
import type { SocketManager } from "./manager.ts";
import { Delay, now, randomId, retryDelay } from "./time.ts";
import type { BeginMessage, Message, MessageStopRequested } from "./types.ts";

/** Where a message is written. */
type Author = Pick<SocketManager, "request" | "on" | "watch" | "isReady">;

/** Options for a message whose text is sent in pieces. */
export interface WriteOptions {
  /** Called when a member asks the author to stop. */
  stopRequested?: (request: MessageStopRequested) => void;
  /** Shortest time between two pieces, in milliseconds. Default 40. Text in between is sent together. */
  interval?: number;
}

/** What replaces the text or the metadata of a message at its end. */
export type Correction = Partial<Pick<Message, "content" | "metadata">>;

/** Largest piece, in UTF-16 units. */
const MAX_PIECE = 8_192;

/** Delay after a request whose connection was lost and is there again, in milliseconds. It grows with each attempt. */
const SHORTEST_RETRY = 10;

/**
 * A message whose text is sent in pieces. After a lost connection it goes on where the server says,
 * so the text arrives whole and once.
 */
export class StreamedMessage {
  /** The stored message. Rejects with a `RequestError` if the server refuses it. */
  readonly ended: Promise<Message>;
  #text = "";
  /** How much of the text the server has, in characters and in UTF-16 units. */
  #chars = 0;
  #units = 0;
  #message: Message | undefined;
  #end: { name: "finish_message"; payload: Correction } | { name: "abort_message"; payload: { reason?: string } } | undefined;
  #isWorking = false;
  #isOver = false;
  #sentAt = Number.NEGATIVE_INFINITY;
  #settle!: { resolve: (message: Message) => void; reject: (failure: RequestError) => void };
  readonly #payload: BeginMessage;
  readonly #delay = new Delay();
  readonly #listeners: (() => void)[];
  readonly #manager: Author;
  readonly #interval: number;

  constructor(manager: Author, payload: Omit<BeginMessage, "clientMessageId">, { stopRequested, interval = 40 }: WriteOptions = {}) {
    this.#manager = manager;
    this.#payload = { ...payload, clientMessageId: randomId() };
    this.#interval = interval;
    this.ended = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    // A caller may watch the message in another way.
    this.ended.catch(() => {});
    this.#listeners = [
      manager.watch("status", () => {
        if (manager.isReady) this.#delay.end();
      }),
      manager.on("message_stop_requested", (request) => {
        if (request.messageId === this.#message?.id) stopRequested?.(request);
      }),
    ];
    void this.#work();
  }

  /** The message as it began, once the server has stored it. */
  get message(): Message | undefined {
    return this.#message;
  }

  /** Adds text, which is sent soon. Text after the end is ignored. */
  append(text: string): void {
    if (this.#end === undefined) this.#text += text;
    void this.#work();
  }

  /** Adds the texts of an iterable or a stream, until it or the message ends. Failures of the source abort the message. */
  async appendFrom(source: AsyncIterable<string> | Iterable<string>): Promise<void> {
    try {
      for await (const text of source) {
        if (this.#end !== undefined || this.#isOver) return;
        this.append(text);
      }
    } catch (error) {
      await this.abort("the text could not be read").catch(() => {});
      throw error;
    }
  }

  /** Ends the message after all of its text. Resolves with the stored message. */
  finish(correction: Correction = {}): Promise<Message> {
    this.#end ??= { name: "finish_message", payload: correction };
    this.#delay.end();
    void this.#work();
    return this.ended;
  }

  /** Ends the message where it is. Text that was not sent is dropped. */
  abort(reason?: string): Promise<Message> {
    this.#end ??= { name: "abort_message", payload: reason === undefined ? {} : { reason } };
    if (this.#end.name === "abort_message") this.#text = this.#text.slice(0, this.#units);
    this.#delay.end();
    void this.#work();
    return this.ended;
  }

  /** Sends what there is to send. Only one request is in flight. */
  async #work(): Promise<void> {
    if (this.#isWorking) return;
    this.#isWorking = true;
    for (let attempts = 0; !this.#isOver && this.#hasWork; ) {
      const failure = await this.#step().then(() => undefined, asFailure);
      attempts = failure === undefined ? 0 : attempts + 1;
      if (failure !== undefined && !this.#goOn(failure)) {
        if (failure.code === DISCONNECTED || failure.code === "RATE_LIMITED" || isUnconfirmed(failure)) await this.#wait(attempts, failure);
        else this.#conclude(() => this.#settle.reject(failure));
      }
    }
    this.#isWorking = false;
  }

  get #hasWork(): boolean {
    return this.#message === undefined || this.#piece !== "" || this.#end !== undefined;
  }

  /** The text to send next. The first half of a character waits for the second. */
  get #piece(): string {
    const piece = this.#text.slice(this.#units, this.#units + MAX_PIECE);
    const isCut = /[\ud800-\udbff]$/.test(piece);
    return isCut && (this.#end === undefined || piece.length > 1) ? piece.slice(0, -1) : piece;
  }

  async #step(): Promise<void> {
    const manager = this.#manager;
    if (this.#message === undefined) {
      const { message, offset } = await manager.request("begin_message", this.#payload);
      this.#message = message;
      this.#move(offset);
      return;
    }
    const messageId = this.#message.id;
    const wait = this.#sentAt + this.#interval - now();
    if (this.#end === undefined && wait > 0) await this.#delay.for(wait);
    const text = this.#end?.name === "abort_message" ? "" : this.#piece;
    if (text !== "") {
      this.#sentAt = now();
      const { offset } = await manager.request("append_message", { messageId, offset: this.#chars, text });
      this.#move(offset);
    } else if (this.#end !== undefined) {
      const { name, payload } = this.#end;
      const offset = name === "finish_message" ? { offset: this.#chars } : {};
      const { message } = await manager.request(name, { messageId, ...offset, ...payload } as never);
      this.#conclude(() => this.#settle.resolve(message));
    }
  }

  /** Moves to the place that the server names. Returns whether it names another one. */
  #goOn({ code, details }: RequestError): boolean {
    const offset = (details as { offset?: unknown } | undefined)?.offset;
    return code === "CONFLICT" && typeof offset === "number" && offset !== this.#chars && this.#move(offset);
  }

  /** Returns whether the text has this place. */
  #move(chars: number): boolean {
    let [units, rest] = [0, chars];
    // Usually a place further on.
    if (chars >= this.#chars) [units, rest] = [this.#units, chars - this.#chars];
    while (rest > 0 && units < this.#text.length) {
      units += (this.#text.codePointAt(units) ?? 0) > 0xffff ? 2 : 1;
      rest -= 1;
    }
    if (rest === 0) [this.#chars, this.#units] = [chars, units];
    return rest === 0;
  }

  /** Waits after a failure, without a connection until there is one. */
  async #wait(attempts: number, { code, retryAfter }: RequestError): Promise<void> {
    const isBack = code === DISCONNECTED && this.#manager.isReady;
    if (isBack) await this.#delay.for(SHORTEST_RETRY * attempts);
    else await this.#delay.for(code === "RATE_LIMITED" ? Number(retryAfter) || 1_000 : retryDelay(attempts, retryAfter));
  }

  #conclude(settle: () => void): void {
    this.#isOver = true;
    for (const end of this.#listeners) end();
    settle();
  }
}

/** Begins a message whose text is sent in pieces, as `begin_message` of the chat. */
export function writeMessage(manager: Author, payload: Omit<BeginMessage, "clientMessageId">, options?: WriteOptions): StreamedMessage {
  return new StreamedMessage(manager, payload, options);
}
