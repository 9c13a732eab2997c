import { DISCONNECTED, type Conversation as Feed, type Entry } from "../../packages/client/src/index.ts";
import { asFailure, explain, outcome } from "../words/failure.ts";
import type { ConversationInfo, Failure, ListedConversation, Message, MessageDelivered, NotificationLevel, PresentUser, Requests, SystemEvent } from "../types.ts";
import { Activity, type PresenceEvent } from "./activity.ts";
import { type Draft, draftsOf, isSame, isUnsent } from "./draft.ts";
import { type Change, DISCARDED, type IsDone, type Take, requestChange } from "./change_request.ts";
import { HISTORY_PAGE, History } from "./history.ts";
import { Pins, mayPin, withReaction } from "../marks/marks.ts";
import { Reading } from "./reading.ts";
import { type Timeline, grown } from "./timeline.ts";
import type { Connection, ConversationCallbacks } from "./callbacks.ts";
import { OwnTyping, Typists } from "./typing.ts";

/**
 * Maximum number of loaded messages. If there are more, two thirds are retained. The lower limit
 * applies while the end is in view.
 */
const MAX_LOADED = 12_000;
const MAX_LOADED_AT_END = 600;
/** Maximum number of present users for which delivery reports are requested. */
const MAX_CONFIRMING = 50;
const MAX_REPORTS = 200;

export type Stage = "entering" | "entered" | "absent";

/** Which messages of a conversation the user is notified of. */
export type Level = NotificationLevel["level"];

/** The data of a conversation that is available before it is joined. */
export type Known = ConversationInfo & Partial<ListedConversation>;

/** One conversation as this tab shows it. The client package receives its messages without gaps. */
export class Conversation {
  readonly id: string;
  readonly activity = new Activity();
  readonly typists = new Typists();
  /** How far this user and other users have read. */
  readonly reading: Reading;
  /** The delivery reports of the user's own messages, by id. */
  readonly reports = new Map<string, MessageDelivered>();
  /** The present users; in a large conversation only the first of them. */
  users: readonly PresentUser[] = [];
  readonly pins = new Pins();
  /** The notification level of the user. */
  level: Level = "all";
  /** The number of present users. */
  present = 0;
  /** Whether this number is known: not without a connection. */
  isPresenceKnown = false;
  stage: Stage = "entering";
  /** Whether messages are missing that the server cannot read at the moment. */
  isInterrupted = false;
  readonly #connection: Connection;
  readonly #feed: Feed;
  readonly #callbacks: ConversationCallbacks;
  readonly #ownTyping = new OwnTyping();
  readonly #history: History;
  #info: ConversationInfo | undefined;
  /** The members that were added while the page is open, until they open the conversation. */
  readonly #admitted = new Set<string>();
  /** Whether the server's list was received, which has the position of the user. */
  #isListed: boolean;
  /** Whether the first page was received. */
  #hasPage: boolean;
  readonly #ends: (() => void)[] = [];
  #isAtEnd = true;
  #isVisible: boolean;
  /** Whether messages may have changed while there was no connection. */
  #isStale = false;
  #wasJoined = false;

  /**
   * Without `known`, opens the conversation in view at its newest page. In the `background`, the
   * join may be delayed.
   */
  constructor(id: string, connection: Connection, callbacks: ConversationCallbacks, known?: Known, background = false) {
    this.id = id;
    this.#info = known;
    this.level = known?.notificationLevel ?? "all";
    this.#connection = connection;
    this.#callbacks = callbacks;
    this.#isVisible = known === undefined;
    this.#isListed = this.#hasPage = known !== undefined;
    this.reading = new Reading((seq) => connection.request("mark_read", { conversationId: id, seq }), callbacks.changed);
    if (known !== undefined) this.reading.begin(known.readSeq ?? 0, known.unread ?? 0, known.lastSeq ?? 0);
    // The list needs only the newest message. The rest is read when the conversation is opened.
    const since = known?.lastSeq ? { since: known.lastSeq - 1 } : {};
    const feed = connection.conversation(id, { page: HISTORY_PAGE, background, ...since });
    this.#feed = feed;
    this.#history = new History((known?.lastSeq ?? 0) > 1, {
      read: (bounds) => feed.history(bounds),
      mayRead: () => this.stage === "entered",
      changed: callbacks.changed,
      met: (messages) => this.#meet(messages),
      failed: (failure) => {
        if (failure.code !== DISCONNECTED) callbacks.notice(`Messages could not be loaded. ${explain(failure)}`);
      },
    });
    this.#follow();
    this.#listen();
  }

  get info(): ConversationInfo | undefined {
    return this.#info;
  }

  set info(info: ConversationInfo | undefined) {
    const before = this.#info?.memberIds;
    for (const userId of info?.memberIds ?? []) if (before?.includes(userId) === false) this.#admitted.add(userId);
    this.#info = info;
  }

  /** The messages that are shown: the newest, or older ones after a jump. */
  get timeline(): Timeline {
    return this.#history.shown;
  }

  get newest(): Message | undefined {
    return this.#history.live.newest;
  }

  get isLoading(): boolean {
    return this.#history.isLoading;
  }

  /**
   * Whether the first page is still loading. Showing fewer messages before would move them
   * afterwards.
   */
  get isOpening(): boolean {
    const { hasNewer, isStub, live } = this.#history;
    if (hasNewer || this.stage === "absent") return false;
    return isStub || !this.#isListed || (this.stage === "entering" && live.messages.length === 0);
  }

  get hasOlder(): boolean {
    return this.#history.hasOlder;
  }

  /** Whether newer messages exist than the shown ones. */
  get hasNewer(): boolean {
    return this.#history.hasNewer;
  }

  /** The user's own unconfirmed messages, in the order of writing. */
  get drafts(): Draft[] {
    if (this.hasNewer) return [];
    return draftsOf(this.#connection.queue.entries, this.id, this.#history.live.messages, this.ownId, this.#connection.isReady);
  }

  get ownId(): string {
    return this.#connection.session?.userId ?? "";
  }

  /** The number of messages of other users that were not on screen. */
  get unread(): number {
    return this.reading.isKnown ? this.reading.unread(this.#history.live.messages, this.ownId) : 0;
  }

  /** Whether all users are members. */
  get isOpen(): boolean {
    return this.info !== undefined && this.info.ownerId === null && this.info.memberIds.length === 0;
  }

  /**
   * Sets whether the end of the conversation is in view, and whether the conversation is visible.
   */
  watch(isAtEnd: boolean, isVisible: boolean): void {
    const isOpened = isVisible && !this.#isVisible;
    this.#isVisible = isVisible;
    // A returning user continues at the divider, unless the view is further up.
    if (isOpened) this.#divide(this.#isAtEnd);
    this.#isAtEnd = isAtEnd;
    const { divider } = this.reading;
    if (isVisible && this.isOpening) void this.#history.loadFirst(divider?.isTarget ? divider.seq : undefined);
    void this.#refresh();
  }

  /**
   * Notes which messages are on screen. They are read if no unread message is above them. At the
   * end, all are read: the user has left out those above.
   */
  see(first: number, last: number): void {
    if (!this.#isVisible || this.isOpening || !this.reading.isKnown) return;
    const { messages } = this.timeline;
    const before = messages[messages.findIndex(({ seq }) => seq === first) - 1];
    if (this.#isAtEnd && !this.hasNewer) this.#see(this.newest?.seq ?? 0);
    else if ((before?.seq ?? (this.hasOlder ? first - 1 : 0)) <= this.reading.seq) this.#see(last);
  }

  /** Takes the position of the user from the list of the server, which may not contain it. */
  handleListed(listed?: Pick<Known, "readSeq" | "unread" | "lastSeq">): void {
    this.#isListed = true;
    if (listed !== undefined) {
      const { isKnown } = this.reading;
      this.reading.begin(listed.readSeq ?? 0, listed.unread ?? 0, listed.lastSeq ?? 0);
      if (isKnown) return;
    }
    this.#settle();
  }

  /** Begins to count what is read, as soon as the position and the first page are known. */
  #settle(): void {
    if (!this.#isListed || !this.#hasPage) return;
    if (!this.reading.isKnown) this.#skipHistory();
    if (this.#isVisible) this.#divide(this.#isAtEnd);
  }

  /** Puts the divider above the unread messages. A `target` is where the view begins. */
  #divide(isTarget: boolean): void {
    const { reading } = this;
    // To a user who opens a conversation that is open to everyone, its history is not new.
    if (reading.isKnown && reading.seq === 0 && this.isOpen) this.#skipHistory();
    if (this.unread === 0) return;
    const { first, messages } = this.#history.live;
    const isLoaded = first !== undefined && first.seq <= reading.seq + 1;
    const unread = isLoaded ? messages.find((message) => message.seq > reading.seq && this.#isOfOther(message)) : undefined;
    reading.divider = { seq: unread?.seq ?? reading.seq + 1, count: this.unread, isTarget };
    if (isTarget && !isLoaded) this.#history.isStub = true;
    this.#callbacks.changed();
  }

  #skipHistory(): void {
    this.reading.beginAt(Math.max(this.newest?.seq ?? 0, this.reading.listed));
  }

  #isOfOther({ userId, deletedAt }: Message): boolean {
    return userId !== this.ownId && !deletedAt;
  }

  loadOlder(): Promise<void> {
    return this.#history.loadOlder();
  }

  loadNewer(): Promise<void> {
    return this.#history.loadNewer();
  }

  /** Shows the place of a message. Returns whether the message exists. */
  jump(seq: number): Promise<boolean> {
    return this.#history.jump(seq);
  }

  backToNewest(): void {
    this.#history.showNewest();
    this.#callbacks.changed();
  }

  /** Sends a message. Returns the failure if the queue is full. */
  send(content: string, { replyTo, mentions = [] }: { replyTo?: string | undefined; mentions?: string[] } = {}): Failure | undefined {
    this.handleInputStop();
    const confirmDelivery = this.present > 1 && this.present <= MAX_CONFIRMING;
    try {
      this.#feed.send(content, {
        metadata: { timestamp: new Date().toISOString() },
        ...(confirmDelivery && { confirmDelivery }),
        ...(replyTo !== undefined && { replyTo }),
        ...(mentions.length > 0 && { mentions }),
      });
    } catch (error) {
      return asFailure(error);
    }
    this.reading.divider = undefined;
    this.#history.showNewest();
    // The author sees the own message immediately.
    this.#history.isStub = false;
    return undefined;
  }

  /** Sends a failed message again, with the same id. */
  sendAgain(clientMessageId: string): void {
    this.#connection.queue.again(clientMessageId);
  }

  /** Sends a failed message without its reply reference, because the original was deleted. */
  sendAlone({ clientMessageId, content }: Draft): void {
    this.discard(clientMessageId);
    this.send(content);
  }

  discard(clientMessageId: string): void {
    this.#connection.queue.discard(clientMessageId);
  }

  /** Withdraws a message that has not been sent. */
  withdraw(clientMessageId: string): void {
    if (this.#unsent.some(({ id }) => id === clientMessageId)) this.discard(clientMessageId);
    else this.#callbacks.notice("This message is being sent. You can delete it once it is stored.");
  }

  get mayPin(): boolean {
    return mayPin(this.info, this.ownId, this.#connection.session?.permissions);
  }

  /** Adds a reaction, or removes the user's own. */
  async react({ id, reactions }: Message, emoji: string): Promise<void> {
    const isOwn = reactions?.some((reaction) => reaction.emoji === emoji && reaction.own) ?? false;
    await this.#requestChange(isOwn ? "remove_reaction" : "add_reaction", { messageId: id, emoji }, "Your reaction was not saved.", (reaction) =>
      this.#history.change(id, (message) => withReaction(message, reaction, this.ownId)),
    );
  }

  async pin(messageId: string): Promise<void> {
    await this.#requestChange("pin_message", { messageId }, "Not pinned.", ({ pin }) => this.pins.add(pin));
  }

  async unpin(messageId: string): Promise<void> {
    await this.#requestChange("unpin_message", { messageId }, "Not unpinned.", () => this.pins.remove(messageId));
  }

  /** Asks the author of a message that is being written to stop. */
  async stop(messageId: string): Promise<void> {
    await this.#requestChange("stop_message", { messageId }, "The author was not asked to stop.", () => {}, async ({ code }) => code === "NOT_FOUND");
  }

  async setLevel(level: Level): Promise<void> {
    await this.#requestChange("set_notification_level", { conversationId: this.id, level }, "Not changed.", (answer) => this.#setLevel(answer));
  }

  /**
   * Changes the text of a message. Returns whether it has this text now. An unsent message is
   * queued again with the text and these mentions.
   */
  async edit(target: Message | Draft, content: string, mentions: string[] = []): Promise<boolean> {
    if (!("delivery" in target)) return this.#edit(target, content);
    const stored = this.#history.live.messages.find((message) => message.userId === this.ownId && isSame(target, message));
    if (stored !== undefined) return this.#edit(stored, content);
    const waiting = this.#unsent;
    const index = waiting.findIndex(({ id }) => id === target.clientMessageId);
    if (index < 0) this.#callbacks.notice("This message is being sent. You can change it once it is stored.");
    try {
      // The messages after it are queued again, so that the order stays.
      for (const { id, event, payload } of index < 0 ? [] : waiting.slice(index)) {
        const isTarget = id === target.clientMessageId;
        this.#connection.queue.add(event, isTarget ? { ...payload, content, mentions: mentions.length > 0 ? mentions : undefined } : payload);
        this.discard(id);
      }
    } catch (error) {
      this.#callbacks.notice(`Not changed. ${explain(asFailure(error))}`);
      return false;
    }
    return index >= 0;
  }

  #edit({ id, seq, version }: Message, content: string): Promise<boolean> {
    const hasIt = async ({ code }: Failure) => code === "CONFLICT" && (await this.#read(seq))?.content === content;
    return this.#requestChange("edit_message", { messageId: id, content, version }, "Not changed.", ({ message }) => this.renew(message), hasIt);
  }

  /** The unsent messages, in the order of writing. */
  get #unsent(): Entry[] {
    return this.#connection.queue.entries.filter((entry) => isUnsent(entry) && entry.event === "message" && entry.payload["conversationId"] === this.id);
  }

  /** The user's newest message that can be edited. */
  get lastOwn(): Message | Draft | undefined {
    return this.drafts.findLast((draft) => draft.isUnsent) ?? this.timeline.messages.findLast(({ userId, deletedAt }) => userId === this.ownId && !deletedAt);
  }

  handleInput(text: string): void {
    this.#sendTyping(this.#ownTyping.handleInput(text, Date.now()));
  }

  handleInputStop(): void {
    this.#sendTyping(this.#ownTyping.handleStop());
  }

  /** Stops all listeners and timers. */
  close(): void {
    for (const end of this.#ends) end();
    this.reading.stop();
  }

  /** Makes a change. Returns whether it is done. */
  async #requestChange<Name extends Change>(name: Name, payload: Requests[Name]["payload"], words: string, take: Take<Name>, isDone?: IsDone): Promise<boolean> {
    const failure = await requestChange(this.#connection, name, payload, take, isDone);
    if (failure !== undefined && failure.code !== DISCARDED) this.#callbacks.notice(outcome(failure, words, "Not confirmed, it may have been done.", "message"));
    this.#callbacks.changed();
    return failure === undefined;
  }

  /** Reads one message again. Returns `undefined` if this fails. */
  async #read(seq: number): Promise<Message | undefined> {
    try {
      const { messages } = await this.#feed.history({ beforeSeq: seq + 1, limit: 1 });
      const [message] = messages.filter((message) => message.seq === seq);
      if (message !== undefined) this.renew(message);
      return message;
    } catch (error) {
      asFailure(error);
      return undefined;
    }
  }

  #setLevel({ level }: { level: Level }): void {
    this.level = level;
  }

  /**
   * Reads messages again that may have changed without a connection, if the conversation is
   * visible.
   */
  async #refresh(): Promise<void> {
    if (!this.#isStale || !this.#isVisible || this.stage !== "entered") return;
    this.#isStale = false;
    try {
      const { messages } = await this.#feed.history({ limit: HISTORY_PAGE });
      // New messages arrive as events.
      const known = messages.filter(({ id }) => this.#history.live.find(id) !== undefined);
      this.#history.live.merge(known);
      this.#callbacks.changed();
    } catch (error) {
      asFailure(error);
      this.#isStale = true;
    }
  }

  #follow(): void {
    const feed = this.#feed;
    const { changed, notice } = this.#callbacks;
    feed.on("stage", (stage) => {
      // The shown messages stay while there is no connection.
      if (stage !== "waiting") this.stage = stage;
      this.isInterrupted = false;
      if (stage === "waiting") this.isPresenceKnown = false;
      if (stage === "entering") this.pins.wait();
      if (stage === "entered") {
        this.reading.see(this.reading.seq, true);
        void this.#refresh();
      }
      changed();
    });
    feed.on("joined", ({ pins, notificationLevel, statuses, othersReadSeq, streaming }) => {
      for (const message of streaming ?? []) this.renew(message);
      this.pins.begin(pins ?? []);
      this.#setLevel({ level: notificationLevel ?? this.level });
      // Without pins, the store was unavailable and `othersReadSeq` is unknown.
      if (pins !== undefined) this.reading.noteOthers(othersReadSeq ?? 0);
      for (const status of statuses ?? []) this.#callbacks.statusReceived(status);
      this.#isStale = this.#wasJoined;
      this.#wasJoined = true;
    });
    feed.on("users", (users) => {
      // If more users are present, the next list contains the count.
      this.#setPresent(users, users.length);
      this.typists.clear();
    });
    feed.on("reset", (newest, hasOlder) => {
      this.#history.reset(newest, hasOlder);
      this.activity.clear();
      this.reading.divider = undefined;
      this.#meet(newest);
      this.#hasPage = true;
      const lastSeq = this.newest?.seq ?? 0;
      // A shorter history is another one. If the conversation is not open, none of it was seen.
      if (lastSeq < this.reading.seq) this.reading.beginAt(this.#isVisible ? lastSeq : (newest[0]?.seq ?? 1) - 1);
      else if (this.reading.isKnown) this.reading.extend(lastSeq);
      this.#settle();
      changed();
    });
    feed.on("messages", (messages) => this.#arrive(messages));
    feed.on("failed", (failure) => {
      if (this.#isVisible) notice(`The conversation could not be opened. ${explain(failure)}`);
    });
    this.#ends.push(
      this.#connection.watch("entry", changed),
      this.#connection.watch("delivered", (_, report) => {
        if (report.conversationId !== this.id) return;
        this.reports.set(report.messageId, report);
        for (const oldest of this.reports.keys()) if (this.reports.size > MAX_REPORTS) this.reports.delete(oldest);
        changed();
      }),
    );
  }

  /** Adds messages at the end. */
  #arrive(messages: readonly Message[]): void {
    this.isInterrupted = false;
    this.#meet(messages);
    const before = this.unread;
    const added = this.#history.live.merge(messages).filter(({ userId }) => userId !== this.ownId);
    for (const { userId } of messages) this.typists.remove(userId);
    // A view at the end follows live messages. After a connection was lost, it stays at the
    // divider.
    const isFollowed = this.#isAtEnd && this.#isVisible && !this.hasNewer && before === 0;
    if (isFollowed && this.stage === "entered") this.#see(this.newest?.seq ?? 0);
    else if (this.#isVisible && this.reading.isKnown) {
      const first = added.find((message) => message.seq > this.reading.seq && this.#isOfOther(message));
      const count = this.unread - before;
      if (first !== undefined && count > 0) this.reading.handleArrival(first.seq, count, before === 0, isFollowed);
    }
    this.#history.trim(this.#isAtEnd && !this.hasNewer ? MAX_LOADED_AT_END : MAX_LOADED);
    // Missed messages are not announced, live messages are.
    if (this.stage === "entered") for (const message of added) this.#tell(message);
    this.#callbacks.changed();
  }

  /** Tells the user of a message of another user. One that is being written is told at its end. */
  #tell(message: Message): void {
    if (message.streaming) return;
    this.#callbacks.arrived(message);
    if (this.#isVisible) this.#callbacks.announce(`${message.userName}: ${message.content}`);
  }

  #see(seq: number): void {
    const { reading } = this;
    if (!reading.isKnown || seq < reading.seq) return;
    const before = this.unread;
    const seen = this.timeline.messages.filter((message) => message.seq > reading.seq && message.seq <= seq && this.#isOfOther(message));
    reading.see(seq, this.stage === "entered", seen.length);
    if (this.unread !== before) this.#callbacks.changed();
  }

  /** Replaces a message by a newer version. */
  renew(message: Message): void {
    if (!this.#history.renew(message)) return;
    if (message.deletedAt) this.pins.remove(message.id);
    else if (this.pins.has(message.id)) this.pins.renew(message);
  }

  #listen(): void {
    const connection = this.#connection;
    /** Takes an event if it is about this conversation, and shows the change. */
    const ours =
      <Event extends { conversationId: string }>(take: (event: Event) => void) =>
      (event: Event) => {
        if (event.conversationId !== this.id) return;
        take(event);
        this.#callbacks.changed();
      };
    const happened = (happening: PresenceEvent) => ours((event: SystemEvent) => this.#note(happening, event));
    this.#ends.push(
      connection.on("message_edited", ours((message) => {
        const isEnd = this.#history.live.find(message.id)?.streaming === true;
        this.renew(message);
        if (isEnd && message.userId !== this.ownId) this.#tell(message);
      })),
      connection.on("message_appended", (appended) => {
        if (appended.conversationId !== this.id) return;
        this.#history.change(appended.messageId, (message) => grown(message, appended));
        this.#callbacks.grown();
      }),
      connection.on("message_deleted", ours((deleted) => {
        this.#history.markDeleted(deleted);
        this.pins.remove(deleted.messageId);
      })),
      connection.on("message_reaction", ours((reaction) =>
        this.#history.change(reaction.messageId, (message) => withReaction(message, reaction, this.ownId)))),
      connection.on("message_pinned", ours(({ pin }) => this.pins.add(pin))),
      connection.on("message_unpinned", ours(({ messageId }) => this.pins.remove(messageId))),
      connection.on("notification_level", ours((set) => this.#setLevel(set))),
      connection.on("message_read", ours((read) => {
        if (read.userId === this.ownId) this.reading.seeElsewhere(read.seq);
        else this.reading.noteOther(read.userId, read.seq);
      })),
      connection.on("conversation:interrupted", ours(() => this.#interrupt(true))),
      // The server sends this event at the end of an interruption, even if no message was missed.
      connection.on("conversation_updated", ({ conversation }) => {
        if (conversation.id === this.id) this.#interrupt(false);
      }),
      connection.on("presence", ours(({ users, count }) => this.#setPresent(users, count))),
      connection.on("typing", ours((typing) => {
        if (typing.userId !== this.ownId) this.typists.handle(typing, Date.now());
      })),
      connection.on("user_joined", happened("joined")),
      connection.on("user_left", happened("left")),
      connection.on("user_disconnected", happened("disconnected")),
    );
  }

  #interrupt(isInterrupted: boolean): void {
    this.isInterrupted = isInterrupted;
    this.#callbacks.changed();
  }

  #meet(messages: readonly Message[]): void {
    for (const { userId, userName } of messages) this.#callbacks.userSeen(userId, userName);
  }

  #setPresent(users: readonly PresentUser[], count: number): void {
    for (const { userId, name } of users) this.#callbacks.userSeen(userId, name);
    this.users = users;
    this.present = count;
    this.isPresenceKnown = true;
  }

  #note(happening: PresenceEvent, event: SystemEvent): void {
    if (happening !== "joined") this.typists.remove(event.userId);
    // A member who opens or closes the conversation stays a member. A new one is shown once.
    if (event.userId === this.ownId || (this.#info?.memberIds.includes(event.userId) && !this.#admitted.delete(event.userId))) return;
    const line = this.activity.add(happening, event, this.#history.live.newest?.seq ?? 0);
    // A crowd would drown the messages in speech as well.
    if (this.#isVisible && line.isShort) this.#callbacks.announce(line.text);
  }

  #sendTyping(isTyping: boolean | undefined): void {
    if (isTyping !== undefined && this.stage === "entered") this.#connection.emit("typing", { conversationId: this.id, isTyping });
  }
}
