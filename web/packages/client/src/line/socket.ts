import { type ManagerOptions as EngineOptions, type Socket, type SocketOptions, io } from "socket.io-client";
import { type AuthReason, Credentials, type Auth, type AuthProvider } from "./auth.ts";
import { Emitter } from "../emitter.ts";
import { DISCONNECTED, type Failure, RequestError, TIMED_OUT, asFailure } from "../failure.ts";
import { ANSWER_TIMEOUT, type Line, type LineEvents, SLOW_AFTER, type Status } from "./line.ts";
import type { Note } from "../log.ts";
import type { ErrorEvent, Session } from "../types.ts";

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 5_000;

export interface SocketLineOptions {
  auth: Auth | AuthProvider;
  /** The event by which the server says who we are; `false` if it has none. */
  sessionEvent: string | false;
  /** Options of the official client. */
  socket: Partial<EngineOptions & SocketOptions>;
}

/** A connection of our own, over the official client. */
export class SocketLine implements Line {
  #status: Status = { state: "idle" };
  #session: Session | undefined;
  #isReady = false;
  /** Counts connections, so that what belongs to an earlier one is told from what belongs to this. */
  #connection = 0;
  /** Why the server is about to disconnect us. */
  #farewell: Failure | undefined;
  #reason: AuthReason = "connect";
  #handshake = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #events = new Emitter<LineEvents>();
  readonly #socket: Socket;
  readonly #credentials: Credentials;
  readonly #sessionEvent: string | false;
  readonly #note: Note;
  readonly #handleOnline = () => {
    if (this.#status.state === "offline") this.retry();
  };

  constructor(url: string | undefined, { auth, sessionEvent, socket }: SocketLineOptions, note: Note) {
    this.#sessionEvent = sessionEvent;
    this.#note = note;
    this.#credentials = new Credentials(auth, note);
    this.#socket = io(url as string, {
      reconnectionDelay: FIRST_PAUSE,
      reconnectionDelayMax: LONGEST_PAUSE,
      ...socket,
      forceNew: true,
      autoConnect: false,
      auth: (give) => void this.#authenticate(give),
    });
    this.#follow();
  }

  get status(): Status {
    return this.#status;
  }

  get session(): Session | undefined {
    return this.#session;
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  open(): void {
    if (this.#status.state !== "idle") return;
    globalThis.addEventListener?.("online", this.#handleOnline);
    this.#connect();
  }

  close(): void {
    globalThis.removeEventListener?.("online", this.#handleOnline);
    this.#disconnect();
    this.#set({ state: "idle" });
  }

  retry(): void {
    if (this.#socket.connected || this.#status.state === "idle") return;
    this.#disconnect();
    this.#connect();
  }

  watch<Name extends keyof LineEvents>(name: Name, listener: LineEvents[Name]): () => void {
    return this.#events.on(name, listener as never);
  }

  on(name: string, listener: (...args: never[]) => void): () => void {
    this.#socket.on(name, listener as never);
    return () => void this.#socket.off(name, listener as never);
  }

  /** Listens to all events of the server. */
  onAny(listener: (name: string, ...args: unknown[]) => void): void {
    this.#socket.onAny(listener);
  }

  async ask(name: string, payload?: unknown, timeout = ANSWER_TIMEOUT): Promise<unknown> {
    // Nothing is left to the client's own buffer: what to send after a reconnect is decided by who asked.
    if (!this.#socket.connected) throw new RequestError({ code: DISCONNECTED, message: "not connected" });
    const connection = this.#connection;
    const args = payload === undefined ? [] : [payload];
    const slow = setTimeout(() => this.#handleSlowness(connection), SLOW_AFTER);
    const answer: unknown = await this.#socket
      .timeout(timeout)
      .emitWithAck(name, ...args)
      .catch((error: Error) => {
        const isHere = this.#socket.connected && connection === this.#connection;
        if (isHere) this.#handleSilence();
        throw new RequestError({ code: isHere ? TIMED_OUT : DISCONNECTED, message: error.message });
      })
      .finally(() => clearTimeout(slow));
    this.#handleAnswer();
    const { success, error } = (answer ?? {}) as { success?: unknown; error?: Partial<Failure> };
    if (success === false) throw new RequestError({ code: "REFUSED", message: `${name} was refused`, ...error });
    return answer;
  }

  tell(name: string, payload?: unknown): void {
    if (this.#socket.connected) this.#socket.emit(name, ...(payload === undefined ? [] : [payload]));
  }

  release(name: string, payload?: unknown): void {
    this.tell(name, payload);
  }

  #connect(): void {
    this.#set({ state: "connecting" });
    this.#socket.connect();
  }

  /** Ends the connection or the attempt, whichever there is, and what would follow. */
  #disconnect(): void {
    clearTimeout(this.#timer);
    this.#handshake += 1;
    this.#socket.disconnect();
    this.#lose();
  }

  #connectLater(milliseconds: number): void {
    this.#disconnect();
    this.#timer = setTimeout(() => this.#socket.connect(), milliseconds);
  }

  async #authenticate(give: (auth: object) => void): Promise<void> {
    const handshake = (this.#handshake += 1);
    const reason = this.#reason;
    try {
      const auth = await this.#credentials.get(reason);
      // The connection may have gone and come back meanwhile, and two CONNECT are one too many.
      if (handshake === this.#handshake) give(auth);
    } catch (error) {
      if (handshake === this.#handshake) this.#wait(asFailure(error), LONGEST_PAUSE);
    }
  }

  #follow(): void {
    const socket = this.#socket;
    socket.on("connect", () => {
      this.#connection += 1;
      this.#farewell = undefined;
      this.#set({ state: "online", transport: socket.io.engine.transport.name });
      if (this.#sessionEvent === false) this.#begin(undefined);
    });
    if (this.#sessionEvent !== false) socket.on(this.#sessionEvent, (session: Session) => this.#begin(session));
    socket.io.on("open", () => {
      const { engine } = socket.io;
      engine.on("upgrade", ({ name }: { name: string }) => {
        if (this.#isOnline(this.#status)) this.#set({ ...this.#status, transport: name });
      });
      engine.on("packet", () => {
        if (this.#status.state === "unresponsive") this.#set({ ...this.#status, state: "online" });
      });
    });
    socket.io.on("close", () => (this.#handshake += 1));
    socket.on("error", (error: Partial<ErrorEvent> | undefined) => {
      if (error?.type === "auth" && error.event === undefined) this.#farewell = { code: "", message: "", ...error };
    });
    socket.on("auth:expiring", () => void this.#credentials.refresh((payload) => this.ask("auth:refresh", payload)));
    socket.on("disconnect", (reason) => this.#handleDisconnect(reason));
    socket.on("connect_error", (error: Error & { data?: Partial<Failure> }) => {
      // The client goes on trying if it was the transport, and stops if the server refused us.
      if (socket.active) this.#set({ state: "offline", failure: { code: "", message: error.message } });
      else this.#handleRefusal({ code: "", message: error.message, ...error.data });
    });
  }

  #begin(session: Session | undefined): void {
    this.#session = session;
    this.#reason = "connect";
    const isFirst = !this.#isReady;
    this.#isReady = true;
    this.#events.emit("changed");
    if (isFirst) this.#events.emit("ready");
  }

  #lose(): void {
    this.#credentials.stop();
    if (!this.#isReady) return;
    this.#isReady = false;
    this.#events.emit("lost");
  }

  #handleDisconnect(reason: string): void {
    this.#lose();
    if (reason === "io client disconnect") return;
    const failure = this.#farewell;
    if (reason !== "io server disconnect") this.#set({ state: "offline" });
    // Nobody is sent away for good whose credentials have ended, if there may be others.
    else if (failure?.code === "TOKEN_EXPIRED" && this.#credentials.canRenew) this.#wait(failure, 0, "expiring");
    else this.#set({ state: "closed", ...(failure && { failure }) });
  }

  #handleRefusal(failure: Failure): void {
    const mayRenew = failure.code === "UNAUTHENTICATED" && this.#credentials.canRenew && this.#reason !== "refused";
    if (mayRenew) this.#wait(failure, FIRST_PAUSE, "refused");
    else if (failure.retryAfter !== undefined) this.#wait(failure, Math.max(failure.retryAfter, FIRST_PAUSE));
    else {
      this.#reason = "connect";
      this.#set({ state: "refused", failure });
    }
  }

  #wait(failure: Failure, milliseconds: number, reason = this.#reason): void {
    this.#reason = reason;
    this.#connectLater(milliseconds);
    this.#set({ state: "offline", failure });
  }

  /** Whatever else comes, a server is slow until it answers. */
  #handleSlowness(connection: number): void {
    const { state } = this.#status;
    if (state === "online" && connection === this.#connection) this.#set({ ...this.#status, state, slow: true });
  }

  #handleAnswer(): void {
    const status = this.#status;
    if (status.state === "online" && status.slow) this.#set({ state: "online", transport: status.transport });
  }

  #handleSilence(): void {
    if (this.#status.state === "online") this.#set({ state: "unresponsive", transport: this.#status.transport });
  }

  #isOnline(status: Status): status is Extract<Status, { transport: string }> {
    return "transport" in status;
  }

  #set(status: Status): void {
    const { state } = status;
    if (state !== this.#status.state) this.#note("status", "failure" in status ? `${state} ${status.failure?.code ?? ""}` : state);
    this.#status = status;
    this.#events.emit("changed");
  }
}
