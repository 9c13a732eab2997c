import { DISCONNECTED, type Failure, TIMED_OUT } from "../../packages/client/src/failure.ts";
import type { Status } from "../../packages/client/src/line/line.ts";
import { SocketLine } from "../../packages/client/src/line/socket.ts";
import { TOKEN, tab } from "../model/storage.ts";
import type { Diagnosis } from "./diagnosis.ts";
import { Api, REQUEST_TIMEOUT } from "./drill/api.ts";
import { type Point, type Reading, Ring, ratesOf } from "./figures.ts";
import { Journal } from "./journal.ts";
import type { Cluster, Node, Rooms } from "./types.ts";
import { Titles } from "./titles.ts";
import { exactTime } from "../words/time.ts";
import { many } from "./words.ts";

/** Delay between the last answer and the next request for figures, in milliseconds. */
const POLL_INTERVAL = 2_000;
/** Rooms and the diagnosis are requested with every n-th request for figures. */
const ROOMS_EVERY = 5;
/** Maximum number of shown rooms of conversations and applications. */
export const SHOWN_ROOMS = 50;
/** Maximum number of requested rooms. */
const MAX_ROOMS = 200;
/** Five minutes of figures. */
const POINTS = 150;
/** Age in milliseconds from which on data is shown as old although the server is connected. */
const OLD_AFTER = 12_000;

/** A part of the dashboard that requires its own permission. */
export type Part = "figures" | "servers" | "rooms" | "diagnosis";

/** What the page shows. */
export const VIEWS = ["overview", "activity", "sockets", "rooms", "channels", "blocks", "alerts"] as const;
export type View = (typeof VIEWS)[number];

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
  view: View = "overview";
  cluster: Cluster | undefined;
  /** When the newest figures arrived. */
  asOf: Date | undefined;
  /** When the connection was lost. */
  lostAt: Date | undefined;
  /** The parts whose last request failed while connected, with the reason. */
  readonly troubles = new Map<Part, string>();
  nodes: readonly Node[] = [];
  rooms: Rooms | undefined;
  diagnosis: Diagnosis | undefined;
  /** The titles of listed conversations, by the names of their rooms. */
  readonly titles = new Titles();
  /** What the shown view begins with: a search for sockets, or a room. */
  target: { search?: string; room?: string } = {};
  readonly points = new Ring<Point>(POINTS);
  readonly journal = new Journal();
  /** The parts that the user's role does not permit. */
  readonly denied = new Set<Part>();
  /**
   * Called after each change; an urgent change is drawn immediately, because a hidden tab gets no
   * frames.
   */
  changed: (isUrgent?: boolean) => void = () => {};
  /** The HTTP API with the token of the admin, while signed in. */
  api: Api | undefined;
  #reading: Reading | undefined;
  /** When each part arrived last. */
  readonly #arrivals = new Map<Part, Date>();
  #clock: ReturnType<typeof setInterval> | undefined;
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

  /** The HTTP API. Throws an error that `explain` can render if the admin has signed out. */
  get apiOrThrow(): Api {
    if (this.api === undefined) throw new Error("not signed in");
    return this.api;
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

  show(view: View, target: Desk["target"] = {}): void {
    this.view = view;
    this.target = target;
    this.changed(true);
  }

  /** Shows the sockets of a user or an address. */
  find(search: string): void {
    this.show("sockets", { search });
  }

  openRoom(room: string): void {
    this.show("rooms", { room });
  }

  /** The time in milliseconds since the connection was lost, on which events arrive. */
  get silence(): number | undefined {
    return this.isOnline || this.lostAt === undefined ? undefined : Date.now() - this.lostAt.getTime();
  }

  /**
   * Returns the age of a part in milliseconds if it is old: the server is not connected, or has
   * stopped answering.
   */
  oldness(part: Part): number | undefined {
    const arrival = this.#arrivals.get(part);
    if (arrival === undefined) return undefined;
    const age = Date.now() - arrival.getTime();
    const expected = part === "rooms" || part === "diagnosis" ? ROOMS_EVERY * POLL_INTERVAL : 0;
    return !this.isOnline || age > OLD_AFTER + expected ? age : undefined;
  }

  /** Closes the connections of a user. Returns the outcome as a text. */
  async kick(userId: string): Promise<string> {
    const { disconnected, missing } = (await this.#request("admin:kick", { userId })) as { disconnected: number; missing: number };
    return `${many(disconnected, "connection")} closed.${unansweredText(missing)}`;
  }

  /** Blocks an address. Returns the outcome as a text. */
  async block(cidr: string, reason: string, seconds: number | undefined): Promise<string> {
    const answer = (await this.#request("admin:block", { cidr, reason, ...(seconds !== undefined && { seconds }) })) as { cidr: string; expiresAt?: string };
    return `${answer.cidr} is blocked ${answer.expiresAt === undefined ? "permanently" : `until ${exactTime(answer.expiresAt)}`}.`;
  }

  #enter(token: string): void {
    this.#leave("in");
    this.api = new Api(token);
    // Ages grow without an event.
    this.#clock = setInterval(() => {
      if (this.asOf !== undefined) this.changed();
    }, 1_000);
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
    clearInterval(this.#clock);
    this.#visit += 1;
    this.#isPolling = false;
    this.#line?.close();
    this.#line = undefined;
    this.api = undefined;
    this.view = "overview";
    this.phase = phase;
    this.reason = reason;
    this.cluster = this.#reading = this.asOf = this.lostAt = this.rooms = this.diagnosis = undefined;
    this.target = {};
    this.titles.clear();
    this.#arrivals.clear();
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
    const { api } = this;
    if (api === undefined) return;
    const visit = this.#visit;
    this.#isPolling = true;
    const includesRooms = this.#polls % ROOMS_EVERY === 0;
    this.#polls += 1;
    await Promise.all([
      this.#part("figures", visit, () => api.cluster(), (cluster) => this.#take(cluster)).then(async () => {
        // The same permission is not refused twice.
        if (includesRooms && !this.denied.has("figures")) await this.#part("diagnosis", visit, () => api.diagnosis(), (diagnosis) => (this.diagnosis = diagnosis));
      }),
      this.#part("servers", visit, () => api.nodes(), (nodes) => (this.nodes = nodes)),
      includesRooms && this.#part("rooms", visit, () => roomsOf(api), (rooms) => (this.rooms = rooms)),
    ]);
    if (visit !== this.#visit) return;
    if (includesRooms) await this.titles.load(api, this.#listedRooms());
    if (visit !== this.#visit) return;
    this.#isPolling = false;
    this.#timer = setTimeout(() => void this.#poll(), POLL_INTERVAL);
    this.changed();
  }

  /**
   * Requests one part. A denied part is not requested again, because each attempt would count as a
   * refusal.
   */
  async #part<Answer>(part: Part, visit: number, request: () => Promise<Answer>, take: (answer: Answer) => void): Promise<void> {
    if (this.denied.has(part)) return;
    try {
      const answer = await request();
      if (visit !== this.#visit) return;
      take(answer);
      this.#arrivals.set(part, new Date());
      this.troubles.delete(part);
    } catch (error) {
      if (visit !== this.#visit) return;
      if (isDenied(error)) this.denied.add(part);
      else this.troubles.set(part, explain(error));
    }
  }

  #listedRooms(): string[] {
    const top = this.diagnosis?.top.filter(({ subject }) => subject === "room") ?? [];
    return [...(this.rooms?.rooms ?? []).map(({ room }) => room), ...top.flatMap(({ entries }) => entries.map(({ name }) => name))];
  }

  #take(cluster: Cluster): void {
    const traffic = new Map(cluster.servers.map(({ name, statistics }) => [name, statistics.traffic]));
    const now: Reading = { at: performance.now(), traffic };
    const rates = ratesOf(this.#reading, now);
    this.points.push({ at: now.at, connections: cluster.total.sessions.total, ...(rates && { rates }) });
    this.#reading = now;
    this.cluster = cluster;
    this.asOf = new Date();
  }

  async #request(event: string, payload: object = {}): Promise<unknown> {
    if (this.#line === undefined) throw new Error("not signed in");
    return this.#line.request(event, payload, REQUEST_TIMEOUT);
  }
}

/** Requests the largest rooms, and the largest of conversations, which may be smaller than others. */
async function roomsOf(api: Api): Promise<Rooms> {
  const [all, ofConversations] = await Promise.all([api.rooms({ limit: MAX_ROOMS }), api.rooms({ prefix: "conversation:", limit: SHOWN_ROOMS })]);
  const listed = new Set(all.rooms.map(({ room }) => room));
  return { rooms: [...all.rooms, ...ofConversations.rooms.filter(({ room }) => !listed.has(room))], hasMore: all.hasMore, missing: Math.max(all.missing, ofConversations.missing) };
}

/** Returns a text about servers that have not answered. */
export function unansweredText(missing: number): string {
  return missing === 0 ? "" : ` ${many(missing, "server")} did not answer.`;
}

/** Returns whether the role does not permit a request. */
export function isDenied(error: unknown): boolean {
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
    case "NOT_FOUND":
      return "It no longer exists.";
    case DISCONNECTED:
      return "The connection was lost.";
    case "INVALID_PAYLOAD":
      return `The server did not accept this: ${message}.`;
    default:
      // An error without a code does not come from the server.
      return typeof code === "string" && code !== TIMED_OUT ? `The server refused this: ${message}.` : "The server did not answer.";
  }
}
