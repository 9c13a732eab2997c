import { DISCONNECTED, RequestError, type SocketManager } from "../../packages/client/src/index.ts";
import type { Notification, NotificationUpdate } from "../types.ts";

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
  #all = new Map<string, Notification>();
  /** Read here or elsewhere: such a one does not come again. */
  readonly #read = new Set<string>();
  /** Read, and not told to the server yet. */
  readonly #untold = new Set<string>();
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
        this.#revision = snapshot.revision;
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

  unread(now: number): number {
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

  /** Tells the server what was read, one by one, as fast as it takes that. */
  async #tell(): Promise<void> {
    if (this.#isTelling) return;
    this.#isTelling = true;
    let hasTold = false;
    for (let [id] = this.#untold; id !== undefined && !this.#isClosed; [id] = this.#untold) {
      const failure = await this.#acknowledge(id);
      // The next session goes on.
      if (failure?.code === DISCONNECTED) break;
      if (failure === undefined || FINAL.has(failure.code)) this.#untold.delete(id);
      else await new Promise((done) => setTimeout(done, failure.retryAfter ?? PAUSE));
      hasTold = true;
    }
    this.#isTelling = false;
    if (hasTold && this.hasMore && this.#untold.size === 0 && this.unread(Date.now()) === 0) void this.#more();
  }

  async #acknowledge(notificationId: string): Promise<RequestError | undefined> {
    try {
      await this.#connection.request("notification:ack", { notificationId });
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
