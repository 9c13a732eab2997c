import { excerptOf } from "./markdown.ts";

/** A part of an excerpt: a word that the query matches, or text. */
export interface Piece {
  text: string;
  isMatch: boolean;
}

/** Maximum number of characters of an excerpt, without its ellipses. */
const LENGTH = 160;
/** Number of characters before the first match, so that it is on the first lines of a phone. */
const LEAD = 40;
/** Maximum number of matches that are compared to choose the excerpt. */
const MAX_MATCHES = 200;

/** Letters and digits, as the server splits texts, with the marks on them. */
const WORD = /[\p{Alphabetic}\p{N}\p{M}]+/gu;

/** Returns the words of a query in lower case. Only queries with words find messages. */
export function wordsOf(query: string): string[] {
  return [...query.matchAll(WORD)].map(([word]) => word.toLowerCase());
}

/**
 * Returns the part of a message around the words that a query matches, on one line and without
 * Markdown marks. As on the server, the last word of a query can be the beginning of a word.
 */
export function excerptAround(content: string, query: string): Piece[] {
  const words = wordsOf(query);
  const last = words.pop();
  /** Returns the index of the query's word that a word matches, or -1. */
  const termOf = (word: string) => {
    const term = words.indexOf(word.toLowerCase());
    return term === -1 && last !== undefined && word.toLowerCase().startsWith(last) ? words.length : term;
  };
  const start = bestStart(content, termOf);
  const begin = start <= LEAD ? 0 : wordStart(content, start - LEAD, start);
  const rest = content.slice(begin);
  let line = excerptOf(rest, LENGTH + 1);
  // A match can be in what Markdown hides, such as the address of a link.
  if (!hasMatch(line, termOf)) {
    const raw = rest.slice(0, LENGTH * 4).replace(/\s+/g, " ").trim();
    if (hasMatch(raw, termOf)) line = raw;
  }
  const characters = [...line];
  const end = characters.length > LENGTH ? `${characters.slice(0, LENGTH).join("").trimEnd()}…` : line;
  return split(begin > 0 ? `…${end}` : end, termOf);
}

function hasMatch(text: string, termOf: (word: string) => number): boolean {
  return split(text, termOf).some(({ isMatch }) => isMatch);
}

/** Returns the index of the match that most of the query's words follow closely, or 0. */
function bestStart(content: string, termOf: (word: string) => number): number {
  const matches: { index: number; term: number }[] = [];
  for (const { 0: word, index } of content.matchAll(WORD)) {
    const term = termOf(word);
    if (term !== -1) matches.push({ index, term });
    if (matches.length === MAX_MATCHES) break;
  }
  let best = { index: 0, count: 0 };
  matches.forEach(({ index }, at) => {
    const terms = new Set<number>();
    for (const other of matches.slice(at)) {
      if (other.index > index + LENGTH - 2 * LEAD) break;
      terms.add(other.term);
    }
    if (terms.size > best.count) best = { index, count: terms.size };
  });
  return best.index;
}

/** Returns the first index from `from` on that begins a word, or an index near it before `end`. */
function wordStart(content: string, from: number, end: number): number {
  const space = content.slice(from, end).search(/\s\S/);
  if (space !== -1) return from + space + 1;
  // A text without spaces is not cut within a character.
  return /[\udc00-\udfff]/.test(content.charAt(from)) ? from + 1 : from;
}

/** Splits a text into its matches and the text between them. */
function split(text: string, termOf: (word: string) => number): Piece[] {
  const pieces: Piece[] = [];
  let from = 0;
  for (const { 0: word, index } of text.matchAll(WORD)) {
    if (termOf(word) === -1) continue;
    if (index > from) pieces.push({ text: text.slice(from, index), isMatch: false });
    pieces.push({ text: word, isMatch: true });
    from = index + word.length;
  }
  if (from < text.length) pieces.push({ text: text.slice(from), isMatch: false });
  return pieces;
}
