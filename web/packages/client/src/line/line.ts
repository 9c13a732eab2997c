import { Emitter } from "../emitter.ts";
import type { Failure } from "../failure.ts";
import type { Session } from "../types.ts";

/** Default timeout of a request in milliseconds. */
export const ANSWER_TIMEOUT = 10_000;

/** The connection counts as slow after a request has waited this number of milliseconds. */
export const SLOW_AFTER = 3_000;

/** The state of the connection. */
export type Status =
  /** Not opened yet, or closed by the application. */
  | { state: "idle" }
  | { state: "connecting" }
  /** With `slow`, a request has waited for an answer for 3 s, and no answer has arrived since. */
  | { state: "online"; transport: string; slow?: true | undefined }
  /** Connected, but a request has timed out and no packet has arrived since. */
  | { state: "unresponsive"; transport: string }
  /** Disconnected or unreachable. The next attempt is automatic. */
  | { state: "offline"; failure?: Failure }
  /** The server refused the connection. It is not repeated before `retry`. */
  | { state: "refused"; failure: Failure }
  /** The server closed the connection. It is not repeated before `retry`. */
  | { state: "closed"; failure?: Failure };

/** The events of the line itself, in addition to the events of the server. */
export interface LineEvents {
  /** `status` or `session` has changed. */
  changed: () => void;
  /**
   * The client is connected and the server has announced the session. Emitted once per connection.
   */
  ready: () => void;
  /** The connection is lost. */
  lost: () => void;
}

/** A connection to the server: of this tab, or of another tab that shares it. */
export interface Line {
  readonly status: Status;
  /** The current session as the server announced it. */
  readonly session: Session | undefined;
  /** Whether requests can be sent now. */
  readonly isReady: boolean;
  /** Whether this tab owns the connection. Absent if tabs do not share connections. */
  readonly isLeader?: boolean;
  open(): void;
  close(): void;
  /** Connects immediately instead of waiting for the next attempt. */
  retry(): void;
  watch<Name extends keyof LineEvents>(name: Name, listener: LineEvents[Name]): () => void;
  /** Listens to an event of the server. */
  on(name: string, listener: (...args: never[]) => void): () => void;
  /** Sends a request. Resolves with the acknowledgement, rejects with a `RequestError`. */
  request(name: string, payload?: unknown, timeout?: number): Promise<unknown>;
  /** Sends an event if there is a connection, without waiting for an answer. */
  emit(name: string, payload?: unknown): void;
  /**
   * Sends an event that ends a subscription or leaves a room, unless other tabs on the same
   * connection may need it.
   */
  release(name: string, payload?: unknown): void;
}

export type LineState = Pick<Line, "status" | "session" | "isReady">;

export const IDLE: LineState = { status: { state: "idle" }, session: undefined, isReady: false };

/** Holds the state of a line and its listeners. */
export class ObservedLine {
  #state = IDLE;
  readonly #events = new Emitter<LineEvents>();

  get state(): LineState {
    return this.#state;
  }

  get status(): Status {
    return this.#state.status;
  }

  get session(): Session | undefined {
    return this.#state.session;
  }

  get isReady(): boolean {
    return this.#state.isReady;
  }

  watch<Name extends keyof LineEvents>(name: Name, listener: LineEvents[Name]): () => void {
    return this.#events.on(name, listener as never);
  }

  protected become(change: Partial<LineState>): void {
    const wasReady = this.isReady;
    this.#state = { ...this.#state, ...change };
    if (wasReady && !this.isReady) this.#events.emit("lost");
    this.#events.emit("changed");
    if (!wasReady && this.isReady) this.#events.emit("ready");
  }
}
