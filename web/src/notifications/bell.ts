import { DISCONNECTED, RequestError, type SocketManager } from "../../packages/client/src/index.ts";
import type { AcknowledgedNotification, Notification, NotificationHistory, NotificationUpdate } from "../types.ts";

/** Refusals after which telling again is in vain: it is gone, or never was. */
const FINAL = new Set(["NOT_FOUND", "FORBIDDEN", "INVALID_PAYLOAD"]);
const PAUSE = 1_000;
const MAX_REMEMBERED = 1_000;

type Connection = Pick<SocketManager, "on" | "request" | "subscribe" | "watch">;

/** What somebody should know, until it was read in one of the tabs. */
export class Bell {
  /** There are older ones, which come when these are read. */
  hasMore = false;
  #revision = -1;
  /** All up to this revision have come: what is not urgent comes in order. */
  #through = -1;
  /** How many the server counts, also those that did not fit, and when it has counted them. */
  #counted = { unread: 0, revision: -1 };
  #all = new Map<string, Notification>();
  /** Read here or elsewhere: such a one does not come again. */
  readonly #read = new Set<string>();
  /** Read, and not told to the server yet. */
  readonly #untold = new Set<string>();
  /** All up to this revision were read, and the server does not know it yet. */
  #untoldThrough: number | undefined;
  #isTelling = false;
  #isClosed = false;
  readonly #connection: Connection;
  readonly #changed: () => void;
  readonly #ends: (() => void)[];

  /** `rang` is called with what has come just now. */
  constructor(connection: Connection, changed: () => void, rang: (notification: Notification) => void) {
    this.#connection = connection;
    this.#changed = changed;
    const take = (update: NotificationUpdate) => {
      if (this.#take(update)) rang(update);
    };
    this.#ends = [
      connection.on("notifications:subscribed", ({ snapshot }) => {
        this.#revision = this.#through = snapshot.revision;
        this.#counted = { unread: snapshot.unread, revision: snapshot.revision };
        this.hasMore = snapshot.hasMore;
        this.#all = new Map(snapshot.notifications.map((one) => [one.notificationId, one]));
        changed();
      }),
      connection.on("notification:new", take),
      connection.on("notification:batch", ({ notifications }) => notifications.forEach(take)),
      connection.on("notification:acked", ({ notificationId }) => {
        this.#note(notificationId);
        this.#untold.delete(notificationId);
        changed();
      }),
      connection.on("notifications:acked", ({ notificationIds }) => {
        for (const id of notificationIds) {
          this.#note(id);
          this.#untold.delete(id);
        }
        changed();
      }),
      connection.on("notifications:unread", (counted) => {
        if (counted.revision < this.#counted.revision) return;
        this.#counted = counted;
        changed();
      }),
      connection.on("notification:withdrawn", ({ notificationId }) => {
        this.#all.delete(notificationId);
        this.#untold.delete(notificationId);
        changed();
      }),
      connection.watch("session", () => void this.#tell()),
      connection.subscribe("subscribe:notifications"),
    ];
  }

  /** The newest first, without what has ended. */
  list(now: number): Notification[] {
    return [...this.#all.values()].filter(({ expiresAt }) => !(Date.parse(expiresAt) <= now)).reverse();
  }

  isRead(id: string): boolean {
    return this.#read.has(id);
  }

  /** How many are unread, also those that are not in the list. */
  unread(now: number): number {
    const listed = this.#listed(now);
    // What is read here and not told yet is counted by the server. What is in the list is known exactly.
    const counted = this.#untoldThrough === undefined ? this.#counted.unread - this.#untold.size : 0;
    return this.hasMore ? Math.max(listed, counted) : listed;
  }

  #listed(now: number): number {
    return this.list(now).filter(({ notificationId }) => !this.isRead(notificationId)).length;
  }

  /** Somebody has read it. It stays in the list until that is closed. */
  read(id: string): void {
    if (this.isRead(id)) return;
    this.#note(id);
    this.#untold.add(id);
    void this.#tell();
    this.#changed();
  }

  /** All that has come was read, and what is older. The server is told by one request. */
  readAll(): void {
    this.#untoldThrough = this.#through;
    for (const [id, one] of this.#all) {
      if (this.isRead(id)) continue;
      this.#note(id);
      // An urgent one may have overtaken others, which were not seen.
      if (revisionOf(one) > this.#through) this.#untold.add(id);
    }
    void this.#tell();
    this.#changed();
  }

  /** A page of what was read before, the newest first. */
  history(cursor?: string): Promise<NotificationHistory> {
    return this.#connection.request("notifications:history", cursor === undefined ? {} : { cursor });
  }

  /** The list was closed: what was read goes. */
  sweep(): void {
    for (const id of this.#all.keys()) if (this.isRead(id)) this.#all.delete(id);
    this.#changed();
  }

  close(): void {
    this.#isClosed = true;
    for (const end of this.#ends) end();
  }

  #take(update: NotificationUpdate): boolean {
    // What is urgent overtakes what waits, so only the snapshot says what is late.
    const isLate = this.#revision < 0 || update.revision <= this.#revision;
    if (update.priority !== "urgent") this.#through = Math.max(this.#through, update.revision);
    if (isLate || this.#all.has(update.notificationId) || this.isRead(update.notificationId)) return false;
    this.#all.set(update.notificationId, update);
    this.#changed();
    return true;
  }

  #note(id: string): void {
    this.#read.add(id);
    for (const oldest of this.#read) {
      if (this.#read.size <= MAX_REMEMBERED) break;
      if (!this.#all.has(oldest)) this.#read.delete(oldest);
      else break;
    }
  }

  /** Tells the server what was read, one request at a time, as fast as it takes them. */
  async #tell(): Promise<void> {
    if (this.#isTelling) return;
    this.#isTelling = true;
    let hasTold = false;
    while (!this.#isClosed && (this.#untoldThrough !== undefined || this.#untold.size > 0)) {
      const failure = await this.#tellNext();
      // The next session goes on.
      if (failure?.code === DISCONNECTED) break;
      if (failure !== undefined) await new Promise((done) => setTimeout(done, failure.retryAfter ?? PAUSE));
      hasTold = true;
    }
    this.#isTelling = false;
    if (hasTold && this.hasMore && this.#untold.size === 0 && this.#listed(Date.now()) === 0) void this.#more();
  }

  /** Tells the server one thing that was read. Returns the failure if that has to be done again. */
  async #tellNext(): Promise<RequestError | undefined> {
    const through = this.#untoldThrough;
    if (through !== undefined) {
      const failure = await this.#ask(() => this.#connection.request("notification:ack_all", { revision: through }));
      if (isFinal(failure) && this.#untoldThrough === through) {
        this.#untoldThrough = undefined;
        // What is left is counted by the next event or snapshot.
        this.#counted = { ...this.#counted, unread: this.#untold.size };
      }
      return isFinal(failure) ? undefined : failure;
    }
    const [notificationId] = this.#untold;
    if (notificationId === undefined) return undefined;
    const failure = await this.#ask(() => this.#connection.request("notification:ack", { notificationId }));
    if (isFinal(failure)) this.#untold.delete(notificationId);
    return isFinal(failure) ? undefined : failure;
  }

  async #ask(request: () => Promise<unknown>): Promise<RequestError | undefined> {
    try {
      await request();
      return undefined;
    } catch (error) {
      if (error instanceof RequestError) return error;
      throw error;
    }
  }

  /** The snapshot comes as an event, as it does after each connect. */
  async #more(): Promise<void> {
    try {
      await this.#connection.request("subscribe:notifications", {});
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
    }
  }
}

/** Whether the server has it, or never will. */
function isFinal(failure: RequestError | undefined): boolean {
  return failure === undefined || FINAL.has(failure.code);
}

/** The revision of what has come as an event; what was in the snapshot is older than all of these. */
function revisionOf(one: Notification | NotificationUpdate): number {
  return "revision" in one ? one.revision : 0;
}

/** What is shown of a notification that was read before. */
export type Earlier = AcknowledgedNotification;

/**
 * Where a notification leads: within this page by its fragment, or to a web address. The server takes nothing else; a page
 * that trusts nobody looks once more.
 */
export function actionOf(url: string | null, base: string): { href: string; isHere: boolean } | undefined {
  if (url === null || !URL.canParse(url, base)) return undefined;
  const { protocol, username, password, origin, pathname, hash, href } = new URL(url, base);
  if ((protocol !== "http:" && protocol !== "https:") || username !== "" || password !== "") return undefined;
  const here = new URL(base);
  const isHere = origin === here.origin && pathname === here.pathname && hash.startsWith("#/");
  return { href: isHere ? hash : href, isHere };
}
