/** The server's limit per message. */
const MAX_MENTIONS = 20;

export interface Person {
  readonly userId: string;
  readonly name: string;
}

/** Returns the start and the text of the mention before the cursor, if there is one. */
export function mentionAt(text: string, cursor: number): { from: number; query: string } | undefined {
  const [whole, query] = /(?<![\p{L}\p{N}_@])@([^\s@]{0,40}(?: [^\s@]{1,40})?)$/u.exec(text.slice(0, cursor)) ?? [];
  return whole === undefined || query === undefined ? undefined : { from: cursor - whole.length, query };
}

/** Returns people whose name or id matches, those whose name begins with the query first. */
export function completionsOf(people: readonly Person[], query: string, limit: number): Person[] {
  const needle = query.toLowerCase();
  const found = people.filter(({ name, userId }) => name.toLowerCase().includes(needle) || userId.toLowerCase().startsWith(needle));
  const rank = ({ name }: Person) => Number(!name.toLowerCase().startsWith(needle));
  return found.sort((one, other) => rank(one) - rank(other) || one.name.localeCompare(other.name)).slice(0, limit);
}

/** A piece of a text, and the people that it mentions. */
export interface Piece {
  readonly text: string;
  readonly people: readonly Person[];
}

/** Splits a text at mentions: an `@` and a name. If several names match, the longest applies. */
export function piecesOf(text: string, people: readonly Person[]): Piece[] {
  if (people.length === 0 || !text.includes("@")) return [{ text, people: [] }];
  const names = [...new Set(people.map(({ name }) => name))].filter((name) => name !== "").sort((one, other) => other.length - one.length);
  const pieces: Piece[] = [];
  let from = 0;
  for (let at = text.indexOf("@"); at !== -1; at = text.indexOf("@", at + 1)) {
    const name = isWord(text[at - 1]) ? undefined : names.find((one) => text.startsWith(one, at + 1) && !isWord(text[at + 1 + one.length]));
    if (name === undefined) continue;
    const end = at + 1 + name.length;
    if (at > from) pieces.push({ text: text.slice(from, at), people: [] });
    pieces.push({ text: text.slice(at, end), people: people.filter((person) => person.name === name) });
    from = end;
    at = end - 1;
  }
  if (from < text.length || pieces.length === 0) pieces.push({ text: text.slice(from), people: [] });
  return pieces;
}

/**
 * Returns the ids of the people that a text mentions. If several people have this name, only chosen
 * ones are mentioned. If none was chosen, the mention is ambiguous and ignored.
 */
export function mentionedIn(text: string, people: readonly Person[], chosen: ReadonlySet<string>): string[] {
  const ids = piecesOf(text, people).flatMap((piece) => {
    const meant = piece.people.filter(({ userId }) => chosen.has(userId));
    return meant.length > 0 ? meant : piece.people.length === 1 ? piece.people : [];
  });
  return [...new Set(ids.map(({ userId }) => userId))].slice(0, MAX_MENTIONS);
}

function isWord(character: string | undefined): boolean {
  return character !== undefined && /[\p{L}\p{N}_]/u.test(character);
}
