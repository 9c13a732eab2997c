import { DISCONNECTED, type Failure, TIMED_OUT } from "../../packages/client/src/failure.ts";
import type { Status } from "../../packages/client/src/line/line.ts";
import { SocketLine } from "../../packages/client/src/line/socket.ts";
import { TOKEN, tab } from "../model/storage.ts";
import { type Point, type Reading, Ring, ratesOf } from "./figures.ts";
import { Journal } from "./journal.ts";
import type { Node, Rooms, Socket, Sockets, Statistics } from "./types.ts";
import { many } from "./words.ts";

/** Figures are asked for so many milliseconds after the last answer, and rooms every so many times. */
const PACE = 2_000;
const ROOMS_EVERY = 5;
/** So much is shown of what may be long. */
export const SHOWN_ROOMS = 20;
const SHOWN_SOCKETS = 50;
/** Five minutes of figures. */
const POINTS = 150;
const PATIENCE = 5_000;

/** A part of what is shown that a role may lack the permission for. */
export type Part = "figures" | "servers" | "rooms";

/** The sockets of the user that was looked for. */
export interface Found {
  userId: string;
  sockets: readonly Socket[];
  hasMore: boolean;
  missing: number;
}

/**
 * What the dashboard knows. Figures are pulled at a pace of its own, for as long as somebody looks; what the server tells by itself
 * are refusals, added up once a second, and the rare events of servers.
 */
export class Desk {
  /** Nobody is in, with the reason if there is one; somebody is in who may not be here; or an admin is. */
  phase: "out" | "forbidden" | "in" = "out";
  reason = "";
  reading: Reading | undefined;
  /** When the newest figures came. */
  asOf: Date | undefined;
  /** Since when there is no connection. */
  lostAt: Date | undefined;
  /** Which parts did not come the last time although there is a connection, and why. */
  readonly troubles = new Map<Part, string>();
  nodes: readonly Node[] = [];
  rooms: Rooms | undefined;
  readonly points = new Ring<Point>(POINTS);
  readonly journal = new Journal();
  /** What the role of whoever looks does not permit. */
  readonly denied = new Set<Part>();
  /** Called after each change; an urgent change is drawn immediately, because a hidden tab gets no frames. */
  changed: (isUrgent?: boolean) => void = () => {};
  #token = "";
  #line: SocketLine | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Counts visits, so that what belongs to an earlier one is told from what belongs to this. */
  #visit = 0;
  #turn = 0;
  #isAsking = false;
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
    document.addEventListener("visibilitychange", () => void this.#pull());
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

  /** Back to the form, for another token. */
  signInAgain(): void {
    this.#leave("out");
  }

  /** Finds the sockets of a user at all servers. Fails with words for people. */
  async find(userId: string): Promise<Found> {
    const query = new URLSearchParams({ userId, limit: String(SHOWN_SOCKETS) });
    const { sockets, hasMore, missing } = (await this.#fetch(`/sockets?${query}`)) as Sockets;
    return { userId, sockets, hasMore, missing };
  }

  /** Closes the connections of a user; says what came of it. */
  async kick(userId: string): Promise<string> {
    const { disconnected, missing } = (await this.#ask("admin:kick", { userId })) as { disconnected: number; missing: number };
    return `${many(disconnected, "connection")} closed.${silent(missing)}`;
  }

  /** Shuts an address out; says what came of it. */
  async block(cidr: string, reason: string, seconds: number | undefined): Promise<string> {
    const answer = (await this.#ask("admin:block", { cidr, reason, ...(seconds !== undefined && { seconds }) })) as { cidr: string; expiresAt?: string };
    return `${answer.cidr} is blocked ${answer.expiresAt === undefined ? "for good" : `until ${new Date(answer.expiresAt).toLocaleString()}`}.`;
  }

  #enter(token: string): void {
    this.#leave("in");
    this.#token = token;
    const line = (this.#line = new SocketLine("/admin", { auth: { token }, sessionEvent: false, socket: { path: this.#socketPath } }, () => {}));
    line.watch("changed", () => this.#handleStatus(line.status));
    line.watch("ready", () => {
      this.lostAt = undefined;
      void this.#pull();
    });
    this.journal.follow(line, () => this.changed());
    line.open();
    this.changed();
  }

  #leave(phase: Desk["phase"], reason = ""): void {
    clearTimeout(this.#timer);
    this.#visit += 1;
    this.#isAsking = false;
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
      // The chat of this tab goes on with a token that is good for that.
      if (code === "FORBIDDEN") return this.#leave("forbidden");
      tab.remove(TOKEN);
      return this.#leave("out", code === "UNAUTHENTICATED" ? "This token is not valid here, or not any more." : "Your access to this page has ended.");
    }
    if (!this.isOnline && this.asOf !== undefined) this.lostAt ??= new Date();
    this.changed();
  }

  /** Asks for what is shown, and again after a pause, unless nobody looks or there is no connection. */
  async #pull(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#isAsking || !this.isOnline || document.visibilityState === "hidden") return;
    const visit = this.#visit;
    this.#isAsking = true;
    const isRoomsTurn = this.#turn % ROOMS_EVERY === 0;
    this.#turn += 1;
    await Promise.all([
      this.#part("figures", visit, async () => this.#take((await this.#ask("admin:stats")) as Statistics, visit)),
      this.#part("servers", visit, async () => {
        const { nodes } = (await this.#fetch("/nodes")) as { nodes: Node[] };
        if (visit === this.#visit) this.nodes = nodes;
      }),
      isRoomsTurn &&
        this.#part("rooms", visit, async () => {
          const rooms = (await this.#fetch(`/rooms?order=size&limit=${SHOWN_ROOMS}`)) as Rooms;
          if (visit === this.#visit) this.rooms = rooms;
        }),
    ]);
    if (visit !== this.#visit) return;
    this.#isAsking = false;
    this.#timer = setTimeout(() => void this.#pull(), PACE);
    this.changed();
  }

  /** Takes one part. What is not permitted is not asked for again: each attempt would be a refusal. */
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

  async #ask(event: string, payload: object = {}): Promise<unknown> {
    if (this.#line === undefined) throw new Error("nobody is in");
    return this.#line.ask(event, payload, PATIENCE);
  }

  async #fetch(path: string): Promise<unknown> {
    const headers = { authorization: `Bearer ${this.#token}` };
    const response = await fetch(`/api/v1${path}`, { headers, cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(PATIENCE) });
    const body = (await response.json()) as { error?: Failure };
    if (!response.ok) throw Object.assign(new Error(body.error?.message ?? response.statusText), body.error);
    return body;
  }
}

/** What is said of servers that have not answered. */
export function silent(missing: number): string {
  return missing === 0 ? "" : ` ${many(missing, "server")} did not answer.`;
}

function isDenied(error: unknown): boolean {
  return (error as Partial<Failure>).code === "FORBIDDEN";
}

/** Why something did not work, in words for an admin. */
export function explain(error: unknown): string {
  const { code, message = "" } = error as Partial<Failure>;
  switch (code) {
    case "FORBIDDEN":
      return "Your role does not permit that.";
    case "RATE_LIMITED":
      return "That was too fast for this server.";
    case DISCONNECTED:
      return "The connection was lost.";
    case "INVALID_PAYLOAD":
      return `The server did not accept this: ${message}.`;
    default:
      // Without a code it is no answer of the server.
      return typeof code === "string" && code !== TIMED_OUT ? `The server refused this: ${message}.` : "The server did not answer.";
  }
}
