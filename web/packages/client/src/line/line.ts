import { Emitter } from "../emitter.ts";
import type { Failure } from "../failure.ts";
import type { Session } from "../types.ts";

/** How long a request waits for its answer unless it says so itself. */
export const ANSWER_TIMEOUT = 10_000;

/** A request that has waited so long for its answer makes the connection a slow one. */
export const SLOW_AFTER = 3_000;

/** How the connection is doing. */
export type Status =
  /** Not opened yet, or closed on purpose. */
  | { state: "idle" }
  | { state: "connecting" }
  /** With `slow`, a request has waited for 3 s for its answer and none has come since. */
  | { state: "online"; transport: string; slow?: true | undefined }
  /** Connected, but a request was not answered in time and nothing has come since. */
  | { state: "unresponsive"; transport: string }
  /** Lost or not reachable; the next attempt comes by itself. */
  | { state: "offline"; failure?: Failure }
  /** The server refused us; another attempt takes a decision. */
  | { state: "refused"; failure: Failure }
  /** The server sent us away; another attempt takes a decision. */
  | { state: "closed"; failure?: Failure };

/** What is said about the line itself, beside the events of the server. */
export interface LineEvents {
  /** `status` or `session` have changed. */
  changed: () => void;
  /** Connected, and the server has said who we are; once for each connection. */
  ready: () => void;
  /** The connection is gone. */
  lost: () => void;
}

/** The way to the server: a connection of this tab, or one that another tab shares with it. */
export interface Line {
  readonly status: Status;
  /** Who the server says we are. */
  readonly session: Session | undefined;
  /** Whether requests are sent now. */
  readonly isReady: boolean;
  /** Whether this tab has the connection; absent if no other tab can have it. */
  readonly isLeader?: boolean;
  open(): void;
  close(): void;
  /** Tries at once instead of waiting for the next attempt. */
  retry(): void;
  watch<Name extends keyof LineEvents>(name: Name, listener: LineEvents[Name]): () => void;
  /** Listens to an event of the server. */
  on(name: string, listener: (...args: never[]) => void): () => void;
  /** Asks the server; resolves with its acknowledgement, rejects with a `RequestError`. */
  ask(name: string, payload?: unknown, timeout?: number): Promise<unknown>;
  /** Sends an event if there is a connection; nobody waits for an answer. */
  tell(name: string, payload?: unknown): void;
  /** Sends an event that ends something, unless others on the same connection may still want it. */
  release(name: string, payload?: unknown): void;
}

export type LineState = Pick<Line, "status" | "session" | "isReady">;

export const IDLE: LineState = { status: { state: "idle" }, session: undefined, isReady: false };

/** The state of a line, and the listeners to its changes. */
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
