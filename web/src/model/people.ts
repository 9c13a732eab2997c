/** Maximum number of known users. The oldest are evicted. */
const MAX_KNOWN = 5_000;

/** Letters of other scripts that look like Latin ones. */
const LOOKALIKES = new Map(
  "аa вb еe зz іl јj кk мm нh оo рp сc тt уy хx ѕs ԁd ɡg ԛq ԝw αa βb εe ηn ιl κk νv οo ρp τt υu χx 0o 1l |l ıl il"
    .split(" ")
    .map((pair) => [...pair] as [string, string]),
);

/** Returns the skeleton of a name, which is equal for names that look alike. */
export function skeletonOf(name: string): string {
  const plain = name.normalize("NFKD").replace(/\p{M}|\s/gu, "").toLowerCase();
  return [...plain].map((letter) => LOOKALIKES.get(letter) ?? letter).join("");
}

/** All users that appeared since the page was opened, by id. */
export class People {
  readonly #names = new Map<string, string>();
  readonly #skeletons = new Map<string, Set<string>>();

  learn(userId: string, name: string): void {
    const known = this.#names.get(userId);
    if (known === name) return;
    if (known !== undefined) this.#forget(userId, known);
    this.#names.set(userId, name);
    const alike = this.#skeletons.get(skeletonOf(name)) ?? new Set();
    this.#skeletons.set(skeletonOf(name), alike.add(userId));
    for (const [oldest, called] of this.#names) {
      if (this.#names.size <= MAX_KNOWN) break;
      this.#forget(oldest, called);
    }
  }

  nameOf(userId: string): string | undefined {
    return this.#names.get(userId);
  }

  /** Returns the end of a user's id if another user's name looks alike. */
  markOf(userId: string, name: string): string | undefined {
    const alike = this.#skeletons.get(skeletonOf(name));
    const others = (alike?.size ?? 0) - (alike?.has(userId) ? 1 : 0);
    return others > 0 ? userId.slice(-4) : undefined;
  }

  /** Returns the users whose name or id contains the query. */
  find(query: string, limit: number): { userId: string; name: string }[] {
    const needle = query.trim().toLowerCase();
    const found = [];
    for (const [userId, name] of [...this.#names].reverse()) {
      if (name.toLowerCase().includes(needle) || userId.toLowerCase().includes(needle)) found.push({ userId, name });
      if (found.length === limit) break;
    }
    return found;
  }

  #forget(userId: string, name: string): void {
    this.#names.delete(userId);
    this.#skeletons.get(skeletonOf(name))?.delete(userId);
  }
}
