import type { Api } from "./drill/api.ts";

const OF_CONVERSATION = "conversation:";
/** Conversations of one request. */
const MAX_IDS = 100;
/** Time in milliseconds after which titles are requested again. */
const FRESH = 60_000;

/** The titles of conversations, as far as the role permits. */
export class Titles {
  #titles = new Map<string, string>();
  #at = 0;
  #isDenied = false;

  /** Returns the title of the conversation of a room. */
  get(room: string): string | undefined {
    return this.#titles.get(room);
  }

  /** Requests the titles of rooms that are not known yet. */
  async load(api: Pick<Api, "conversations">, rooms: readonly string[]): Promise<void> {
    const isOld = Date.now() - this.#at > FRESH;
    const unknown = rooms.filter((room) => room.startsWith(OF_CONVERSATION) && (isOld || !this.#titles.has(room)));
    const ids = [...new Set(unknown)].slice(0, MAX_IDS).map((room) => room.slice(OF_CONVERSATION.length));
    if (ids.length === 0 || this.#isDenied) return;
    try {
      const { conversations } = await api.conversations({ ids: ids.join(",") });
      const known = isOld ? [] : this.#titles;
      // A deleted conversation has no title and is not requested each time.
      const none = ids.map((id): [string, string] => [`${OF_CONVERSATION}${id}`, "deleted"]);
      this.#titles = new Map([...known, ...none, ...conversations.map(({ id, title }): [string, string] => [`${OF_CONVERSATION}${id}`, title ?? "untitled"])]);
      if (isOld) this.#at = Date.now();
    } catch (error) {
      // The rooms are shown by their names.
      this.#isDenied = (error as { code?: unknown }).code === "FORBIDDEN";
    }
  }

  clear(): void {
    this.#titles = new Map();
    this.#at = 0;
    this.#isDenied = false;
  }
}
