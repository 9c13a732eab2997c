import { type ManagerOptions as EngineOptions, type Socket, type SocketOptions, io } from "socket.io-client";
import { type AuthReason, Credentials, type Auth, type AuthProvider } from "./auth.ts";
import { corsFailure } from "./cors.ts";
import { DISCONNECTED, type Failure, RequestError, TIMED_OUT, asFailure } from "../failure.ts";
import { ANSWER_TIMEOUT, type Line, ObservedLine, SLOW_AFTER, type Status } from "./line.ts";
import type { Note } from "../log.ts";
import type { ErrorEvent, Session } from "../types.ts";

/** Delay before the first reconnection attempt, in milliseconds. */
const MIN_DELAY = 1_000;
/** Maximum delay between reconnection attempts, in milliseconds. */
const MAX_DELAY = 5_000;

export interface SocketLineOptions {
  auth: Auth | AuthProvider;
  /** The event with which the server announces the session; `false` if it has none. */
  sessionEvent: string | false;
  /** Options for `socket.io-client`. */
  socket: Partial<EngineOptions & SocketOptions>;
}

/** A connection of this tab, through `socket.io-client`. */
export class SocketLine extends ObservedLine implements Line {
  /** Counts connections, to ignore results that belong to an earlier one. */
  #connection = 0;
  /** The reason that the server sent before it disconnects this client. */
  #closeReason: Failure | undefined;
  /** The CORS failure of this browser, if one was detected. */
  #cors: Failure | undefined;
  #reason: AuthReason = "connect";
  #handshake = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #socket: Socket;
  readonly #credentials: Credentials;
  readonly #sessionEvent: string | false;
  readonly #note: Note;
  readonly #handleOnline = () => {
    if (this.status.state === "offline") this.retry();
  };

  constructor(url: string | undefined, { auth, sessionEvent, socket }: SocketLineOptions, note: Note) {
    super();
    this.#sessionEvent = sessionEvent;
    this.#note = note;
    this.#credentials = new Credentials(auth, note);
    this.#socket = io(url as string, {
      reconnectionDelay: MIN_DELAY,
      reconnectionDelayMax: MAX_DELAY,
      ...socket,
      forceNew: true,
      autoConnect: false,
      auth: (give) => void this.#authenticate(give),
    });
    this.#follow();
  }

  open(): void {
    if (this.status.state !== "idle") return;
    globalThis.addEventListener?.("online", this.#handleOnline);
    this.#connect();
  }

  close(): void {
    globalThis.removeEventListener?.("online", this.#handleOnline);
    this.#disconnect();
    this.#set({ state: "idle" });
  }

  retry(): void {
    if (this.#socket.connected || this.status.state === "idle") return;
    this.#disconnect();
    this.#connect();
  }

  on(name: string, listener: (...args: never[]) => void): () => void {
    this.#socket.on(name, listener as never);
    return () => void this.#socket.off(name, listener as never);
  }

  /** Listens to all events of the server. */
  onAny(listener: (name: string, ...args: unknown[]) => void): void {
    this.#socket.onAny(listener);
  }

  async request(name: string, payload?: unknown, timeout = ANSWER_TIMEOUT): Promise<unknown> {
    // Does not use the buffer of `socket.io-client`: the caller decides what to send after a
    // reconnect.
    if (!this.#socket.connected) throw new RequestError({ code: DISCONNECTED, message: "not connected" });
    const connection = this.#connection;
    const args = payload === undefined ? [] : [payload];
    // A server counts as slow until it answers, even if other packets arrive.
    const slow = setTimeout(() => connection === this.#connection && this.#updateStatus("online", { slow: true }), SLOW_AFTER);
    const answer: unknown = await this.#socket
      .timeout(timeout)
      .emitWithAck(name, ...args)
      .catch((error: Error) => {
        const isConnected = this.#socket.connected && connection === this.#connection;
        if (isConnected) this.#updateStatus("online", { state: "unresponsive", slow: undefined });
        throw new RequestError({ code: isConnected ? TIMED_OUT : DISCONNECTED, message: error.message });
      })
      .finally(() => clearTimeout(slow));
    if ("slow" in this.status) this.#updateStatus("online", { slow: undefined });
    const { success, error } = (answer ?? {}) as { success?: unknown; error?: Partial<Failure> };
    if (success === false) throw new RequestError({ code: "REFUSED", message: `${name} was refused`, ...error });
    return answer;
  }

  emit(name: string, payload?: unknown): void {
    if (this.#socket.connected) this.#socket.emit(name, ...(payload === undefined ? [] : [payload]));
  }

  release(name: string, payload?: unknown): void {
    this.emit(name, payload);
  }

  #connect(): void {
    this.#set({ state: "connecting" });
    this.#socket.connect();
  }

  /** Closes the connection or the current attempt, and cancels the next attempt. */
  #disconnect(): void {
    clearTimeout(this.#timer);
    this.#handshake += 1;
    this.#socket.disconnect();
    this.#lose();
  }

  async #authenticate(give: (auth: object) => void): Promise<void> {
    const handshake = (this.#handshake += 1);
    const reason = this.#reason;
    try {
      const auth = await this.#credentials.get(reason);
      // The connection may have been lost and restored in the meantime. A second CONNECT would be a
      // protocol error.
      if (handshake === this.#handshake) give(auth);
    } catch (error) {
      if (handshake === this.#handshake) this.#wait(asFailure(error), MAX_DELAY);
    }
  }

  #follow(): void {
    const socket = this.#socket;
    socket.on("connect", () => {
      this.#connection += 1;
      this.#closeReason = this.#cors = undefined;
      this.#set({ state: "online", transport: socket.io.engine.transport.name });
      if (this.#sessionEvent === false) this.#begin(undefined);
    });
    if (this.#sessionEvent !== false) socket.on(this.#sessionEvent, (session: Session) => this.#begin(session));
    socket.io.on("open", () => {
      const { engine } = socket.io;
      engine.on("upgrade", ({ name }: { name: string }) => {
        if ("transport" in this.status) this.#set({ ...this.status, transport: name });
      });
      engine.on("packet", () => this.#updateStatus("unresponsive", { state: "online" }));
    });
    socket.io.on("close", () => (this.#handshake += 1));
    socket.on("error", (error: Partial<ErrorEvent> | undefined) => {
      if (error?.type === "auth" && error.event === undefined) this.#closeReason = { code: "", message: "", ...error };
    });
    socket.on("auth:expiring", () => void this.#credentials.refresh((payload) => this.request("auth:refresh", payload)));
    socket.on("disconnect", (reason) => this.#handleDisconnect(reason));
    socket.on("connect_error", (error: Error & { data?: Partial<Failure>; description?: unknown }) => {
      const failure = { code: "", message: error.message };
      // `socket.io-client` retries after a transport error, and stops if the server refused the
      // connection.
      if (!socket.active) return this.#handleRefusal({ ...failure, ...error.data });
      this.#set({ state: "offline", failure: this.#cors ?? failure });
      // An HTTP status proves that the browser did not block the answer.
      if (!(Number(error.description) > 0)) void this.#detectCors();
    });
  }

  async #detectCors(): Promise<void> {
    const socket = this.#socket;
    const failure = await corsFailure(socket.io["uri"], socket.io.engine["opts"]);
    if (socket.connected) return;
    this.#cors = failure;
    if (failure && this.status.state === "offline") this.#set({ state: "offline", failure });
  }

  #begin(session: Session | undefined): void {
    this.#reason = "connect";
    this.become({ session, isReady: true });
  }

  #lose(): void {
    this.#credentials.stop();
    if (this.isReady) this.become({ isReady: false });
  }

  #handleDisconnect(reason: string): void {
    this.#lose();
    if (reason === "io client disconnect") return;
    const failure = this.#closeReason;
    if (reason !== "io server disconnect") this.#set({ state: "offline" });
    // Expired credentials do not end the connection if new ones can be obtained.
    else if (failure?.code === "TOKEN_EXPIRED" && this.#credentials.canRenew) this.#wait(failure, 0, "expiring");
    else this.#set({ state: "closed", ...(failure && { failure }) });
  }

  #handleRefusal(failure: Failure): void {
    const mayRenew = failure.code === "UNAUTHENTICATED" && this.#credentials.canRenew && this.#reason !== "refused";
    if (mayRenew) this.#wait(failure, MIN_DELAY, "refused");
    else if (failure.retryAfter !== undefined) this.#wait(failure, Math.max(failure.retryAfter, MIN_DELAY));
    else {
      this.#reason = "connect";
      this.#set({ state: "refused", failure });
    }
  }

  #wait(failure: Failure, milliseconds: number, reason = this.#reason): void {
    this.#reason = reason;
    this.#disconnect();
    this.#timer = setTimeout(() => this.#socket.connect(), milliseconds);
    this.#set({ state: "offline", failure });
  }

  /** Changes the status if it is in this state. */
  #updateStatus(state: "online" | "unresponsive", change: { state?: "online" | "unresponsive"; slow?: true | undefined }): void {
    const { status } = this;
    if (status.state === state) this.#set({ ...status, ...change } as Status);
  }

  #set(status: Status): void {
    const { state } = status;
    if (state !== this.status.state) this.#note("status", "failure" in status ? `${state} ${status.failure?.code ?? ""}` : state);
    this.become({ status });
  }
}
