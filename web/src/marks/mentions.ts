/** The server takes so many in a message. */
const MAX_MENTIONS = 20;

export interface Person {
  readonly userId: string;
  readonly name: string;
}

/** What is being written behind an `@`, up to the cursor: where it begins and what it is so far. */
export function mentionAt(text: string, cursor: number): { from: number; query: string } | undefined {
  const [whole, query] = /(?<![\p{L}\p{N}_@])@([^\s@]{0,40}(?: [^\s@]{1,40})?)$/u.exec(text.slice(0, cursor)) ?? [];
  return whole === undefined || query === undefined ? undefined : { from: cursor - whole.length, query };
}

/** Those whose name or id goes on like that, names that begin so first. */
export function completionsOf(people: readonly Person[], query: string, limit: number): Person[] {
  const wanted = query.toLowerCase();
  const found = people.filter(({ name, userId }) => name.toLowerCase().includes(wanted) || userId.toLowerCase().startsWith(wanted));
  const rank = ({ name }: Person) => Number(!name.toLowerCase().startsWith(wanted));
  return found.sort((one, other) => rank(one) - rank(other) || one.name.localeCompare(other.name)).slice(0, limit);
}

/** A piece of a text, and who is mentioned by it. */
export interface Piece {
  readonly text: string;
  readonly people: readonly Person[];
}

/** Cuts a text where it says `@` and a name; of names that begin alike the longest counts. */
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
 * Whom a text mentions. Of several with one name those who were chosen are meant; where nobody was chosen, nobody
 * knows which is.
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
