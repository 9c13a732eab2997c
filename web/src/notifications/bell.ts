import { DISCONNECTED, RequestError, type SocketManager } from "../../packages/client/src/index.ts";
import type { AcknowledgedNotification, Notification, NotificationHistory, NotificationUpdate } from "../types.ts";

/** Error codes after which an acknowledgement is not repeated: the notification does not exist. */
const FINAL = new Set(["NOT_FOUND", "FORBIDDEN", "INVALID_PAYLOAD"]);
/** Delay before a failed acknowledgement is repeated, in milliseconds. */
const RETRY_DELAY = 1_000;
const MAX_REMEMBERED = 1_000;
/** The beginning of the ids of notifications of mentions. */
const MENTION = "mention:";

type Connection = Pick<SocketManager, "on" | "request" | "subscribe" | "watch">;

/** The notifications of the user, until they are read in any tab. */
export class Bell {
  /** Whether older ones exist. They are loaded after these are read. */
  hasMore = false;
  #revision = -1;
  /** All notifications up to this revision have arrived. Only urgent ones overtake others. */
  #through = -1;
  /**
   * The server's count of unread notifications, including those that are not in the list, and the
   * revision of the count.
   */
  #counted = { unread: 0, revision: -1 };
  #all = new Map<string, Notification>();
  /** Ids that were read in any tab. A notification with such an id is not added again. */
  readonly #read = new Set<string>();
  /** Ids that were read but not acknowledged to the server. */
  readonly #unacknowledged = new Set<string>();
  /** All notifications up to this revision were read, but not acknowledged to the server. */
  #unacknowledgedThrough: number | undefined;
  #isAcknowledging = false;
  #isClosed = false;
  readonly #connection: Connection;
  readonly #changed: () => void;
  readonly #ends: (() => void)[];

  /** `received` is called with each new notification. */
  constructor(connection: Connection, changed: () => void, received: (notification: Notification) => void) {
    this.#connection = connection;
    this.#changed = changed;
    const take = (update: NotificationUpdate) => {
      if (this.#take(update)) received(update);
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
        this.#unacknowledged.delete(notificationId);
        changed();
      }),
      connection.on("notifications:acked", ({ notificationIds }) => {
        for (const id of notificationIds) {
          this.#note(id);
          this.#unacknowledged.delete(id);
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
        this.#unacknowledged.delete(notificationId);
        changed();
      }),
      connection.watch("session", () => void this.#acknowledge()),
      connection.subscribe("subscribe:notifications"),
    ];
  }

  /** Returns the notifications, the newest first, without expired ones. */
  list(now: number): Notification[] {
    return [...this.#all.values()].filter(({ expiresAt }) => !(Date.parse(expiresAt) <= now)).reverse();
  }

  /** The ids of the conversations with unread mentions of the user. */
  get mentions(): Set<string> {
    const unread = this.list(Date.now()).filter(({ notificationId }) => notificationId.startsWith(MENTION) && !this.isRead(notificationId));
    return new Set(unread.flatMap(({ actionUrl }) => /#\/c\/([^/]+)/.exec(actionUrl ?? "")?.[1] ?? []));
  }

  isRead(id: string): boolean {
    return this.#read.has(id);
  }

  /** Returns the number of unread notifications, including those that are not in the list. */
  unread(now: number): number {
    const listed = this.#listed(now);
    // The server's count includes those that are read but not acknowledged. The list is counted
    // exactly.
    const counted = this.#unacknowledgedThrough === undefined ? this.#counted.unread - this.#unacknowledged.size : 0;
    return this.hasMore ? Math.max(listed, counted) : listed;
  }

  #listed(now: number): number {
    return this.list(now).filter(({ notificationId }) => !this.isRead(notificationId)).length;
  }

  /** Marks a notification as read. It stays in the list until the list is closed. */
  read(id: string): void {
    if (this.isRead(id)) return;
    this.#note(id);
    this.#unacknowledged.add(id);
    void this.#acknowledge();
    this.#changed();
  }

  /** Marks all received and older notifications as read, with one request. */
  readAll(): void {
    this.#unacknowledgedThrough = this.#through;
    for (const [id, one] of this.#all) {
      if (this.isRead(id)) continue;
      this.#note(id);
      // An urgent one may have overtaken others, which the user has not seen.
      if (revisionOf(one) > this.#through) this.#unacknowledged.add(id);
    }
    void this.#acknowledge();
    this.#changed();
  }

  /** Returns a page of notifications that were read before, the newest first. */
  history(cursor?: string): Promise<NotificationHistory> {
    return this.#connection.request("notifications:history", cursor === undefined ? {} : { cursor });
  }

  /** Removes read notifications after the list was closed. */
  sweep(): void {
    for (const id of this.#all.keys()) if (this.isRead(id)) this.#all.delete(id);
    this.#changed();
  }

  close(): void {
    this.#isClosed = true;
    for (const end of this.#ends) end();
  }

  #take(update: NotificationUpdate): boolean {
    // Urgent notifications overtake others, so only the snapshot's revision shows whether one is
    // late.
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

  /** Acknowledges read notifications, one request at a time, without delay between them. */
  async #acknowledge(): Promise<void> {
    if (this.#isAcknowledging) return;
    this.#isAcknowledging = true;
    let hasAcknowledged = false;
    while (!this.#isClosed && (this.#unacknowledgedThrough !== undefined || this.#unacknowledged.size > 0)) {
      const failure = await this.#acknowledgeNext();
      // The next session continues.
      if (failure?.code === DISCONNECTED) break;
      if (failure !== undefined) await new Promise((done) => setTimeout(done, failure.retryAfter ?? RETRY_DELAY));
      hasAcknowledged = true;
    }
    this.#isAcknowledging = false;
    if (hasAcknowledged && this.hasMore && this.#unacknowledged.size === 0 && this.#listed(Date.now()) === 0) void this.#more();
  }

  /** Sends one acknowledgement. Returns the failure if it must be repeated. */
  async #acknowledgeNext(): Promise<RequestError | undefined> {
    const through = this.#unacknowledgedThrough;
    if (through !== undefined) {
      const failure = await this.#attempt(() => this.#connection.request("notification:ack_all", { revision: through }));
      if (isFinal(failure) && this.#unacknowledgedThrough === through) {
        this.#unacknowledgedThrough = undefined;
        // The next event or snapshot contains the remaining count.
        this.#counted = { ...this.#counted, unread: this.#unacknowledged.size };
      }
      return isFinal(failure) ? undefined : failure;
    }
    const [notificationId] = this.#unacknowledged;
    if (notificationId === undefined) return undefined;
    const failure = await this.#attempt(() => this.#connection.request("notification:ack", { notificationId }));
    if (isFinal(failure)) this.#unacknowledged.delete(notificationId);
    return isFinal(failure) ? undefined : failure;
  }

  async #attempt(request: () => Promise<unknown>): Promise<RequestError | undefined> {
    try {
      await request();
      return undefined;
    } catch (error) {
      if (error instanceof RequestError) return error;
      throw error;
    }
  }

  /** Requests a new snapshot, which arrives as an event, as after each connect. */
  async #more(): Promise<void> {
    try {
      await this.#connection.request("subscribe:notifications", {});
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
    }
  }
}

/** Whether the acknowledgement is done or can never succeed. */
function isFinal(failure: RequestError | undefined): boolean {
  return failure === undefined || FINAL.has(failure.code);
}

/**
 * Returns the revision of a notification that arrived as an event. Those of the snapshot are older.
 */
function revisionOf(one: Notification | NotificationUpdate): number {
  return "revision" in one ? one.revision : 0;
}

/** The shown part of a notification that was read before. */
export type Earlier = AcknowledgedNotification;

/**
 * Returns the link of a notification: a place in this page by its fragment, or a web address. The
 * server accepts nothing else, but the page checks it again.
 */
export function actionOf(url: string | null, base: string): { href: string; isHere: boolean } | undefined {
  if (url === null || !URL.canParse(url, base)) return undefined;
  const { protocol, username, password, origin, pathname, hash, href } = new URL(url, base);
  if ((protocol !== "http:" && protocol !== "https:") || username !== "" || password !== "") return undefined;
  const here = new URL(base);
  const isHere = origin === here.origin && pathname === here.pathname && hash.startsWith("#/");
  return { href: isHere ? hash : href, isHere };
}
