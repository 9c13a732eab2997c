import { Effort } from "../../packages/client/src/effort.ts";
import { DISCONNECTED, type SocketManager } from "../../packages/client/src/index.ts";
import { explain, outcome } from "../words/failure.ts";
import type { ConversationInfo, ListedConversation, Message } from "../types.ts";
import { isolated } from "../words/text.ts";
import { Conversation, type Known } from "./conversation.ts";
import type { ConversationCallbacks } from "./callbacks.ts";
import { Deletions } from "./deletions.ts";
import type { People } from "./people.ts";

/**
 * Maximum number of joined conversations, which receive live messages. Of the rest, the list only
 * has what the server listed.
 */
const MAX_JOINED = 30;
/** Number of conversations that must be joined before the list counts as complete. */
const MAX_AWAITED = 10;
/**
 * Maximum number of known users that can be mentioned in a conversation that all users are members
 * of.
 */
const MAX_MENTIONABLE = 500;
const MAX_PAGES = 5;
const PAGE = 200;

/** What the list shows of a message. */
export type Newest = Pick<Message, "userId" | "userName" | "content" | "createdAt" | "deletedAt">;

/** One line of the list. */
export interface Item {
  id: string;
  title: string;
  unread: number;
  /** Whether an unread message mentions the user. */
  isMentioned: boolean;
  newest: Newest | undefined;
  /** Whether it has no messages. Otherwise `newest` may only be unknown. */
  isEmpty: boolean;
  isOpen: boolean;
  /** Whether its notification level is `none`. */
  isMuted: boolean;
  /** The other user of a conversation of two, if their presence is known. */
  other: { userId: string; isPresent: boolean } | undefined;
  /** Its place in the list: higher ranks first, and later times first within a rank. */
  rank: number;
  time: string;
}

/** The callbacks of the list, in addition to those of each conversation. */
export interface InboxCallbacks extends Omit<ConversationCallbacks, "arrived"> {
  arrived(message: Message, conversation: Conversation): void;
  /** Called when the user is no longer a member of a conversation. */
  lost(id: string, title: string): void;
  /** Returns the ids of the conversations with unread mentions of the user. */
  mentions(): ReadonlySet<string>;
}

/** The conversations of the user. */
export class Inbox {
  readonly #known = new Map<string, Known>();
  readonly #joined = new Map<string, Conversation>();
  readonly #manager: SocketManager;
  readonly #people: People;
  readonly #callbacks: InboxCallbacks;
  readonly deletions: Deletions;
  readonly #effort = new Effort();
  #isLoaded = false;
  /** The ids of the conversations that must be joined before the list is complete. */
  #awaited: readonly string[] = [];
  /**
   * Changes of conversations since the list was last requested; `undefined` for conversations that
   * the user has left.
   */
  #changes = new Map<string, ConversationInfo | undefined>();
  /** The visible conversation. It keeps the rank it had when it was opened. */
  #opened = { id: "", rank: 0 };

  constructor(manager: SocketManager, people: People, callbacks: InboxCallbacks) {
    this.#manager = manager;
    this.#people = people;
    this.#callbacks = callbacks;
    this.deletions = new Deletions(manager, {
      changed: callbacks.changed,
      done: (message) => this.#joined.get(message.conversationId)?.renew(message),
      refused: (failure) => callbacks.notice(outcome(failure, "Not deleted.", "Not confirmed, it may have been deleted.", "message")),
    });
    manager.on("conversation_updated", ({ conversation }) => this.#handleUpdate(conversation));
    manager.on("conversation_deleted", ({ conversationId }) => this.#drop(conversationId));
    // Joined conversations receive these by themselves.
    manager.on("message_read", ({ conversationId, userId, seq }) => {
      const known = this.#known.get(conversationId);
      if (userId === manager.session?.userId && seq >= (known?.lastSeq ?? Infinity)) this.#correct(conversationId, { unread: 0 });
    });
    manager.on("notification_level", ({ conversationId, level }) => this.#correct(conversationId, { notificationLevel: level }));
  }

  /** Whether the conversations are listed and the first of them are joined. */
  get isReady(): boolean {
    return this.#isLoaded && this.#awaited.every((id) => this.#joined.get(id)?.stage !== "entering");
  }

  /** Whether the user has no conversation. */
  get isEmpty(): boolean {
    return this.#isLoaded && this.#known.size === 0;
  }

  /**
   * The conversations: first those with unread mentions, then those with other unread messages,
   * each with the newest messages first. Muted conversations count as read.
   */
  get items(): Item[] {
    const mentions = this.#callbacks.mentions();
    const items = this.all.map((info) => this.#item(info, mentions));
    return items.sort((one, other) => other.rank - one.rank || (one.time < other.time ? 1 : -Number(one.time > other.time)));
  }

  /** The conversations of the user, in no particular order. */
  get all(): Known[] {
    return [...this.#known.values()];
  }

  /** Whether a user is present in any joined conversation. */
  isPresent(userId: string): boolean {
    return [...this.#joined.values()].some(({ isPresenceKnown, users }) => isPresenceKnown && users.some((user) => user.userId === userId));
  }

  /** The number of unread messages, except in muted conversations. */
  get unread(): number {
    let sum = 0;
    for (const conversation of this.#joined.values()) if (conversation.level !== "none") sum += conversation.unread;
    for (const { id, unread = 0, notificationLevel } of this.#known.values()) if (!this.#joined.has(id) && notificationLevel !== "none") sum += unread;
    return sum;
  }

  /** Returns what is known of a conversation. */
  known(id: string): Known | undefined {
    return this.#known.get(id);
  }

  /** Lists the conversations, with retries until it succeeds. Called after each connect. */
  load(): Promise<void> {
    this.deletions.resume();
    return this.#effort.begin((isCurrent) => this.#list(isCurrent), (failure) => {
      // The next connect lists them again.
      if (failure.code === DISCONNECTED || !this.#manager.isReady) return false;
      this.#endListing();
      this.#callbacks.notice(`Your conversations could not be listed. ${explain(failure)}`);
      return failure.code !== "FORBIDDEN";
    });
  }

  /** Opens a conversation in view. It is joined before all others. */
  open(id: string): Conversation {
    const info = this.#known.get(id);
    if (id !== this.#opened.id) this.#opened = { id, rank: info === undefined ? 0 : this.#item(info).rank };
    if (this.#joined.has(id)) this.#manager.conversation(id);
    return this.#join(id, false);
  }

  /** Whether a conversation is joined, so that its messages arrive live. */
  isJoined(id: string): boolean {
    return this.#joined.get(id)?.stage === "entered";
  }

  /** Returns the title, or the names of the other members. */
  titleOf(id: string): string {
    const info = this.#known.get(id) ?? this.#joined.get(id)?.info;
    if (info === undefined) return "Conversation";
    if (info.title !== null) return info.title;
    const others = info.memberIds.filter((userId) => userId !== this.#manager.session?.userId);
    const names = others.slice(0, 3).map((userId) => this.#people.nameOf(userId) ?? userId);
    if (names.length === 0) return "Only you";
    return others.length > names.length ? `${names.join(", ")} and ${others.length - names.length} more` : names.join(", ");
  }

  /** Updates a conversation from an answer of the server. */
  update(conversation: ConversationInfo): Conversation {
    this.#changes.set(conversation.id, conversation);
    this.#learn(conversation);
    this.#callbacks.changed();
    return this.#join(conversation.id, true);
  }

  /** Removes a conversation that this user has left or deleted. */
  forget(id: string): void {
    this.#changes.set(id, undefined);
    this.#known.delete(id);
    this.#joined.get(id)?.close();
    this.#joined.delete(id);
    this.#manager.leaveConversation(id);
    this.#callbacks.changed();
  }

  /** Sends delayed requests now, because the page may be closed. */
  flush(): void {
    this.deletions.flush();
  }

  close(): void {
    this.#effort.end();
    this.flush();
    for (const conversation of this.#joined.values()) conversation.close();
  }

  /**
   * Returns the users that can be mentioned in a conversation: its members, or the known users if
   * all users are members.
   */
  peopleOf({ info, isOpen, users, ownId }: Conversation): { userId: string; name: string }[] {
    const known = (userId: string) => ({ userId, name: this.#people.nameOf(userId) ?? userId });
    const ids = isOpen ? [...users.map(({ userId }) => userId), ...this.#people.find("", MAX_MENTIONABLE).map(({ userId }) => userId)] : (info?.memberIds ?? []);
    return [...new Set(ids)].filter((userId) => userId !== ownId).map(known);
  }

  async #list(isCurrent: () => boolean): Promise<void> {
    const changes = (this.#changes = new Map<string, ConversationInfo | undefined>());
    const listed = new Map<string, ListedConversation>();
    let cursor: string | undefined;
    for (let page = 0; page < MAX_PAGES; page += 1) {
      const answer = await this.#manager.request("conversations", { limit: PAGE, ...(cursor !== undefined && { cursor }) });
      // A newer connect has started another listing.
      if (!isCurrent()) return;
      for (const conversation of answer.conversations) listed.set(conversation.id, conversation);
      cursor = answer.cursor;
      if (!answer.hasMore) break;
    }
    // Changes that arrived during the request are newer than the list.
    for (const [id, news] of changes) {
      const known = listed.get(id);
      if (news === undefined) listed.delete(id);
      else if (known !== undefined) listed.set(id, { ...known, ...news });
    }
    for (const id of [...this.#known.keys()]) if (!listed.has(id) && !changes.has(id) && cursor === undefined) this.#drop(id);
    for (const conversation of listed.values()) this.#learn(conversation);
    const isUrgent = ({ unread, notificationLevel }: ListedConversation) => Number(unread > 0 && notificationLevel !== "none");
    const urgent = [...listed.values()].sort((one, other) => isUrgent(other) - isUrgent(one)).map(({ id }) => id);
    for (const id of urgent.slice(0, MAX_JOINED)) this.#join(id, true);
    this.#awaited = urgent.slice(0, MAX_AWAITED);
    this.#isLoaded = true;
    this.#endListing();
    this.#callbacks.changed();
  }

  /** Lets conversations that are not listed be shown, such as one that was opened by its address. */
  #endListing(): void {
    for (const [id, conversation] of this.#joined) if (this.#known.get(id)?.readSeq === undefined) conversation.handleListed();
  }

  #join(id: string, background: boolean): Conversation {
    const joined = this.#joined.get(id);
    if (joined !== undefined) return joined;
    const callbacks = { ...this.#callbacks, arrived: (message: Message) => this.#callbacks.arrived(message, conversation) };
    const conversation = new Conversation(id, this.#manager, callbacks, this.#known.get(id), background);
    this.#joined.set(id, conversation);
    if (this.#isLoaded) conversation.handleListed();
    return conversation;
  }

  #learn(info: Known): void {
    this.#known.set(info.id, { ...this.#known.get(info.id), ...info });
    const joined = this.#joined.get(info.id);
    if (joined === undefined) return;
    joined.info = info;
    if (info.notificationLevel !== undefined) joined.level = info.notificationLevel;
    if (info.readSeq !== undefined) joined.handleListed(info);
  }

  #handleUpdate(info: ConversationInfo): void {
    const userId = this.#manager.session?.userId;
    const isOpen = info.ownerId === null && info.memberIds.length === 0;
    if (!isOpen && userId !== undefined && !info.memberIds.includes(userId)) return this.#drop(info.id);
    const isNew = !this.#known.has(info.id);
    this.update(info);
    if (isNew) this.#callbacks.notice(`You were added to “${isolated(this.titleOf(info.id))}”.`);
  }

  #correct(id: string, news: Partial<Known>): void {
    const known = this.#known.get(id);
    if (known === undefined) return;
    Object.assign(known, news);
    this.#callbacks.changed();
  }

  #drop(id: string): void {
    this.#changes.set(id, undefined);
    if (!this.#known.has(id)) return;
    const title = this.titleOf(id);
    this.forget(id);
    this.#callbacks.lost(id, title);
  }

  #otherOf({ memberIds }: ConversationInfo, joined: Conversation | undefined): Item["other"] {
    const [userId] = memberIds.filter((one) => one !== this.#manager.session?.userId);
    if (userId === undefined || memberIds.length !== 2 || joined?.stage !== "entered") return undefined;
    return { userId, isPresent: joined.isPresenceKnown && joined.users.some((user) => user.userId === userId) };
  }

  #item(info: Known, mentions = this.#callbacks.mentions()): Item {
    const { id } = info;
    const joined = this.#joined.get(id);
    const last = info.lastMessage;
    const newest: Newest | undefined = joined?.newest ?? (last && { ...last, content: last.excerpt });
    const unread = joined?.unread ?? info.unread ?? 0;
    const isMuted = (joined?.level ?? info.notificationLevel) === "none";
    const isMentioned = unread > 0 && mentions.has(id);
    return {
      id,
      title: this.titleOf(id),
      unread,
      isMentioned,
      newest,
      isEmpty: newest === undefined && (joined ? joined.stage === "entered" : info.lastSeq === 0),
      isOpen: info.ownerId === null && info.memberIds.length === 0,
      other: this.#otherOf(info, joined),
      isMuted,
      rank: id === this.#opened.id ? this.#opened.rank : isMuted || unread === 0 ? 0 : isMentioned ? 2 : 1,
      time: newest?.createdAt ?? info.updatedAt,
    };
  }
}
