import { Effort } from "../../packages/client/src/effort.ts";
import { DISCONNECTED, type SocketManager } from "../../packages/client/src/index.ts";
import { explain, outcome } from "../words/failure.ts";
import type { ConversationInfo, ListedConversation, Message } from "../types.ts";
import { isolated } from "../words/text.ts";
import { Conversation } from "./conversation.ts";
import type { Surroundings } from "./surroundings.ts";
import { Deletions } from "./deletions.ts";
import type { People } from "./people.ts";

/** So many conversations are joined, and say by themselves what is new; of others the list knows as much as the server has said. */
const MAX_JOINED = 30;
/** So many of them are there before the list is called complete. */
const MAX_AWAITED = 10;
/** So many of those who were met can be mentioned where everybody is a member. */
const MAX_MENTIONABLE = 500;
const MAX_PAGES = 5;
const PAGE = 200;

/** One line of the list. */
export interface Item {
  id: string;
  title: string;
  unread: number;
  newest: Message | undefined;
  isOpen: boolean;
  /** Nothing of it is to be told. */
  isMuted: boolean;
  /** In a conversation of two the other one, where it is known who is present. */
  other: { userId: string; isPresent: boolean } | undefined;
  time: string;
}

/** What the outside does for the list beside what it does for each conversation. */
export interface InboxSurroundings extends Omit<Surroundings, "arrived"> {
  arrived(message: Message, conversation: Conversation): void;
  /** We are in a conversation no longer. */
  lost(id: string, title: string): void;
}

/** The conversations of who we are. */
export class Inbox {
  readonly #known = new Map<string, ConversationInfo & Partial<ListedConversation>>();
  readonly #joined = new Map<string, Conversation>();
  readonly #manager: SocketManager;
  readonly #people: People;
  readonly #surroundings: InboxSurroundings;
  readonly deletions: Deletions;
  readonly #effort = new Effort();
  #isLoaded = false;
  /** Those that are waited for at first. */
  #awaited: readonly string[] = [];
  /** What was told of conversations since the list was last asked for; nothing of those that we are in no longer. */
  #told = new Map<string, ConversationInfo | undefined>();

  constructor(manager: SocketManager, people: People, surroundings: InboxSurroundings) {
    this.#manager = manager;
    this.#people = people;
    this.#surroundings = surroundings;
    this.deletions = new Deletions(manager, {
      changed: surroundings.changed,
      done: (message) => this.#joined.get(message.conversationId)?.renew(message),
      refused: (failure) => surroundings.notice(outcome(failure, "Not deleted.", "Not confirmed, it may have been deleted.", "message")),
    });
    manager.on("conversation_updated", ({ conversation }) => this.#handleUpdate(conversation));
    manager.on("conversation_deleted", ({ conversationId }) => this.#drop(conversationId));
  }

  /** Whether all are listed, and what is new in the first of them is known. */
  get isReady(): boolean {
    return this.#isLoaded && this.#awaited.every((id) => this.#joined.get(id)?.stage !== "entering");
  }

  /** Those with the newest messages first. */
  get items(): Item[] {
    const items = [...this.#known.values()].map((info) => this.#item(info));
    return items.sort((one, other) => other.time.localeCompare(one.time));
  }

  get unread(): number {
    let sum = 0;
    for (const conversation of this.#joined.values()) if (conversation.level !== "none") sum += conversation.unread;
    return sum;
  }

  /** Lists what there is, again after each connect, and again and again until it has worked. */
  load(): Promise<void> {
    this.deletions.resume();
    return this.#effort.begin((isCurrent) => this.#list(isCurrent), (failure) => {
      // The next connect lists anew.
      if (failure.code === DISCONNECTED || !this.#manager.isReady) return false;
      this.#surroundings.notice(`Your conversations could not be listed. ${explain(failure)}`);
      return failure.code !== "FORBIDDEN";
    });
  }

  /** A conversation that is looked at: it is joined before all others. */
  open(id: string): Conversation {
    if (this.#joined.has(id)) this.#manager.conversation(id);
    return this.#join(id, false);
  }

  /** Whether what is written in a conversation is heard at once. */
  hears(id: string): boolean {
    return this.#joined.get(id)?.stage === "entered";
  }

  /** The title, or who else is in it. */
  titleOf(id: string): string {
    const info = this.#known.get(id) ?? this.#joined.get(id)?.info;
    if (info === undefined) return "Conversation";
    if (info.title !== null) return info.title;
    const others = info.memberIds.filter((userId) => userId !== this.#manager.session?.userId);
    const names = others.slice(0, 3).map((userId) => this.#people.nameOf(userId) ?? userId);
    if (names.length === 0) return "Only you";
    return others.length > names.length ? `${names.join(", ")} and ${others.length - names.length} more` : names.join(", ");
  }

  /** Takes over what an answer says of a conversation. */
  update(conversation: ConversationInfo): Conversation {
    this.#told.set(conversation.id, conversation);
    this.#learn(conversation);
    this.#surroundings.changed();
    return this.#join(conversation.id, true);
  }

  /** A conversation that we have left or deleted ourselves. */
  forget(id: string): void {
    this.#told.set(id, undefined);
    this.#known.delete(id);
    this.#joined.get(id)?.close();
    this.#joined.delete(id);
    this.#manager.leaveConversation(id);
    this.#surroundings.changed();
  }

  /** The page may be going: what waits for a while is done now. */
  flush(): void {
    this.deletions.flush();
  }

  close(): void {
    this.#effort.end();
    this.flush();
    for (const conversation of this.#joined.values()) conversation.close();
  }

  /** Those who may be meant in a conversation: its members, or, where everybody is one, those who were met. */
  peopleOf({ info, isOpen, users, ownId }: Conversation): { userId: string; name: string }[] {
    const known = (userId: string) => ({ userId, name: this.#people.nameOf(userId) ?? userId });
    const ids = isOpen ? [...users.map(({ userId }) => userId), ...this.#people.find("", MAX_MENTIONABLE).map(({ userId }) => userId)] : (info?.memberIds ?? []);
    return [...new Set(ids)].filter((userId) => userId !== ownId).map(known);
  }

  async #list(isCurrent: () => boolean): Promise<void> {
    const told = (this.#told = new Map<string, ConversationInfo | undefined>());
    const listed = new Map<string, ListedConversation>();
    let cursor: string | undefined;
    for (let page = 0; page < MAX_PAGES; page += 1) {
      const answer = await this.#manager.request("conversations", { limit: PAGE, ...(cursor !== undefined && { cursor }) });
      // Another connect has begun another list.
      if (!isCurrent()) return;
      for (const conversation of answer.conversations) listed.set(conversation.id, conversation);
      cursor = answer.cursor;
      if (!answer.hasMore) break;
    }
    // What was told while the list was on its way is newer than the list.
    for (const [id, news] of told) {
      const known = listed.get(id);
      if (news === undefined) listed.delete(id);
      else if (known !== undefined) listed.set(id, { ...known, ...news });
    }
    for (const id of [...this.#known.keys()]) if (!listed.has(id) && !told.has(id) && cursor === undefined) this.#drop(id);
    for (const conversation of listed.values()) this.#learn(conversation);
    const urgent = [...listed.values()].sort((one, other) => Number(other.unread > 0) - Number(one.unread > 0)).map(({ id }) => id);
    for (const id of urgent.slice(0, MAX_JOINED)) this.#join(id, true);
    this.#awaited = urgent.slice(0, MAX_AWAITED);
    this.#isLoaded = true;
    this.#surroundings.changed();
  }

  #join(id: string, background: boolean): Conversation {
    const joined = this.#joined.get(id);
    if (joined !== undefined) return joined;
    const surroundings = { ...this.#surroundings, arrived: (message: Message) => this.#surroundings.arrived(message, conversation) };
    const conversation = new Conversation(id, this.#manager, surroundings, this.#known.get(id), background);
    this.#joined.set(id, conversation);
    return conversation;
  }

  #learn(info: ConversationInfo & Partial<ListedConversation>): void {
    this.#known.set(info.id, { ...this.#known.get(info.id), ...info });
    const joined = this.#joined.get(info.id);
    if (joined === undefined) return;
    joined.info = info;
    if (info.notificationLevel !== undefined) joined.level = info.notificationLevel;
    if (info.readSeq === undefined) return;
    // It was opened by its address, before anybody could say what is new in it.
    if (!this.#isLoaded && info.readSeq > 0 && info.unread) joined.firstUnread = info.readSeq + 1;
    joined.reading.seeElsewhere(info.readSeq);
  }

  #handleUpdate(info: ConversationInfo): void {
    const userId = this.#manager.session?.userId;
    const isOpen = info.ownerId === null && info.memberIds.length === 0;
    if (!isOpen && userId !== undefined && !info.memberIds.includes(userId)) return this.#drop(info.id);
    const isNew = !this.#known.has(info.id);
    this.update(info);
    if (isNew) this.#surroundings.notice(`You were added to “${isolated(this.titleOf(info.id))}”.`);
  }

  #drop(id: string): void {
    this.#told.set(id, undefined);
    if (!this.#known.has(id)) return;
    const title = this.titleOf(id);
    this.forget(id);
    this.#surroundings.lost(id, title);
  }

  #otherOf({ memberIds }: ConversationInfo, joined: Conversation | undefined): Item["other"] {
    const [userId] = memberIds.filter((one) => one !== this.#manager.session?.userId);
    if (userId === undefined || memberIds.length !== 2 || joined?.stage !== "entered") return undefined;
    return { userId, isPresent: joined.isPresenceKnown && joined.users.some((user) => user.userId === userId) };
  }

  #item(info: ConversationInfo & Partial<ListedConversation>): Item {
    const joined = this.#joined.get(info.id);
    const newest = joined?.newest;
    return {
      id: info.id,
      title: this.titleOf(info.id),
      unread: joined?.unread ?? info.unread ?? 0,
      newest,
      isOpen: info.ownerId === null && info.memberIds.length === 0,
      other: this.#otherOf(info, joined),
      isMuted: (joined?.level ?? info.notificationLevel) === "none",
      time: newest?.createdAt ?? info.updatedAt,
    };
  }
}
