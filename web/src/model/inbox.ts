import type { SocketManager } from "../../packages/client/src/index.ts";
import { explain } from "../words/failure.ts";
import type { ConversationInfo, ListedConversation, Message } from "../types.ts";
import { Conversation, type Surroundings, asFailure } from "./conversation.ts";
import type { People } from "./people.ts";

/** So many conversations are joined, and say by themselves what is new; of others the list knows as much as the server has said. */
const MAX_JOINED = 30;
const MAX_PAGES = 5;
const PAGE = 200;

/** One line of the list. */
export interface Item {
  id: string;
  title: string;
  unread: number;
  newest: Message | undefined;
  isOpen: boolean;
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
  #isLoaded = false;

  constructor(manager: SocketManager, people: People, surroundings: InboxSurroundings) {
    this.#manager = manager;
    this.#people = people;
    this.#surroundings = surroundings;
    manager.on("conversation_updated", ({ conversation }) => this.#handleUpdate(conversation));
    manager.on("conversation_deleted", ({ conversationId }) => this.#drop(conversationId));
  }

  /** Whether all are listed, and what is new in them is known. */
  get isReady(): boolean {
    return this.#isLoaded && [...this.#joined.values()].every(({ stage }) => stage !== "entering");
  }

  /** Those with the newest messages first. */
  get items(): Item[] {
    const items = [...this.#known.values()].map((info) => this.#item(info));
    return items.sort((one, other) => other.time.localeCompare(one.time));
  }

  get unread(): number {
    let sum = 0;
    for (const conversation of this.#joined.values()) sum += conversation.unread;
    return sum;
  }

  /** Lists what there is, again after each connect. */
  async load(): Promise<void> {
    try {
      const listed = new Map<string, ListedConversation>();
      let cursor: string | undefined;
      for (let page = 0; page < MAX_PAGES; page += 1) {
        const answer = await this.#manager.request("conversations", { limit: PAGE, ...(cursor !== undefined && { cursor }) });
        for (const conversation of answer.conversations) listed.set(conversation.id, conversation);
        cursor = answer.cursor;
        if (!answer.hasMore) break;
      }
      for (const id of [...this.#known.keys()]) if (!listed.has(id) && cursor === undefined) this.#drop(id);
      for (const conversation of listed.values()) this.#learn(conversation);
      const urgent = [...listed.values()].sort((one, other) => Number(other.unread > 0) - Number(one.unread > 0));
      for (const { id } of urgent.slice(0, MAX_JOINED)) this.open(id);
      this.#isLoaded = true;
      this.#surroundings.changed();
    } catch (error) {
      const failure = asFailure(error);
      if (this.#manager.isReady) this.#surroundings.notice(`Your conversations could not be listed. ${explain(failure)}`);
    }
  }

  /** A conversation, joined. */
  open(id: string): Conversation {
    const joined = this.#joined.get(id);
    if (joined !== undefined) return joined;
    const surroundings = { ...this.#surroundings, arrived: (message: Message) => this.#surroundings.arrived(message, conversation) };
    const conversation = new Conversation(id, this.#manager, surroundings, this.#known.get(id));
    this.#joined.set(id, conversation);
    return conversation;
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
    this.#learn(conversation);
    this.#surroundings.changed();
    return this.open(conversation.id);
  }

  /** A conversation that we have left or deleted ourselves. */
  forget(id: string): void {
    this.#known.delete(id);
    this.#joined.get(id)?.close();
    this.#joined.delete(id);
    this.#manager.leaveConversation(id);
    this.#surroundings.changed();
  }

  /** The page may be going: what waits for a while is done now. */
  flush(): void {
    for (const conversation of this.#joined.values()) conversation.flush();
  }

  close(): void {
    for (const conversation of this.#joined.values()) conversation.close();
  }

  #learn(info: ConversationInfo & Partial<ListedConversation>): void {
    this.#known.set(info.id, { ...this.#known.get(info.id), ...info });
    const joined = this.#joined.get(info.id);
    if (joined === undefined) return;
    joined.info = info;
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
    if (isNew) this.#surroundings.notice(`You were added to “${this.titleOf(info.id)}”.`);
  }

  #drop(id: string): void {
    if (!this.#known.has(id)) return;
    const title = this.titleOf(id);
    this.forget(id);
    this.#surroundings.lost(id, title);
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
      time: newest?.createdAt ?? info.updatedAt,
    };
  }
}
