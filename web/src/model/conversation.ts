import { DISCONNECTED, type Conversation as Feed, type Entry, RequestError } from "../../packages/client/src/index.ts";
import { explain, outcome } from "../words/failure.ts";
import type { ConversationInfo, Failure, Message, MessageDelivered, NotificationLevel, PresentUser, Requests, SystemEvent } from "../types.ts";
import { Activity, type Happening } from "./activity.ts";
import { type Draft, draftsOf, isSame, isUnsent } from "./draft.ts";
import { type Change, DISCARDED, type IsDone, type Take, insist } from "./insist.ts";
import { Pins, mayPin, withOwn, withReaction } from "../marks/marks.ts";
import { Reading } from "./reading.ts";
import { Timeline, isCurrent } from "./timeline.ts";
import type { Connection, Surroundings } from "./surroundings.ts";
import { OwnTyping, Typists } from "./typing.ts";

const HISTORY_PAGE = 50;
/** More loaded messages than this are cut down to two thirds; fewer while the end is in view. */
const MAX_LOADED = 12_000;
const MAX_LOADED_AT_END = 600;
/** With more people than this nobody is asked to confirm that a message has arrived. */
const MAX_CONFIRMING = 50;
const MAX_REPORTS = 200;

export type Stage = "entering" | "entered" | "absent";

/** Of what in a conversation somebody wants to hear. */
export type Level = NotificationLevel["level"];

/** What is known of a conversation before it is joined. */
export interface Known extends ConversationInfo {
  lastSeq?: number;
  readSeq?: number;
  unread?: number;
  notificationLevel?: Level;
}

/** One conversation as this tab shows it; the client package keeps it complete. */
export class Conversation {
  readonly id: string;
  info: ConversationInfo | undefined;
  readonly activity = new Activity();
  readonly typists = new Typists();
  /** How far we and the others have read. */
  readonly reading: Reading;
  /** Who got the own messages, by id. */
  readonly reports = new Map<string, MessageDelivered>();
  /** Those who came first; in a large conversation not all. */
  users: readonly PresentUser[] = [];
  readonly pins = new Pins();
  /** Of what in it we want to hear. */
  level: Level = "all";
  /** How many are here. */
  present = 0;
  /** Whether that is known: it is not without a connection. */
  isPresenceKnown = false;
  stage: Stage = "entering";
  /** Whether messages are missing that the server cannot read at the moment. */
  isInterrupted = false;
  isLoading = false;
  #loading: Promise<void> | undefined;
  /** The first message from others that arrived out of sight; it stays marked after it was seen. */
  firstUnread: number | undefined;
  readonly #connection: Connection;
  readonly #feed: Feed;
  readonly #surroundings: Surroundings;
  readonly #ownTyping = new OwnTyping();
  readonly #live = new Timeline();
  /** What is shown instead of the newest messages, after a jump to a message that was not loaded. */
  #past: Timeline | undefined;
  #hasOlder = { live: false, past: false };
  /** Whether the list alone was looked at yet, for which the newest message is enough. */
  #isStub: boolean;
  readonly #ends: (() => void)[] = [];
  #isAtEnd = true;
  #isVisible: boolean;
  /** What was changed while there was no connection is not known. */
  #isStale = false;
  #wasJoined = false;

  /** Without `known` it is opened at its newest page, as one that is looked at; in the `background` it may wait for others. */
  constructor(id: string, connection: Connection, surroundings: Surroundings, known?: Known, background = false) {
    this.id = id;
    this.info = known;
    this.level = known?.notificationLevel ?? "all";
    this.#connection = connection;
    this.#surroundings = surroundings;
    this.#isVisible = known === undefined;
    this.reading = new Reading((seq) => connection.request("mark_read", { conversationId: id, seq }), surroundings.changed);
    if (known?.lastSeq !== undefined) this.reading.begin(known.readSeq ?? 0, known.unread ?? 0, known.lastSeq);
    // The newest message is enough for the list; the others are read when they are looked at.
    const since = known?.lastSeq ? { since: known.lastSeq - 1 } : {};
    this.#hasOlder.live = this.#isStub = (known?.lastSeq ?? 0) > 1;
    this.#feed = connection.conversation(id, { page: HISTORY_PAGE, background, ...since });
    this.#follow();
    this.#listen();
  }

  /** What is shown: the newest messages, or older ones after a jump. */
  get timeline(): Timeline {
    return this.#past ?? this.#live;
  }

  get newest(): Message | undefined {
    return this.#live.newest;
  }

  /** Whether the page that is looked at first is still to come; to show less would mean to move it then. */
  get isOpening(): boolean {
    if (this.#past !== undefined || this.stage === "absent") return false;
    return this.#isStub || (this.stage === "entering" && this.#live.messages.length === 0);
  }

  get hasOlder(): boolean {
    return this.#past ? this.#hasOlder.past : this.#hasOlder.live;
  }

  /** Whether there are newer messages than those that are shown. */
  get hasNewer(): boolean {
    return this.#past !== undefined;
  }

  /** The own messages on their way, in the order of writing. */
  get drafts(): Draft[] {
    if (this.hasNewer) return [];
    return draftsOf(this.#connection.queue.entries, this.id, this.#live.messages, this.ownId, this.#connection.isReady);
  }

  get ownId(): string {
    return this.#connection.session?.userId ?? "";
  }

  /** How many messages from others arrived out of sight. */
  get unread(): number {
    return this.reading.unread(this.#live.messages, this.ownId);
  }

  /** Whether everybody is a member. */
  get isOpen(): boolean {
    return this.info !== undefined && this.info.ownerId === null && this.info.memberIds.length === 0;
  }

  /** Says whether the end of the conversation is scrolled to, and whether it is looked at. */
  watch(isAtEnd: boolean, isVisible: boolean): void {
    const isOpened = isVisible && !this.#isVisible;
    // Who comes back finds the line above what is new.
    if (isOpened && this.unread > 0 && this.reading.seq > 0) this.firstUnread = this.reading.seq + 1;
    this.#isAtEnd = isAtEnd;
    this.#isVisible = isVisible;
    const before = this.unread;
    this.#see();
    if (isVisible && this.isOpening) void this.loadOlder();
    void this.#refresh();
    if (this.unread !== before) this.#surroundings.changed();
  }

  /** Loads the page before the oldest message; where there is none, the newest page. */
  loadOlder(): Promise<void> {
    const timeline = this.timeline;
    const beforeSeq = timeline.first?.seq;
    if (!this.hasOlder) return Promise.resolve();
    return this.#load(beforeSeq === undefined ? {} : { beforeSeq }, ({ messages, hasMore }) => {
      // The messages may have been cut down meanwhile: a page that does not adjoin would leave a hole.
      if (timeline !== this.timeline || timeline.first?.seq !== beforeSeq) return;
      this.#meet(messages);
      timeline.merge(messages);
      this.#hasOlder[this.#past ? "past" : "live"] = hasMore;
    });
  }

  /** Loads the page after the newest message that is shown, if it is not the newest. */
  loadNewer(): Promise<void> {
    const past = this.#past;
    const afterSeq = past?.newest?.seq;
    if (past === undefined || afterSeq === undefined) return Promise.resolve();
    return this.#load({ afterSeq }, ({ messages, hasMore }) => {
      if (past !== this.#past) return;
      this.#meet(messages);
      past.merge(messages);
      const isConnected = (past.newest?.seq ?? 0) + 1 >= (this.#live.first?.seq ?? 0);
      if (isConnected) {
        this.#live.merge(past.messages);
        this.#hasOlder.live = this.#hasOlder.past;
      }
      if (isConnected || !hasMore) this.#past = undefined;
    });
  }

  /** Shows the place of a message; resolves with whether there is one. */
  async jump(seq: number): Promise<boolean> {
    const isLoaded = () => this.timeline.messages.some((message) => message.seq === seq);
    if (isLoaded()) return true;
    // One page is loaded at a time, and this one must not be left out for another that is on its way.
    while (this.isLoading) await this.#loading;
    await this.#load({ beforeSeq: seq + HISTORY_PAGE / 2 }, ({ messages, hasMore }) => {
      if (messages.length === 0) return;
      this.#meet(messages);
      const past = new Timeline();
      past.merge(messages);
      this.#past = past;
      this.#hasOlder.past = hasMore;
    });
    if (this.#past && (this.#past.newest?.seq ?? 0) + 1 >= (this.#live.first?.seq ?? 0)) await this.loadNewer();
    return isLoaded();
  }

  backToNewest(): void {
    this.#past = undefined;
    this.#surroundings.changed();
  }

  /** Sends a message; why not, if there is no room for it among those that wait. */
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
    this.firstUnread = undefined;
    this.#past = undefined;
    // Who writes sees what was written.
    this.#isStub = false;
    return undefined;
  }

  /** Sends a failed message once more, as the same message. */
  sendAgain(clientMessageId: string): void {
    this.#connection.queue.again(clientMessageId);
  }

  /** Sends a failed message without what it answers, which is gone. */
  sendAlone({ clientMessageId, content }: Draft): void {
    this.discard(clientMessageId);
    this.send(content);
  }

  discard(clientMessageId: string): void {
    this.#connection.queue.discard(clientMessageId);
  }

  /** Takes a message back that waits to be sent. */
  withdraw(clientMessageId: string): void {
    if (this.#unsent.some(({ id }) => id === clientMessageId)) this.discard(clientMessageId);
    else this.#surroundings.notice("This message is being sent. You can delete it once it is stored.");
  }

  get mayPin(): boolean {
    return mayPin(this.info, this.ownId, this.#connection.session?.permissions);
  }

  /** Reacts with an emoji, or takes that back. */
  async react({ id, reactions }: Message, emoji: string): Promise<void> {
    const isOwn = reactions?.some((reaction) => reaction.emoji === emoji && reaction.own) ?? false;
    await this.#insist(isOwn ? "remove_reaction" : "add_reaction", { messageId: id, emoji }, "That reaction was not possible.", (reaction) =>
      this.#change(id, (message) => withReaction(message, reaction, this.ownId)),
    );
  }

  async pin(messageId: string): Promise<void> {
    await this.#insist("pin_message", { messageId }, "Not pinned.", ({ pin }) => this.pins.add(pin));
  }

  async unpin(messageId: string): Promise<void> {
    await this.#insist("unpin_message", { messageId }, "Not unpinned.", () => this.pins.remove(messageId));
  }

  async setLevel(level: Level): Promise<void> {
    await this.#insist("set_notification_level", { conversationId: this.id, level }, "Not changed.", (answer) => this.#setLevel(answer));
  }

  /** Resolves with whether the message has that text now; one that waits is sent with it and these mentions. */
  async edit(target: Message | Draft, content: string, mentions: string[] = []): Promise<boolean> {
    if (!("delivery" in target)) return this.#edit(target, content);
    const stored = this.#live.messages.find((message) => message.userId === this.ownId && isSame(target, message));
    if (stored !== undefined) return this.#edit(stored, content);
    const waiting = this.#unsent;
    const index = waiting.findIndex(({ id }) => id === target.clientMessageId);
    if (index < 0) this.#surroundings.notice("This message is being sent. You can change it once it is stored.");
    try {
      // Those behind it are queued again, so that the order stays.
      for (const { id, event, payload } of index < 0 ? [] : waiting.slice(index)) {
        const isTarget = id === target.clientMessageId;
        this.#connection.queue.add(event, isTarget ? { ...payload, content, mentions: mentions.length > 0 ? mentions : undefined } : payload);
        this.discard(id);
      }
    } catch (error) {
      this.#surroundings.notice(`Not changed. ${explain(asFailure(error))}`);
      return false;
    }
    return index >= 0;
  }

  #edit({ id, seq, version }: Message, content: string): Promise<boolean> {
    const hasIt = async ({ code }: Failure) => code === "CONFLICT" && (await this.#read(seq))?.content === content;
    return this.#insist("edit_message", { messageId: id, content, version }, "Not changed.", ({ message }) => this.renew(message), hasIt);
  }

  /** The messages that the server does not have, in the order of writing. */
  get #unsent(): Entry[] {
    return this.#connection.queue.entries.filter((entry) => isUnsent(entry) && entry.event === "message" && entry.payload["conversationId"] === this.id);
  }

  /** The newest own message that can be changed. */
  get lastOwn(): Message | Draft | undefined {
    return this.drafts.findLast((draft) => draft.isUnsent) ?? this.timeline.messages.findLast(({ userId, deletedAt }) => userId === this.ownId && !deletedAt);
  }

  handleInput(text: string): void {
    this.#tellTyping(this.#ownTyping.handleInput(text, Date.now()));
  }

  handleInputStop(): void {
    this.#tellTyping(this.#ownTyping.handleStop());
  }

  /** Nobody looks at it any more. */
  close(): void {
    for (const end of this.#ends) end();
    this.reading.stop();
  }

  /** Makes a change; resolves with whether it is done. */
  async #insist<Name extends Change>(name: Name, payload: Requests[Name]["payload"], words: string, take: Take<Name>, isDone?: IsDone): Promise<boolean> {
    const failure = await insist(this.#connection, name, payload, take, isDone);
    if (failure !== undefined && failure.code !== DISCARDED) this.#surroundings.notice(outcome(failure, words, "Not confirmed, it may have been done.", "message"));
    this.#surroundings.changed();
    return failure === undefined;
  }

  /** Reads one message once more; nothing if that is not possible. */
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

  /** Has a message that is loaded be another one. */
  #change(messageId: string, to: (message: Message) => Message): void {
    this.#live.change(messageId, to);
    this.#past?.change(messageId, to);
  }

  #setLevel({ level }: { level: Level }): void {
    this.level = level;
  }

  /** Reads once more what may have changed while there was no connection, if somebody looks at it. */
  async #refresh(): Promise<void> {
    if (!this.#isStale || !this.#isVisible || this.stage !== "entered") return;
    this.#isStale = false;
    try {
      const { messages } = await this.#feed.history({ limit: HISTORY_PAGE });
      // What is new comes as such.
      const known = messages.filter(({ id }) => this.#live.find(id) !== undefined);
      this.#live.merge(known);
      this.#surroundings.changed();
    } catch (error) {
      asFailure(error);
      this.#isStale = true;
    }
  }

  async #load(bounds: { beforeSeq?: number; afterSeq?: number }, take: (page: { messages: Message[]; hasMore: boolean }) => void): Promise<void> {
    if (this.isLoading || this.stage !== "entered") return;
    this.isLoading = true;
    this.#surroundings.changed();
    await (this.#loading = this.#readPage(bounds, take));
  }

  async #readPage(bounds: { beforeSeq?: number; afterSeq?: number }, take: (page: { messages: Message[]; hasMore: boolean }) => void): Promise<void> {
    try {
      take(await this.#feed.history({ ...bounds, limit: HISTORY_PAGE }));
    } catch (error) {
      const failure = asFailure(error);
      if (failure.code !== DISCONNECTED) this.#surroundings.notice(`Messages could not be loaded. ${explain(failure)}`);
    } finally {
      this.isLoading = false;
      // Where nothing could be loaded, what is known is shown.
      if (this.#past === undefined) this.#isStub = false;
      this.#surroundings.changed();
    }
  }

  #follow(): void {
    const feed = this.#feed;
    const { changed, notice } = this.#surroundings;
    feed.on("stage", (stage) => {
      // What is shown stays while there is no connection.
      if (stage !== "waiting") this.stage = stage;
      this.isInterrupted = false;
      if (stage === "waiting") this.isPresenceKnown = false;
      if (stage === "entering") this.pins.wait();
      if (stage === "entered") {
        this.#see();
        void this.#refresh();
      }
      changed();
    });
    feed.on("joined", ({ pins, notificationLevel, statuses, othersReadSeq }) => {
      this.pins.begin(pins ?? []);
      this.#setLevel({ level: notificationLevel ?? this.level });
      // Without pins the store did not say.
      if (pins !== undefined) this.reading.noteOthers(othersReadSeq ?? 0);
      for (const status of statuses ?? []) this.#surroundings.said(status);
      this.#isStale = this.#wasJoined;
      this.#wasJoined = true;
    });
    feed.on("users", (users) => {
      // If there are more, the next list says how many.
      this.#setPresent(users, users.length);
      this.typists.clear();
    });
    feed.on("reset", (newest, hasOlder) => {
      this.#live.clear();
      this.#past = undefined;
      this.#isStub = false;
      this.activity.clear();
      this.firstUnread = undefined;
      this.#meet(newest);
      this.#live.merge(newest);
      // Who is not looking has seen nothing of it.
      this.reading.beginAt((this.#isVisible ? newest.at(-1)?.seq : (newest[0]?.seq ?? 1) - 1) ?? 0);
      this.#hasOlder.live = hasOlder;
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

  /** Takes messages in at the end. */
  #arrive(messages: readonly Message[]): void {
    this.isInterrupted = false;
    this.#meet(messages);
    const added = this.#live.merge(messages).filter(({ userId }) => userId !== this.ownId);
    for (const { userId } of messages) this.typists.remove(userId);
    const seen = this.reading.seq;
    this.#see();
    const unread = added.find(({ seq }) => seq > Math.max(this.reading.seq, this.reading.listed));
    if (unread !== undefined && (this.firstUnread ?? 0) <= seen) this.firstUnread = unread.seq;
    const limit = this.#isAtEnd && !this.#past ? MAX_LOADED_AT_END : MAX_LOADED;
    if (this.#live.messages.length > limit && this.#live.keepNewest((limit * 2) / 3)) this.#hasOlder.live = true;
    // What was missed is not read out, what comes now is.
    if (this.stage === "entered") for (const message of added) this.#surroundings.arrived(message);
    if (this.stage === "entered" && this.#isVisible) {
      for (const { userName, content } of added) this.#surroundings.announce(`${userName}: ${content}`);
    }
    this.#surroundings.changed();
  }

  #see(): void {
    if (this.#isAtEnd && this.#isVisible && !this.#past) this.reading.see(this.#live.newest?.seq ?? 0, this.stage === "entered");
  }

  /** Takes over a newer version of a message. */
  renew(message: Message): void {
    const known = this.#live.find(message.id) ?? this.#past?.find(message.id);
    if (known !== undefined && !isCurrent(message, known)) return;
    // A newer version of what is loaded; of what is not, history has it.
    for (const timeline of [this.#live, this.#past]) {
      timeline?.change(message.id, (known) => withOwn(message, known));
      timeline?.requote(message);
    }
    if (message.deletedAt) this.pins.remove(message.id);
    else if (this.pins.has(message.id)) this.pins.renew(message);
  }

  #listen(): void {
    const connection = this.#connection;
    const isOurs = ({ conversationId }: { conversationId: string }) => conversationId === this.id;
    const happened = (happening: Happening) => (event: SystemEvent) => {
      if (isOurs(event)) this.#note(happening, event);
    };
    this.#ends.push(
      connection.on("message_edited", (message) => {
        if (isOurs(message)) this.renew(message);
        this.#surroundings.changed();
      }),
      connection.on("message_deleted", (deleted) => {
        if (!isOurs(deleted)) return;
        for (const timeline of [this.#live, this.#past]) {
          timeline?.markDeleted(deleted);
          timeline?.forgetQuoted(deleted.messageId, deleted.deletedAt);
        }
        this.pins.remove(deleted.messageId);
        this.#surroundings.changed();
      }),
      connection.on("message_reaction", (reaction) => {
        if (!isOurs(reaction)) return;
        this.#change(reaction.messageId, (message) => withReaction(message, reaction, this.ownId));
        this.#surroundings.changed();
      }),
      connection.on("message_pinned", (pinned) => {
        if (!isOurs(pinned)) return;
        this.pins.add(pinned.pin);
        this.#surroundings.changed();
      }),
      connection.on("message_unpinned", (unpinned) => {
        if (!isOurs(unpinned)) return;
        this.pins.remove(unpinned.messageId);
        this.#surroundings.changed();
      }),
      connection.on("notification_level", (set) => {
        if (!isOurs(set)) return;
        this.#setLevel(set);
        this.#surroundings.changed();
      }),
      connection.on("message_read", (read) => {
        if (!isOurs(read)) return;
        if (read.userId === this.ownId) this.reading.seeElsewhere(read.seq);
        else this.reading.noteOther(read.userId, read.seq);
        this.#surroundings.changed();
      }),
      connection.on("conversation:interrupted", (interruption) => {
        if (isOurs(interruption)) this.#interrupt(true);
      }),
      // The server sends it at the end of an interruption, whatever was missing.
      connection.on("conversation_updated", ({ conversation }) => {
        if (conversation.id === this.id) this.#interrupt(false);
      }),
      connection.on("presence", (presence) => {
        if (!isOurs(presence)) return;
        this.#setPresent(presence.users, presence.count);
        this.#surroundings.changed();
      }),
      connection.on("typing", (typing) => {
        if (!isOurs(typing) || typing.userId === this.ownId) return;
        this.typists.handle(typing, Date.now());
        this.#surroundings.changed();
      }),
      connection.on("user_joined", happened("joined")),
      connection.on("user_left", happened("left")),
      connection.on("user_disconnected", happened("disconnected")),
    );
  }

  #interrupt(isInterrupted: boolean): void {
    this.isInterrupted = isInterrupted;
    this.#surroundings.changed();
  }

  #meet(messages: readonly Message[]): void {
    for (const { userId, userName } of messages) this.#surroundings.met(userId, userName);
  }

  #setPresent(users: readonly PresentUser[], count: number): void {
    for (const { userId, name } of users) this.#surroundings.met(userId, name);
    this.users = users;
    this.present = count;
    this.isPresenceKnown = true;
  }

  #note(happening: Happening, event: SystemEvent): void {
    if (happening !== "joined") this.typists.remove(event.userId);
    if (event.userId !== this.ownId) {
      const line = this.activity.add(happening, event, this.#live.newest?.seq ?? 0);
      if (this.#isVisible) this.#surroundings.announce(line.text);
    }
    this.#surroundings.changed();
  }

  #tellTyping(isTyping: boolean | undefined): void {
    if (isTyping !== undefined && this.stage === "entered") this.#connection.tell("typing", { conversationId: this.id, isTyping });
  }
}

/** Requests reject with a failure; anything else is a mistake of ours and is not to be hidden. */
export function asFailure(error: unknown): Failure {
  if (error instanceof RequestError) return error;
  throw error;
}
