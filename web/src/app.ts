import { DISCONNECTED, type Entry, SocketManager, type Status } from "../packages/client/src/index.ts";
import { credentials, forgetAll, forgetToken, guestKey, outlive, queueStorage, storeName, storeToken, watchForgotten } from "./model/account.ts";
import { type Conversation, asFailure } from "./model/conversation.ts";
import { reasonOf } from "./model/draft.ts";
import { Inbox } from "./model/inbox.ts";
import { waitingWords } from "./model/insist.ts";
import { People } from "./model/people.ts";
import type { Bell, actionOf } from "./notifications/bell.ts";
import { Statuses } from "./status/statuses.ts";
import { browser } from "./model/storage.ts";
import type { Market } from "./trading/market.ts";
import type { ConversationInfo, InvitePreview, Message, Notification as Told, Session, UserStatus } from "./types.ts";
import { explain, explainInvite } from "./words/failure.ts";
import { excerptOf } from "./words/markdown.ts";
import { isolated, preview } from "./words/text.ts";

const NOTICE_FOR = 8_000;
const MAX_NOTICES = 3;
const MAX_SPOKEN = 20;
/** So much of a message is read out with what became of it. */
const MAX_SPOKEN_TEXT = 60;
/** The address of the trading page. */
export const TRADING = "#/trading";
const CONVERSATION = /^#\/c\/([0-9a-f-]{36})(?:\/(\d{1,15}))?$/;
const NOTIFY = "roomcast.notify";
/** Failures after which other credentials are needed. */
const OUT = new Set(["UNAUTHENTICATED", "TOKEN_EXPIRED", "TOKEN_REVOKED", "NO_CREDENTIALS"]);

/** A short word on what happened, which leaves by itself. */
export interface Notice {
  readonly key: number;
  readonly text: string;
  /** Something failed. */
  readonly isBad: boolean;
  /** The address that it leads to. */
  readonly href?: string;
}

export type Dialog = "out" | "new" | "about" | "name" | "search" | "notifications" | "react" | "pins" | "status";

/** What the address `#/i/TOKEN` invites to: a conversation once it is known, or why it cannot be entered. */
export interface Invitation {
  readonly token: string;
  readonly preview?: InvitePreview;
  readonly failure?: string;
}

/** Where the page is: a conversation and a message in it, or the trading page. */
export interface Place {
  id?: string;
  seq?: number;
  isTrading?: boolean;
}

/** How the server wants to be entered; `server/src/http/page.rs` writes it into the page. */
export interface Entrance {
  socketPath: string;
  guests: boolean;
  loginUrl: string;
  logoutUrl: string;
  /** Whether the trading page is for all users. */
  market: boolean;
  /** Origins whose pictures are shown. */
  images: readonly string[];
}

/** Everything that the page shows, and what can be done with it. */
export class App {
  people = new People();
  statuses = new Statuses();
  readonly entrance: Entrance;
  /** `asking` who we are, nobody being named yet; at the `entry`; or `in`. */
  phase: "asking" | "entry" | "in" = "asking";
  /** Why somebody stands at the entry. */
  reason = "";
  place: Place = {};
  /** Whether somebody has gone to that place, and not the page by itself. */
  isChosen = false;
  dialog: Dialog | undefined;
  /** The message that a reaction is chosen for. */
  reactingTo: string | undefined;
  invitation: Invitation | undefined;
  notices: readonly Notice[] = [];
  spoken: readonly { key: number; text: string }[] = [];
  /** The conversation that is shown. */
  current: Conversation | undefined;
  /** What is followed of the market, once the trading page was opened. */
  market: Market | undefined;
  /** What the user should know. */
  bell: Bell | undefined;
  /** Called when anything has changed; with `true` it is shown before anything else is done. */
  changed: (isUrgent?: boolean) => void = () => {};
  #manager: SocketManager | undefined;
  #inbox: Inbox | undefined;
  #count = 0;
  /** Whether there was a session on this visit. */
  #wasIn = false;
  /** Who had the first session of this visit. */
  #userId: string | undefined;
  /** Whether we have said a name, as guests do. */
  #isNamed = false;

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

  /** Whether the trading page is shown to somebody, who is led there as well. */
  get showsTrading(): boolean {
    const { session } = this;
    if (session === undefined || session.guest) return false;
    return this.entrance.market || session.permissions.includes("trades:execute");
  }

  /** Begins with what is known of who we are. */
  start(): void {
    addEventListener("hashchange", () => this.#route(true));
    addEventListener("pagehide", () => this.#inbox?.flush());
    watchForgotten(() => {
      if (!(this.session?.guest ?? this.#isNamed)) return;
      outlive(this.session?.userId ?? "", this.#manager?.queue.entries ?? []);
      this.#inbox?.deletions.keepOwn();
      this.signOut();
    });
    this.#route();
    this.#enter();
  }

  /** Comes in as a guest, or as the same guest under another name. */
  enterAs(name: string): void {
    storeName(name);
    this.dialog = undefined;
    this.#enter();
  }

  signIn(token: string): void {
    storeToken(token.trim());
    this.#enter();
  }

  /** What of the user the server does not have yet: messages, and changes of messages. */
  get unsent(): { messages: number; changes: number } {
    const entries = this.#manager?.queue.entries ?? [];
    const messages = entries.filter(({ event }) => event === "message").length;
    const changes = entries.filter(({ event }) => event !== "message" && event !== "delete_message").length;
    return { messages, changes: changes + (this.#inbox?.deletions.unknown(this.#manager?.isReady ?? false) ?? 0) };
  }

  /** Signs out; where that would lose something that was written, it is asked first. */
  signOut(): void {
    const { messages, changes } = this.unsent;
    if (messages + changes > 0) this.show("out");
    else void this.discardAndSignOut();
  }

  /** Forgets who we were on this machine, with all that was not sent. A session that a cookie names is ended where it began. */
  async discardAndSignOut(): Promise<void> {
    const manager = this.#manager;
    // As long as this tab is there no other one takes over what it keeps.
    await manager?.queue.forget();
    if (manager !== this.#manager) return;
    const userId = this.session?.userId ?? "";
    this.#leave();
    forgetAll(userId);
    this.#forgetPlace();
    // A browser may show the page as it was left once more.
    this.#stand("");
    if (this.entrance.logoutUrl !== "") location.assign(this.entrance.logoutUrl);
  }

  retry(): void {
    this.#manager?.retry();
  }

  /** Why nothing can be written now; empty if it can. */
  get reasonNotToWrite(): string {
    const { state } = this.status;
    if (this.current?.stage === "absent") return "You cannot write here";
    if (state === "refused" || state === "closed") return "You are not connected";
    if (this.session === undefined && !this.#wasIn) return "Connecting…";
    return "";
  }

  show(dialog: Dialog | undefined): void {
    this.dialog = dialog;
    // The next key already belongs to it.
    this.changed(true);
  }

  /** Whether a window is open over the page. */
  get hasWindow(): boolean {
    return this.phase === "in" && (this.dialog ?? this.invitation) !== undefined;
  }

  go({ id, seq }: Place): void {
    this.dialog = undefined;
    const address = addressOf(id, seq);
    if (location.hash === address) this.#route(true);
    else location.hash = address;
    this.changed();
  }

  notice(text: string, { isBad = true, href }: { isBad?: boolean; href?: string } = {}): void {
    if (this.notices.some((notice) => notice.text === text)) return;
    const notice = { key: (this.#count += 1), text, isBad, ...(href !== undefined && { href }) };
    this.notices = [...this.notices, notice].slice(-MAX_NOTICES);
    setTimeout(() => this.dismiss(notice), NOTICE_FOR);
    this.changed();
  }

  dismiss(notice: Notice): void {
    this.notices = this.notices.filter((other) => other !== notice);
    this.changed();
  }

  /** Has a screen reader say something. */
  announce(text: string): void {
    this.spoken = [...this.spoken, { key: (this.#count += 1), text }].slice(-MAX_SPOKEN);
    this.changed();
  }

  /** Makes a request whose failure is told; `undefined` if it has failed. */
  async ask<Name extends Parameters<SocketManager["request"]>[0]>(name: Name, payload: Parameters<SocketManager["request"]>[1]) {
    try {
      return await this.#manager?.request(name, payload as never);
    } catch (error) {
      this.notice(explain(asFailure(error)));
      return undefined;
    }
  }

  /** Makes a request that changes a conversation; resolves with whether it has worked. */
  async change(name: "create_conversation" | "rename_conversation" | "add_member" | "remove_member", payload: object): Promise<ConversationInfo | undefined> {
    const answer = (await this.ask(name, payload as never)) as { conversation: ConversationInfo } | undefined;
    return answer?.conversation;
  }

  /** Becomes a member by the invitation that is shown. */
  async accept(): Promise<void> {
    const { token } = this.invitation ?? {};
    const manager = this.#manager;
    if (token === undefined || manager === undefined) return;
    try {
      const { conversation } = await manager.request("join_invite", { token });
      this.#inbox?.update(conversation);
      this.go({ id: conversation.id });
    } catch (error) {
      this.#invite({ token, failure: explainInvite(asFailure(error)) });
    }
  }

  /** Says what we are doing; resolves with whether it has worked. */
  async setStatus(status: UserStatus["status"], text: string): Promise<boolean> {
    const answer = (await this.ask("set_status", { status, ...(text !== "" && { text }) })) as UserStatus | undefined;
    if (answer !== undefined) this.#handleSaid(answer);
    return answer !== undefined;
  }

  search(query: string): Promise<{ messages: Message[] }> {
    if (this.#manager === undefined) return Promise.resolve({ messages: [] });
    return this.#manager.request("message_search", { query, limit: 30 });
  }

  get notifies(): boolean {
    return browser.get(NOTIFY) === "yes" && "Notification" in globalThis && Notification.permission === "granted";
  }

  /** Turns notifications of the browser on or off. */
  async toggleNotifications(): Promise<void> {
    const wants = !this.notifies;
    const isAllowed = wants && (await Notification.requestPermission()) === "granted";
    browser.set(NOTIFY, isAllowed ? "yes" : "no");
    if (wants && !isAllowed) this.notice("Your browser does not allow this page to show notifications.");
    this.changed();
  }

  #enter(): void {
    this.#leave();
    const auth = credentials();
    this.#isNamed = "name" in auth;
    this.isChosen = false;
    this.phase = Object.keys(auth).length === 0 ? "asking" : "in";
    this.reason = "";
    const transport = wantedTransport();
    const manager = new SocketManager(undefined, {
      auth,
      // Who has the key is the same guest, so that what waits may be sent after a reload and by any tab.
      ...(this.#isNamed && { identity: guestKey() }),
      storage: queueStorage,
      socket: { path: this.entrance.socketPath, ...(transport !== undefined && { transports: [transport] }) },
    });
    this.#manager = manager;
    const inbox = (this.#inbox = new Inbox(manager, this.people, {
      changed: () => this.#handleChange(),
      announce: (text) => this.announce(text),
      notice: (text) => this.notice(text, { isBad: !text.startsWith("You were added") }),
      arrived: (message, conversation) => this.#handleArrival(message, conversation),
      met: (userId, name) => this.people.learn(userId, name),
      said: (status) => this.#handleSaid(status),
      lost: (id, title) => {
        this.notice(`“${isolated(title)}” is no longer there, or you are no longer a member of it.`);
        if (this.place.id === id) this.go({});
      },
    }));
    manager.watch("session", (session) => this.#handleSession(session));
    // The messages of a conversation are shown before what notifications need is loaded. A page that could not load it
    // tries again with the next session.
    manager.watch("session", () => void this.#loadBell(manager));
    manager.watch("status", (status) => this.#handleStatus(status));
    manager.watch("entry", (entry) => this.#handleEntry(entry, manager));
    manager.on("status", (status) => this.#handleSaid(status));
    manager.on("error", (error) => {
      // Typing comes back by itself, and what is left may be gone already; nobody needs to read about it. What ends the visit is told by its state.
      if (error.event !== "typing" && error.event !== "leave_conversation" && error.type !== "auth") this.notice(explain(error));
    });
    if (this.place.id !== undefined && this.phase === "in") this.current = inbox.open(this.place.id);
    manager.open();
    this.changed();
  }

  async #loadBell(manager: SocketManager): Promise<void> {
    const file = await import("./notifications/bell.ts").catch(() => undefined);
    if (file === undefined || this.bell !== undefined || this.#manager !== manager) return;
    const rang = (told: Told) => this.#handleRing(told, file.actionOf(told.actionUrl, location.href));
    this.bell = new file.Bell(manager, () => this.changed(), rang);
  }

  #leave(): void {
    this.market?.close();
    this.bell?.close();
    this.#inbox?.close();
    this.#manager?.leave();
    this.#manager = this.#inbox = this.current = this.market = this.bell = undefined;
    this.#wasIn = false;
    // Nothing that this user has read stays in the document for the next one.
    this.#userId = this.dialog = this.reactingTo = undefined;
    this.people = new People();
    this.statuses = new Statuses();
    this.notices = this.spoken = [];
    if (this.invitation !== undefined) this.invitation = { token: this.invitation.token };
  }

  #forgetPlace(): void {
    history.replaceState(null, "", "#/");
    this.place = {};
  }

  /** Nobody is in: the entry is shown, with the reason. */
  #stand(reason: string): void {
    this.#leave();
    this.phase = "entry";
    this.reason = reason;
    // A page out of view gets no frame in which it would be drawn.
    this.changed(true);
  }

  #handleSession(session: Session | undefined): void {
    if (session === undefined) return;
    // A guest who has said no name is somebody whom no cookie names. What is stored does not tell: another tab may have signed us out.
    if (session.guest && !this.#isNamed) return this.#stand("");
    // A cookie may name another user after a reconnect, to whom this page starts anew.
    if (session.userId !== (this.#userId ??= session.userId)) {
      this.#forgetPlace();
      this.#stand("");
      return this.#enter();
    }
    this.#wasIn = true;
    this.phase = "in";
    if (this.place.id !== undefined) this.current ??= this.#inbox?.open(this.place.id);
    this.people.learn(session.userId, session.name);
    if (session.status !== undefined) this.statuses.take(session.status);
    void this.#inbox?.load();
    void this.#preview();
    this.changed();
  }

  #handleStatus(status: Status): void {
    const failure = "failure" in status ? status.failure : undefined;
    if ((status.state === "refused" || status.state === "closed") && OUT.has(failure?.code ?? "")) {
      const isAsking = this.phase === "asking";
      forgetToken();
      // Whoever has brought nothing has not been refused yet.
      return this.#stand(isAsking || failure === undefined ? "" : explain(failure));
    }
    this.changed();
  }

  #handleEntry(entry: Entry, { queue, isReady }: SocketManager): void {
    const words = waitingWords(entry, isReady);
    if (words !== undefined) this.notice(words, { isBad: false });
    // What was discarded is refused, too, and not in the queue any more.
    if (entry.state !== "refused" || !queue.entries.some(({ id }) => id === entry.id)) return;
    if (entry.event === "message") this.announce(`${excerptOf(String(entry.payload["content"]), MAX_SPOKEN_TEXT)}: ${reasonOf(entry.failure)}`);
    // Whoever has made a change is told; only messages can be sent again by hand.
    else queueMicrotask(() => queue.discard(entry.id));
  }

  #handleSaid(status: UserStatus): void {
    if (this.statuses.take(status)) this.changed();
  }

  /** Asks what is invited to. */
  async #preview(): Promise<void> {
    const { token, preview } = this.invitation ?? {};
    const manager = this.#manager;
    if (token === undefined || preview !== undefined || manager === undefined) return;
    try {
      this.#invite({ token, preview: await manager.request("preview_invite", { token }) });
    } catch (error) {
      const failure = asFailure(error);
      // The next session asks again.
      if (failure.code !== DISCONNECTED) this.#invite({ token, failure: explainInvite(failure) });
    }
  }

  /** Shows more of an invitation, if it is still the one that is looked at. */
  #invite(invitation: Invitation): void {
    if (this.invitation?.token === invitation.token) this.invitation = invitation;
    this.changed();
  }

  #handleChange(): void {
    // Nobody has chosen a conversation yet: the one with the newest message is shown.
    const isFree = this.invitation === undefined && this.place.isTrading !== true;
    if (isFree && this.current === undefined && this.place.id === undefined && this.#inbox?.isReady === true && !this.#isList) {
      const [newest] = this.#inbox.items;
      if (newest !== undefined) {
        history.replaceState(null, "", addressOf(newest.id));
        this.#route();
      }
    }
    this.changed();
  }

  /** The list alone was asked for. */
  get #isList(): boolean {
    return location.hash === "#/" && matchMedia("(width < 48rem)").matches;
  }

  #route(isChosen = false): void {
    this.isChosen = isChosen;
    const [, id, seq] = CONVERSATION.exec(location.hash) ?? [];
    const [, token] = /^#\/i\/([\w-]{1,128})$/.exec(location.hash) ?? [];
    const before = this.current;
    if (this.invitation?.token !== token) this.invitation = token === undefined ? undefined : { token };
    if (this.session !== undefined) void this.#preview();
    const isTrading = location.hash === TRADING;
    this.place = { ...(id !== undefined && { id }), ...(seq !== undefined && { seq: Number(seq) }), ...(isTrading && { isTrading }) };
    if (this.#inbox !== undefined && this.phase === "in") {
      this.current = id === undefined ? undefined : this.#inbox.open(id);
      if (before !== this.current) before?.watch(false, false);
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
    // Everybody talks in an open conversation; only who looks at it or is meant wants to hear of that.
    if (conversation.isOpen && !isCurrent && !isMeant) return;
    const title = this.#inbox?.titleOf(conversation.id) ?? "";
    const text = excerptOf(message.content);
    const href = addressOf(conversation.id, message.seq);
    if (!isHidden) return this.notice(`${isolated(title)} · ${isolated(message.userName)}: ${isolated(text)}`, { isBad: false, href });
    this.#notify(title, `${message.userName}: ${text}`, conversation.id, () => this.go({ id: conversation.id, seq: message.seq }));
  }

  /** Something that the user should know has come. */
  #handleRing({ notificationId, title, message, priority }: Told, action: ReturnType<typeof actionOf>): void {
    const [, id] = CONVERSATION.exec(action?.isHere ? action.href : "") ?? [];
    // A message in a conversation that is heard tells of itself.
    if (id !== undefined && this.#inbox?.hears(id)) return;
    this.announce(`${title}. ${message}`);
    if (document.visibilityState === "hidden") this.#notify(title, message, notificationId, () => this.show("notifications"));
    else if (priority === "urgent" || priority === "high") this.notice(`${isolated(title)}: ${isolated(preview(message))}`, { isBad: false, ...(action?.isHere && { href: action.href }) });
  }

  /** Has the browser show something, if that is wanted. */
  #notify(title: string, body: string, tag: string, open: () => void): void {
    if (!this.notifies) return;
    try {
      const notification = new Notification(title, { body, tag, icon: "/icon-192.png" });
      notification.addEventListener("click", () => {
        focus();
        open();
      });
    } catch {
      // Some browsers show notifications of service workers alone.
    }
  }
}

/** The address of a conversation, or of a message in it. */
export function addressOf(id?: string, seq?: number): string {
  if (id === undefined) return "#/";
  return seq === undefined ? `#/c/${id}` : `#/c/${id}/${seq}`;
}

/** The address by which somebody becomes a member, for others. */
export function inviteAddress(token: string): string {
  return `${location.origin}${location.pathname}#/i/${token}`;
}

/** `?transport=polling` or `?transport=websocket` keeps to one transport. */
function wantedTransport(): "polling" | "websocket" | undefined {
  const wanted = new URLSearchParams(location.search).get("transport");
  return wanted === "polling" || wanted === "websocket" ? wanted : undefined;
}
