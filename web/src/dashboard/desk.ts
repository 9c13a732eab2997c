import { DISCONNECTED, type Failure, TIMED_OUT } from "../../packages/client/src/failure.ts";
import type { Status } from "../../packages/client/src/line/line.ts";
import { SocketLine } from "../../packages/client/src/line/socket.ts";
import { TOKEN, tab } from "../model/storage.ts";
import { type Point, type Reading, Ring, ratesOf } from "./figures.ts";
import { Journal } from "./journal.ts";
import type { Node, Rooms, Socket, Sockets, Statistics } from "./types.ts";
import { many } from "./words.ts";

/** Delay between the last answer and the next request for figures, in milliseconds. */
const POLL_INTERVAL = 2_000;
/** Rooms are requested with every n-th request for figures. */
const ROOMS_EVERY = 5;
/** Maximum number of shown rooms. */
export const SHOWN_ROOMS = 20;
/** Maximum number of shown sockets. */
const SHOWN_SOCKETS = 50;
/** Five minutes of figures. */
const POINTS = 150;
/** Timeout of requests, in milliseconds. */
const REQUEST_TIMEOUT = 5_000;

/** A part of the dashboard that requires its own permission. */
export type Part = "figures" | "servers" | "rooms";

/** The sockets of the requested user. */
export interface Found {
  userId: string;
  sockets: readonly Socket[];
  hasMore: boolean;
  missing: number;
}

/**
 * The state of the dashboard. Figures are polled at an interval while the page is visible. The
 * server only pushes refusals, summed up once a second, and rare events of servers.
 */
export class Desk {
  /**
   * `out` without a session, with the reason if there is one; `forbidden` without the permission;
   * `in` for an admin.
   */
  phase: "out" | "forbidden" | "in" = "out";
  reason = "";
  reading: Reading | undefined;
  /** When the newest figures arrived. */
  asOf: Date | undefined;
  /** When the connection was lost. */
  lostAt: Date | undefined;
  /** The parts whose last request failed while connected, with the reason. */
  readonly troubles = new Map<Part, string>();
  nodes: readonly Node[] = [];
  rooms: Rooms | undefined;
  readonly points = new Ring<Point>(POINTS);
  readonly journal = new Journal();
  /** The parts that the user's role does not permit. */
  readonly denied = new Set<Part>();
  /**
   * Called after each change; an urgent change is drawn immediately, because a hidden tab gets no
   * frames.
   */
  changed: (isUrgent?: boolean) => void = () => {};
  #token = "";
  #line: SocketLine | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Counts visits, to ignore results that belong to an earlier one. */
  #visit = 0;
  #polls = 0;
  #isPolling = false;
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  get status(): Status {
    return this.#line?.status ?? { state: "idle" };
  }

  get isOnline(): boolean {
    return this.#line?.isReady ?? false;
  }

  start(): void {
    document.addEventListener("visibilitychange", () => void this.#poll());
    const token = tab.get(TOKEN);
    if (token !== undefined) this.#enter(token);
  }

  signIn(text: string): void {
    const token = text.trim();
    tab.set(TOKEN, token);
    this.#enter(token);
  }

  signOut(): void {
    tab.remove(TOKEN);
    this.#leave("out");
  }

  /** Returns to the form, for another token. */
  signInAgain(): void {
    this.#leave("out");
  }

  /** Returns the sockets of a user on all servers. Throws an error that `explain` can render. */
  async find(userId: string): Promise<Found> {
    const query = new URLSearchParams({ userId, limit: String(SHOWN_SOCKETS) });
    const { sockets, hasMore, missing } = (await this.#fetch(`/sockets?${query}`)) as Sockets;
    return { userId, sockets, hasMore, missing };
  }

  /** Closes the connections of a user. Returns the outcome as a text. */
  async kick(userId: string): Promise<string> {
    const { disconnected, missing } = (await this.#request("admin:kick", { userId })) as { disconnected: number; missing: number };
    return `${many(disconnected, "connection")} closed.${unansweredText(missing)}`;
  }

  /** Blocks an address. Returns the outcome as a text. */
  async block(cidr: string, reason: string, seconds: number | undefined): Promise<string> {
    const answer = (await this.#request("admin:block", { cidr, reason, ...(seconds !== undefined && { seconds }) })) as { cidr: string; expiresAt?: string };
    return `${answer.cidr} is blocked ${answer.expiresAt === undefined ? "permanently" : `until ${new Date(answer.expiresAt).toLocaleString()}`}.`;
  }

  #enter(token: string): void {
    this.#leave("in");
    this.#token = token;
    const line = (this.#line = new SocketLine("/admin", { auth: { token }, sessionEvent: false, socket: { path: this.#socketPath } }, () => {}));
    line.watch("changed", () => this.#handleStatus(line.status));
    line.watch("ready", () => {
      this.lostAt = undefined;
      void this.#poll();
    });
    this.journal.follow(line, () => this.changed());
    line.open();
    this.changed();
  }

  #leave(phase: Desk["phase"], reason = ""): void {
    clearTimeout(this.#timer);
    this.#visit += 1;
    this.#isPolling = false;
    this.#line?.close();
    this.#line = undefined;
    this.#token = "";
    this.phase = phase;
    this.reason = reason;
    this.reading = this.asOf = this.lostAt = this.rooms = undefined;
    this.troubles.clear();
    this.nodes = [];
    this.points.clear();
    this.journal.clear();
    this.denied.clear();
    // Users and addresses must not stay in the document of a hidden tab.
    this.changed(true);
  }

  #handleStatus(status: Status): void {
    if (status.state === "refused" || status.state === "closed") {
      const code = status.failure?.code;
      // The token may be valid for the chat of this tab, so it is not removed.
      if (code === "FORBIDDEN") return this.#leave("forbidden");
      tab.remove(TOKEN);
      return this.#leave("out", code === "UNAUTHENTICATED" ? "This token is invalid or has expired." : "Your access to this page has ended.");
    }
    if (!this.isOnline && this.asOf !== undefined) this.lostAt ??= new Date();
    this.changed();
  }

  /**
   * Requests the shown data, and repeats this after a delay, unless the page is hidden or
   * disconnected.
   */
  async #poll(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#isPolling || !this.isOnline || document.visibilityState === "hidden") return;
    const visit = this.#visit;
    this.#isPolling = true;
    const includesRooms = this.#polls % ROOMS_EVERY === 0;
    this.#polls += 1;
    await Promise.all([
      this.#part("figures", visit, async () => this.#take((await this.#request("admin:stats")) as Statistics, visit)),
      this.#part("servers", visit, async () => {
        const { nodes } = (await this.#fetch("/nodes")) as { nodes: Node[] };
        if (visit === this.#visit) this.nodes = nodes;
      }),
      includesRooms &&
        this.#part("rooms", visit, async () => {
          const rooms = (await this.#fetch(`/rooms?order=size&limit=${SHOWN_ROOMS}`)) as Rooms;
          if (visit === this.#visit) this.rooms = rooms;
        }),
    ]);
    if (visit !== this.#visit) return;
    this.#isPolling = false;
    this.#timer = setTimeout(() => void this.#poll(), POLL_INTERVAL);
    this.changed();
  }

  /**
   * Requests one part. A denied part is not requested again, because each attempt would count as a
   * refusal.
   */
  async #part(part: Part, visit: number, take: () => Promise<void>): Promise<void> {
    if (this.denied.has(part)) return;
    try {
      await take();
      if (visit === this.#visit) this.troubles.delete(part);
    } catch (error) {
      if (visit !== this.#visit) return;
      if (isDenied(error)) this.denied.add(part);
      else this.troubles.set(part, explain(error));
    }
  }

  #take(statistics: Statistics, visit: number): void {
    if (visit !== this.#visit) return;
    const now: Reading = { at: performance.now(), statistics };
    const rates = ratesOf(this.reading, now);
    this.points.push({ at: now.at, connections: statistics.sessions.total, ...(rates && { rates }) });
    this.reading = now;
    this.asOf = new Date();
  }

  async #request(event: string, payload: object = {}): Promise<unknown> {
    if (this.#line === undefined) throw new Error("not signed in");
    return this.#line.request(event, payload, REQUEST_TIMEOUT);
  }

  async #fetch(path: string): Promise<unknown> {
    const headers = { authorization: `Bearer ${this.#token}` };
    const response = await fetch(`/api/v1${path}`, { headers, cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(REQUEST_TIMEOUT) });
    const body = (await response.json()) as { error?: Failure };
    if (!response.ok) throw Object.assign(new Error(body.error?.message ?? response.statusText), body.error);
    return body;
  }
}

/** Returns a text about servers that have not answered. */
export function unansweredText(missing: number): string {
  return missing === 0 ? "" : ` ${many(missing, "server")} did not answer.`;
}

function isDenied(error: unknown): boolean {
  return (error as Partial<Failure>).code === "FORBIDDEN";
}

/** Returns the text of a failure for an admin. */
export function explain(error: unknown): string {
  const { code, message = "" } = error as Partial<Failure>;
  switch (code) {
    case "FORBIDDEN":
      return "Your role does not permit that.";
    case "RATE_LIMITED":
      return "You are sending requests too fast. Please try again.";
    case DISCONNECTED:
      return "The connection was lost.";
    case "INVALID_PAYLOAD":
      return `The server did not accept this: ${message}.`;
    default:
      // An error without a code does not come from the server.
      return typeof code === "string" && code !== TIMED_OUT ? `The server refused this: ${message}.` : "The server did not answer.";
  }
}
