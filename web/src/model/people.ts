/** More people than this are forgotten, those longest known first. */
const MAX_KNOWN = 5_000;

/** Letters of other scripts that look like Latin ones. */
const LOOKALIKES = new Map(
  "аa вb еe зz іl јj кk мm нh оo рp сc тt уy хx ѕs ԁd ɡg ԛq ԝw αa βb εe ηn ιl κk νv οo ρp τt υu χx 0o 1l |l ıl il"
    .split(" ")
    .map((pair) => [...pair] as [string, string]),
);

/** What a name looks like: names of one look cannot be told apart. */
export function look(name: string): string {
  const plain = name.normalize("NFKD").replace(/\p{M}|\s/gu, "").toLowerCase();
  return [...plain].map((letter) => LOOKALIKES.get(letter) ?? letter).join("");
}

/** Everybody who was met since the page was opened, by id. */
export class People {
  readonly #names = new Map<string, string>();
  readonly #looks = new Map<string, Set<string>>();

  learn(userId: string, name: string): void {
    const known = this.#names.get(userId);
    if (known === name) return;
    if (known !== undefined) this.#forget(userId, known);
    this.#names.set(userId, name);
    const alike = this.#looks.get(look(name)) ?? new Set();
    this.#looks.set(look(name), alike.add(userId));
    for (const [oldest, called] of this.#names) {
      if (this.#names.size <= MAX_KNOWN) break;
      this.#forget(oldest, called);
    }
  }

  nameOf(userId: string): string | undefined {
    return this.#names.get(userId);
  }

  /** The end of the id of somebody whose name looks like that of somebody else. */
  markOf(userId: string, name: string): string | undefined {
    const alike = this.#looks.get(look(name));
    const others = (alike?.size ?? 0) - (alike?.has(userId) ? 1 : 0);
    return others > 0 ? userId.slice(-4) : undefined;
  }

  /** Those whose name or id has these words in it. */
  find(query: string, limit: number): { userId: string; name: string }[] {
    const wanted = query.trim().toLowerCase();
    const found = [];
    for (const [userId, name] of [...this.#names].reverse()) {
      if (name.toLowerCase().includes(wanted) || userId.toLowerCase().includes(wanted)) found.push({ userId, name });
      if (found.length === limit) break;
    }
    return found;
  }

  #forget(userId: string, name: string): void {
    this.#names.delete(userId);
    this.#looks.get(look(name))?.delete(userId);
  }
}
