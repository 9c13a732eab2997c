import { type Entry, SocketManager, type Status } from "../packages/client/src/index.ts";
import { type Credentials, credentials, deleteLocalData, isTokenExpired, removeToken, requestToken, guestKey, detachFromStorage, queueStorage, storeName, storeToken, watchSignOut } from "./model/account.ts";
import type { Conversation } from "./model/conversation.ts";
import { reasonOf } from "./model/draft.ts";
import { Inbox } from "./model/inbox.ts";
import type { Visit } from "./model/visit.ts";
import { waitingNotice } from "./model/change_request.ts";
import { People } from "./model/people.ts";
import type { Bell, actionOf } from "./notifications/bell.ts";
import { Statuses } from "./status/statuses.ts";
import { browser } from "./model/storage.ts";
import type { Market } from "./trading/market.ts";
import type { Message, Notification as UserNotification, Session, UserStatus } from "./types.ts";
import { asFailure, explain } from "./words/failure.ts";
import { excerptOf } from "./words/markdown.ts";
import { isolated, preview } from "./words/text.ts";

const NOTICE_FOR = 8_000;
const MAX_NOTICES = 3;
const MAX_SPOKEN = 20;
/** Number of characters of a message that are read out with its outcome. */
const MAX_SPOKEN_TEXT = 60;
/** The address of the trading page. */
export const TRADING = "#/trading";
const CONVERSATION = /^#\/c\/([0-9a-f-]{36})(?:\/(\d{1,15}))?$/;
/** The storage key of whether the browser announces messages and notifications. */
export const NOTIFY = "roomcast.notify";
/** Error codes after which other credentials are needed. */
const OUT = new Set(["UNAUTHENTICATED", "TOKEN_EXPIRED", "TOKEN_REVOKED", "NO_CREDENTIALS"]);

/** A short note on the page, which disappears by itself. */
export interface Notice {
  readonly key: number;
  readonly text: string;
  /** Whether it reports a failure. */
  readonly isBad: boolean;
  /** The address of its link. */
  readonly href?: string;
  /** Whether it confirms an action, and disappears when a window opens or closes. */
  readonly isLocal?: boolean;
}

export type Dialog = "out" | "new" | "about" | "name" | "search" | "notifications" | "people" | "pins" | "shortcuts" | "status" | "person" | "renew";

/** The place that the address names: a conversation and a message in it, or the trading page. */
export interface Place {
  id?: string;
  seq?: number;
  isTrading?: boolean;
}

/** How users sign in. `server/src/http/page.rs` writes these values into the page. */
export interface Entrance {
  socketPath: string;
  guests: boolean;
  loginUrl: string;
  logoutUrl: string;
  /** Whether all users may open the trading page. */
  market: boolean;
  /** Origins whose pictures are shown. */
  images: readonly string[];
}

/** The state of the page, and its actions. */
export class App {
  people = new People();
  statuses = new Statuses();
  readonly entrance: Entrance;
  /** `signingIn` while the server identifies the user, at the `entry` form, or `in` the chat. */
  phase: "signingIn" | "entry" | "in" = "signingIn";
  /** Why the entry form is shown. */
  reason = "";
  place: Place = {};
  /** Whether the user has chosen the place, and not the page itself. */
  isChosen = false;
  dialog: Dialog | undefined;
  /** The id of the user whose card is open. */
  personId = "";
  /** The token of the invitation of the address `#/i/TOKEN`. */
  invitation: string | undefined;
  notices: readonly Notice[] = [];
  spoken: readonly { key: number; text: string }[] = [];
  /** The conversation that is shown. */
  current: Conversation | undefined;
  /** The market data, after the trading page was opened. */
  market: Market | undefined;
  /** The notifications of the user. */
  bell: Bell | undefined;
  /** The session of this tab, after its code was loaded. */
  visit: Visit | undefined;
  /** When the session ends, if that is known. */
  endsAt: string | undefined;
  /** Whether the user has signed out, so that the reason of the entry form is no failure. */
  isSignedOut = false;
  /** Whether the last credentials were a token. */
  hadToken = false;
  /** Called after each change of the state. With `true`, the page must be drawn immediately. */
  changed: (isUrgent?: boolean) => void = () => {};
  /** Called after text was added to a message. It may be drawn later than other changes. */
  grown: () => void = () => {};
  #manager: SocketManager | undefined;
  #inbox: Inbox | undefined;
  #count = 0;
  /** Whether there was a session on this visit. */
  #wasIn = false;
  /** The user of the first session of this visit. */
  #userId: string | undefined;
  /** The credentials of this connection and of each reconnect. */
  #auth: Credentials = {};

  constructor(entrance: Entrance) {
    this.entrance = entrance;
  }

  get session(): Session | undefined {
    return this.#manager?.session;
  }

  get status(): Status {
    return this.#manager?.status ?? { state: "idle" };
  }

  get inbox(): Inbox | undefined {
    return this.#inbox;
  }

  get connection(): SocketManager | undefined {
    return this.#manager;
  }

  /** Whether the user may open the trading page, and sees the link to it. */
  get showsTrading(): boolean {
    const { session } = this;
    if (session === undefined || session.guest) return false;
    return this.entrance.market || session.permissions.includes("trades:execute");
  }

  /** Whether the user may create conversations and change its own, as guests may not. */
  get mayManage(): boolean {
    return this.session?.permissions.includes("chat:manage") ?? false;
  }

  /** Starts with the stored credentials. */
  start(): void {
    addEventListener("hashchange", () => this.#route(true));
    addEventListener("pagehide", () => this.#inbox?.flush());
    // When the browser is online again, the status of the connection changes as well.
    addEventListener("offline", () => this.changed());
    watchSignOut(() => {
      if (!(this.session?.guest ?? "name" in this.#auth)) return;
      detachFromStorage(this.session?.userId ?? "", this.#manager?.queue.entries ?? []);
      this.#inbox?.deletions.storeOwn();
      this.signOut();
    });
    this.#route();
    this.#enter();
  }

  /** Joins as a guest, or renames the current guest. */
  enterAs(name: string): void {
    storeName(name);
    this.dialog = undefined;
    this.#enter();
  }

  signIn(token: string): void {
    storeToken(token.trim());
    this.#enter();
  }

  /** Counts the messages and changes that the server has not received. */
  get unsent(): { messages: number; changes: number } {
    const entries = this.#manager?.queue.entries ?? [];
    const messages = entries.filter(({ event }) => event === "message").length;
    const changes = entries.filter(({ event }) => event !== "message" && event !== "delete_message").length;
    return { messages, changes: changes + (this.#inbox?.deletions.unknown(this.#manager?.isReady ?? false) ?? 0) };
  }

  /** Signs out. If unsent entries would be lost, asks for confirmation first. */
  signOut(): void {
    const { messages, changes } = this.unsent;
    if (messages + changes > 0) this.show("out");
    else void this.discardAndSignOut();
  }

  /**
   * Signs out and deletes the user's local data, including unsent entries and deletions. A session
   * that comes from a cookie ends at its logout address.
   */
  async discardAndSignOut(): Promise<void> {
    const manager = this.#manager;
    // Deletions that can still be undone count as unsent only without a connection.
    if (manager?.isReady === true) this.#inbox?.flush();
    else this.#inbox?.deletions.discard();
    // While this tab is open, no other tab adopts its entries.
    await manager?.queue.forget();
    if (manager !== this.#manager) return;
    const userId = this.session?.userId ?? "";
    this.visit?.signOut();
    this.#leave();
    deleteLocalData(userId);
    this.#forgetPlace();
    // A browser may show this page again from its back/forward cache.
    this.isSignedOut = true;
    this.#showEntry("You are signed out.");
    if (this.entrance.logoutUrl !== "") location.assign(this.entrance.logoutUrl);
  }

  retry(): void {
    this.#manager?.retry();
  }

  /** Why the composer is disabled; empty if it is enabled. */
  get reasonNotToWrite(): string {
    const { state } = this.status;
    if (this.current?.stage === "absent") return "You cannot write here";
    if (state === "refused" || state === "closed") return "You are not connected";
    if (this.session === undefined && !this.#wasIn) return "Connecting…";
    return "";
  }

  show(dialog: Dialog | undefined): void {
    this.#open(dialog);
    // The next key press already belongs to the dialog.
    this.changed(true);
  }

  /** Opens the card of a user. */
  showPerson(userId: string): void {
    this.personId = userId;
    this.show("person");
  }

  /** Whether a window is open over the page. */
  get hasWindow(): boolean {
    return this.phase === "in" && (this.dialog ?? this.invitation) !== undefined;
  }

  go({ id, seq }: Place): void {
    this.#open(undefined);
    const address = addressOf(id, seq);
    if (location.hash === address) this.#route(true);
    else location.hash = address;
    this.changed();
  }

  notice(text: string, { isBad = true, ...more }: Partial<Omit<Notice, "key" | "text">> = {}): void {
    if (this.notices.some((notice) => notice.text === text)) return;
    const notice = { key: (this.#count += 1), text, isBad, ...more };
    this.notices = [...this.notices, notice].slice(-MAX_NOTICES);
    setTimeout(() => this.dismiss(notice), NOTICE_FOR);
    this.changed();
  }

  /** Confirms an action, until a window opens or closes. */
  confirm(text: string): void {
    this.notice(text, { isBad: false, isLocal: true });
  }

  dismiss(notice: Notice): void {
    this.notices = this.notices.filter((other) => other !== notice);
    this.changed();
  }

  /** Announces a text to screen readers. */
  announce(text: string): void {
    this.spoken = [...this.spoken, { key: (this.#count += 1), text }].slice(-MAX_SPOKEN);
    this.changed();
  }

  /** Makes a request and shows a notice if it fails. Returns `undefined` then. */
  async request<Name extends Parameters<SocketManager["request"]>[0]>(name: Name, payload: Parameters<SocketManager["request"]>[1]) {
    try {
      return await this.#manager?.request(name, payload as never);
    } catch (error) {
      this.notice(explain(asFailure(error)));
      return undefined;
    }
  }

  /** Handles the status of any user. */
  handleUserStatus(status: UserStatus): void {
    if (this.statuses.take(status)) this.changed();
  }

  get notifies(): boolean {
    return browser.get(NOTIFY) === "yes" && "Notification" in globalThis && Notification.permission === "granted";
  }

  #enter(): void {
    this.#leave();
    const auth = (this.#auth = credentials());
    this.hadToken = "token" in auth;
    this.isSignedOut = false;
    this.isChosen = false;
    this.phase = Object.keys(auth).length === 0 ? "signingIn" : "in";
    this.reason = "";
    const transport = requestedTransport();
    const manager = new SocketManager(undefined, {
      auth,
      // All tabs with this key are the same guest, so that any of them may send the queue, also
      // after a reload.
      ...("name" in auth && { identity: guestKey() }),
      storage: queueStorage,
      socket: { path: this.entrance.socketPath, ...(transport !== undefined && { transports: [transport] }) },
    });
    this.#manager = manager;
    const inbox = (this.#inbox = new Inbox(manager, this.people, {
      changed: () => this.#handleChange(),
      grown: () => this.grown(),
      announce: (text) => this.announce(text),
      notice: (text) => this.notice(text, { isBad: !text.startsWith("You were added") }),
      arrived: (message, conversation) => this.#handleArrival(message, conversation),
      userSeen: (userId, name) => this.people.learn(userId, name),
      statusReceived: (status) => this.handleUserStatus(status),
      lost: (id, title) => {
        this.notice(`“${isolated(title)}” was deleted, or you are no longer a member of it.`);
        if (this.place.id === id) this.go({});
      },
      mentions: () => this.bell?.mentions ?? new Set(),
    }));
    manager.watch("session", (session) => this.#handleSession(session));
    // Messages are shown before the code for notifications is loaded. If loading fails, the next
    // session tries again.
    manager.watch("session", () => void this.#loadBell(manager));
    manager.watch("status", (status) => this.#handleStatus(status));
    manager.watch("entry", (entry) => this.#handleEntry(entry, manager));
    manager.on("status", (status) => this.handleUserStatus(status));
    manager.on("error", (error) => {
      // Typing is sent again anyway, and a conversation to leave may already be deleted: these
      // errors need no notice. Auth errors are shown by the status of the connection.
      if (error.event !== "typing" && error.event !== "leave_conversation" && error.type !== "auth") this.notice(explain(error));
    });
    if (this.place.id !== undefined && this.phase === "in") this.current = inbox.open(this.place.id);
    manager.open();
    this.changed();
  }

  async #loadBell(manager: SocketManager): Promise<void> {
    // A visitor who is asked for a name has no session to load this for.
    if (this.#manager !== manager) return;
    const [file, part] = await Promise.all([import("./notifications/bell.ts"), import("./windows/session.tsx")]).catch(() => []);
    if (file === undefined || part === undefined || this.bell !== undefined || this.#manager !== manager) return;
    this.visit = new part.Visit(this, manager, this.#auth);
    const received = (notification: UserNotification) => this.#handleNotification(notification, file.actionOf(notification.actionUrl, location.href));
    this.bell = new file.Bell(manager, () => this.changed(), received);
  }

  #leave(): void {
    this.market?.close();
    this.bell?.close();
    this.visit?.close();
    this.#inbox?.close();
    this.#manager?.leave();
    this.#manager = this.#inbox = this.current = this.market = this.bell = this.visit = undefined;
    this.#wasIn = false;
    this.endsAt = undefined;
    // The document must not contain data of this user when the next one signs in.
    this.#userId = this.dialog = undefined;
    this.people = new People();
    this.statuses = new Statuses();
    this.notices = this.spoken = [];
  }

  #open(dialog: Dialog | undefined): void {
    this.dialog = dialog;
    this.notices = this.notices.filter(({ isLocal }) => !isLocal);
  }

  #forgetPlace(): void {
    history.replaceState(null, "", "#/");
    this.place = {};
  }

  /** Shows the entry form with the reason. */
  #showEntry(reason: string): void {
    this.#leave();
    this.phase = "entry";
    this.reason = reason;
    // A hidden page gets no animation frames, so it is drawn immediately.
    this.changed(true);
    if (reason === "") requestToken((token) => this.phase === "entry" && this.reason === "" && this.signIn(token));
  }

  #handleSession(session: Session | undefined): void {
    if (session === undefined) return;
    // A guest without a name has no cookie session. The stored name is no evidence: another tab may
    // have signed out.
    if (session.guest && !("name" in this.#auth)) return this.#showEntry("");
    // After a reconnect, the cookie may name another user. The page restarts for that user.
    if (session.userId !== (this.#userId ??= session.userId)) {
      this.#forgetPlace();
      this.#showEntry("");
      return this.#enter();
    }
    this.#wasIn = true;
    this.phase = "in";
    this.endsAt = session.expiresAt;
    if (this.place.id !== undefined) this.current ??= this.#inbox?.open(this.place.id);
    this.people.learn(session.userId, session.name);
    if (session.status !== undefined) this.statuses.take(session.status);
    void this.inbox?.load();
    this.changed();
  }

  #handleStatus(status: Status): void {
    const failure = "failure" in status ? status.failure : undefined;
    if ((status.state === "refused" || status.state === "closed") && OUT.has(failure?.code ?? "")) {
      const isSigningIn = this.phase === "signingIn";
      // The server refuses all credentials with the same code.
      const isExpired = failure?.code === "UNAUTHENTICATED" && (isTokenExpired() || Date.parse(this.endsAt ?? "") < Date.now());
      removeToken();
      // Without credentials, nothing was refused yet.
      return this.#showEntry(isSigningIn || failure === undefined ? "" : explain(isExpired ? { ...failure, code: "TOKEN_EXPIRED" } : failure));
    }
    this.changed();
  }

  #handleEntry(entry: Entry, { queue, isReady }: SocketManager): void {
    const words = waitingNotice(entry, isReady);
    if (words !== undefined) this.notice(words, { isBad: false });
    // A discarded entry also has the state `refused`, but is no longer in the queue.
    if (entry.state !== "refused" || !queue.entries.some(({ id }) => id === entry.id)) return;
    if (entry.event === "message") this.announce(`${excerptOf(String(entry.payload["content"]), MAX_SPOKEN_TEXT)}: ${reasonOf(entry.failure)}`);
    // Its author receives a notice. Only messages can be sent again manually.
    else queueMicrotask(() => queue.discard(entry.id));
  }

  #handleChange(): void {
    // No conversation is chosen yet: opens the first. The address may have changed before its event
    // arrives.
    const isFree = this.invitation === undefined && this.place.isTrading !== true && !CONVERSATION.test(location.hash);
    if (isFree && this.current === undefined && this.place.id === undefined && this.#inbox?.isReady === true && !this.#isList) {
      const [newest] = this.#inbox.items;
      if (newest !== undefined) {
        history.replaceState(null, "", addressOf(newest.id));
        this.#route();
      }
    }
    this.changed();
  }

  /** Whether only the list of conversations is shown, as on phones. */
  get #isList(): boolean {
    return location.hash === "#/" && matchMedia("(width < 48rem)").matches;
  }

  #route(isChosen = false): void {
    this.isChosen = isChosen;
    const [, id, seq] = CONVERSATION.exec(location.hash) ?? [];
    this.invitation = /^#\/i\/([\w-]{1,128})$/.exec(location.hash)?.[1];
    const before = this.current;
    const isTrading = location.hash === TRADING;
    this.place = { ...(id !== undefined && { id }), ...(seq !== undefined && { seq: Number(seq) }), ...(isTrading && { isTrading }) };
    if (this.#inbox !== undefined && this.phase === "in") {
      this.current = id === undefined ? undefined : this.#inbox.open(id);
      if (before !== this.current) before?.watch(false, false);
      if (id !== undefined) this.notices = this.notices.filter(({ href }) => !href?.startsWith(addressOf(id)));
      if (this.current === undefined) this.#handleChange();
    }
    this.changed();
  }

  #handleArrival(message: Message, conversation: Conversation): void {
    const isHidden = document.visibilityState === "hidden";
    const isCurrent = conversation === this.current;
    if (isCurrent && !isHidden) return;
    const isMeant = message.mentions?.includes(conversation.ownId) ?? false;
    if (conversation.level === "none" || (conversation.level === "mentions" && !isMeant)) return;
    // In an open conversation, all users write. Only users who have it open or are mentioned are
    // notified.
    if (conversation.isOpen && !isCurrent && !isMeant) return;
    const title = this.#inbox?.titleOf(conversation.id) ?? "";
    const text = excerptOf(message.content);
    const href = addressOf(conversation.id, message.seq);
    if (!isHidden) return this.notice(`${isolated(title)} · ${isolated(message.userName)}: ${isolated(text)}`, { isBad: false, href });
    this.#notify(title, `${message.userName}: ${text}`, conversation.id, () => this.go({ id: conversation.id, seq: message.seq }));
  }

  /** Handles a new notification. */
  #handleNotification({ notificationId, title, message, priority }: UserNotification, action: ReturnType<typeof actionOf>): void {
    const [, id] = CONVERSATION.exec(action?.isHere ? action.href : "") ?? [];
    // A message in a joined conversation is announced by itself, and one in view is seen.
    if (id !== undefined && (id === this.current?.id || this.#inbox?.isJoined(id))) return;
    this.announce(`${title}. ${message}`);
    if (document.visibilityState === "hidden") this.#notify(title, message, notificationId, () => this.show("notifications"));
    else if (priority === "urgent" || priority === "high") this.notice(`${isolated(title)}: ${isolated(preview(message))}`, { isBad: false, ...(action?.isHere && { href: action.href }) });
  }

  /** Shows a browser notification if the user has enabled them. */
  #notify(title: string, body: string, tag: string, open: () => void): void {
    if (!this.notifies) return;
    try {
      const notification = new Notification(title, { body, tag, icon: "/icon-192.png" });
      notification.addEventListener("click", () => {
        focus();
        open();
      });
    } catch {
      // Some browsers only show notifications of service workers.
    }
  }
}

/** Returns the address of a conversation, or of a message in it. */
export function addressOf(id?: string, seq?: number): string {
  if (id === undefined) return "#/";
  return seq === undefined ? `#/c/${id}` : `#/c/${id}/${seq}`;
}

/**
 * Returns the transport that the address prescribes: `?transport=polling` or
 * `?transport=websocket`.
 */
function requestedTransport(): "polling" | "websocket" | undefined {
  const requested = new URLSearchParams(location.search).get("transport");
  return requested === "polling" || requested === "websocket" ? requested : undefined;
}
