import { type Socket, io } from "socket.io-client";
import { DISCONNECTED, RequestError, TIMED_OUT } from "./failure.ts";
import type { Ack, Failure, Requests, ServerEvents, Session } from "./types.ts";

const ANSWER_TIMEOUT = 10_000;

/** How the connection is doing. */
export type Status =
  | { state: "connecting" }
  | { state: "online"; transport: string }
  /** Lost or not reachable; the next attempt comes by itself. */
  | { state: "offline" }
  /** The server refused us; another attempt takes a decision. */
  | { state: "refused"; failure: Failure }
  /** The server sent us away; another attempt takes a decision. */
  | { state: "closed" };

export interface ConnectionOptions {
  path: string;
  name: string;
  guestKey: string;
  /** One transport alone, to look at it; both with upgrade if absent. */
  transport?: string | undefined;
}

/** One connection to the server: its state, its events, and requests that are answered. */
export class Connection {
  /** Called after every change of `status` and `session`. */
  changed: () => void = () => {};
  #status: Status = { state: "connecting" };
  #session: Session | undefined;
  readonly #socket: Socket;

  constructor({ path, name, guestKey, transport }: ConnectionOptions) {
    this.#socket = io({
      path,
      auth: { name, guestKey },
      autoConnect: false,
      reconnectionDelay: 1_000,
      reconnectionDelayMax: 5_000,
      ...(transport === "polling" || transport === "websocket" ? { transports: [transport] } : {}),
    });
    this.#follow();
  }

  get status(): Status {
    return this.#status;
  }

  /** Who the server says we are. */
  get session(): Session | undefined {
    return this.#session;
  }

  get isOnline(): boolean {
    return this.#socket.connected;
  }

  open(): void {
    this.#socket.connect();
  }

  close(): void {
    this.#socket.disconnect();
  }

  /** Tries at once instead of waiting for the next attempt. */
  retry(): void {
    if (this.#socket.connected) return;
    this.#socket.disconnect();
    this.#set({ state: "connecting" });
    this.#socket.connect();
  }

  on<Name extends keyof ServerEvents>(name: Name, listener: ServerEvents[Name]): void {
    this.#socket.on(name as string, listener);
  }

  /** Sends a request; resolves with its answer, rejects with a `RequestError`. */
  async request<Name extends keyof Requests>(
    name: Name,
    payload: Requests[Name]["payload"],
  ): Promise<Requests[Name]["answer"]> {
    // Nothing is left to the client's own buffer: what to send after a reconnect is decided by who asked.
    if (!this.#socket.connected) throw new RequestError({ code: DISCONNECTED, message: "not connected" });
    const ack: Ack<Requests[Name]["answer"]> = await this.#socket
      .timeout(ANSWER_TIMEOUT)
      .emitWithAck(name, payload)
      .catch((error: Error) => {
        const code = this.#socket.connected ? TIMED_OUT : DISCONNECTED;
        throw new RequestError({ code, message: error.message });
      });
    if (!ack.success) throw new RequestError(ack.error);
    return ack;
  }

  /** Says whether we are typing; nobody waits for an answer. */
  sendTyping(conversationId: string, isTyping: boolean): void {
    if (this.#socket.connected) this.#socket.emit("typing", { conversationId, isTyping });
  }

  #follow(): void {
    const socket = this.#socket;
    socket.on("connect", () => this.#set({ state: "online", transport: socket.io.engine.transport.name }));
    socket.io.on("open", () => {
      socket.io.engine.on("upgrade", ({ name }: { name: string }) => {
        if (this.#status.state === "online") this.#set({ state: "online", transport: name });
      });
    });
    this.on("session", (session) => {
      this.#session = session;
      this.changed();
    });
    socket.on("disconnect", (reason) => {
      if (reason === "io client disconnect") return;
      this.#set({ state: reason === "io server disconnect" ? "closed" : "offline" });
    });
    socket.on("connect_error", (error) => {
      // The client goes on trying if it was the transport, and stops if the server refused us.
      if (socket.active) this.#set({ state: "offline" });
      else this.#set({ state: "refused", failure: refusalOf(error) });
    });
  }

  #set(status: Status): void {
    this.#status = status;
    this.changed();
  }
}

function refusalOf(error: Error & { data?: Partial<Failure> }): Failure {
  return { code: "", message: error.message, ...error.data };
}
