import { hiddenHost } from "./links.ts";
import { preview, webAddress } from "./text.ts";

/** An inline element. */
export type Inline =
  | { kind: "text"; text: string }
  | { kind: "code"; text: string }
  | { kind: "strong" | "emphasis"; children: Inline[] }
  | {
      kind: "link";
      href: string;
      /** The host of the link, if its label looks like another host. */
      host: string | undefined;
      children: Inline[];
    };

/** A block of lines. */
export type Block =
  | {
      kind: "text";
      children: Inline[];
      /** Whether it follows a block of text, whose blank lines are between them. */
      isNext?: true;
    }
  | { kind: "code"; text: string }
  | { kind: "quote"; children: Block[] }
  | { kind: "list"; start: number | undefined; items: Inline[][] };

/** Maximum nesting depth. */
const MAX_DEPTH = 4;

const FENCE = /^ {0,3}```/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^ {0,3}(?:[-*+]|(\d{1,9})[.)]) +(?=\S)/;

/** Closes the block of code at the end of a text that is not complete. */
export function closed(text: string): string {
  const fences = text.split("\n").filter((line) => FENCE.test(line)).length;
  return fences % 2 === 0 ? text : `${text.replace(/\n$/, "")}\n\`\`\``;
}

/** Parses the inline elements of a text. */
type ParseInline = (text: string, depth: number) => Inline[];

/**
 * Parses the inline elements of a growing text. For a paragraph or an item that was also part of
 * the previous text, it returns the same array, so that the view can skip it.
 */
export class InlineCache {
  #before = new Map<string, Inline[]>();
  #current = new Map<string, Inline[]>();

  /** Discards the results that the latest text did not use. */
  advance(): void {
    [this.#before, this.#current] = [this.#current, new Map()];
  }

  readonly parse: ParseInline = (text, depth) => {
    const key = depth + text;
    const pieces = this.#current.get(key) ?? this.#before.get(key) ?? parseInline(text, depth);
    this.#current.set(key, pieces);
    return pieces;
  };
}

/** Whether two blocks are drawn alike, if both were parsed with one cache. */
export function isSameBlock(one: Block, other: Block): boolean {
  if (one.kind === "text" && other.kind === "text") return one.children === other.children && one.isNext === other.isNext;
  if (one.kind === "code" && other.kind === "code") return one.text === other.text;
  if (one.kind === "quote" && other.kind === "quote") return areSame(one.children, other.children, isSameBlock);
  return one.kind === "list" && other.kind === "list" && one.start === other.start && areSame(one.items, other.items, Object.is);
}

/** Compares two lists item by item. */
export function areSame<T>(some: readonly T[], others: readonly T[], isSame: (one: T, other: T) => boolean): boolean {
  return some.length === others.length && some.every((one, index) => isSame(one, others[index]!));
}

/**
 * Parses the supported Markdown of a message: bold, italic, code, code blocks, lists, quotes and
 * links. Everything else is text with its spaces and line breaks, in a block per paragraph.
 */
export function parseMarkdown(text: string, depth = 0, parse: ParseInline = parseInline): Block[] {
  const blocks: Block[] = [];
  const lines = text.split("\n");
  /** Returns the consecutive lines from `index` on that match. */
  const take = (index: number, pattern: RegExp) => {
    let end = index;
    while (end < lines.length && pattern.test(lines[end] ?? "")) end += 1;
    return lines.slice(index, end);
  };
  let plain: string[] = [];
  let hasWords = false;
  let isNext = false;
  const endPlain = (hasNext = false) => {
    // At the end of a block, browsers show no line after a line break.
    const paragraph = plain.join("\n") + (hasNext ? "\n" : "");
    if (plain.length > 0) blocks.push({ kind: "text", children: parse(paragraph, depth), ...(isNext && { isNext }) });
    plain = [];
    hasWords = false;
    isNext = hasNext;
  };
  for (let index = 0; index < lines.length; ) {
    const line = lines[index] ?? "";
    const end = FENCE.test(line) ? lines.findIndex((other, at) => at > index && /^ {0,3}```\s*$/.test(other)) : -1;
    if (end > index) {
      endPlain();
      blocks.push({ kind: "code", text: lines.slice(index + 1, end).join("\n") });
      index = end + 1;
    } else if (QUOTE.test(line) && depth < MAX_DEPTH) {
      endPlain();
      const quoted = take(index, QUOTE);
      blocks.push({ kind: "quote", children: parseMarkdown(quoted.map((other) => other.replace(QUOTE, "")).join("\n"), depth + 1, parse) });
      index += quoted.length;
    } else if (ITEM.test(line)) {
      endPlain();
      const start = ITEM.exec(line)?.[1];
      const items = take(index, start === undefined ? /^ {0,3}[-*+] +(?=\S)/ : /^ {0,3}\d{1,9}[.)] +(?=\S)/);
      const contents = items.map((other) => parse(other.replace(ITEM, ""), depth + 1));
      blocks.push({ kind: "list", start: start === undefined ? undefined : Number(start), items: contents });
      index += items.length;
    } else {
      const isBlank = line.trim() === "";
      if (!isBlank && hasWords && plain.at(-1)?.trim() === "") endPlain(true);
      hasWords ||= !isBlank;
      plain.push(line);
      index += 1;
    }
  }
  endPlain();
  return blocks;
}

/** Maximum number of excerpts in the cache. */
const MAX_EXCERPTS = 200;
/** Excerpts by their length and source. Each drawing of the page requests the same ones. */
const excerpts = new Map<string, string>();

/** Returns the beginning of a message on one line, without Markdown marks. */
export function excerptOf(text: string, length = 120): string {
  const source = text.slice(0, length * 4);
  const key = `${length} ${source}`;
  const excerpt = excerpts.get(key) ?? createExcerpt(source, length);
  if (excerpts.size >= MAX_EXCERPTS) excerpts.clear();
  excerpts.set(key, excerpt);
  return excerpt;
}

function createExcerpt(text: string, length: number): string {
  const words = ({ children = [], text = "" }: { children?: Inline[]; text?: string }): string => text + children.map(words).join("");
  const lines = (block: Block): string =>
    block.kind === "list" ? block.items.map((children) => words({ children })).join(" ") : block.kind === "quote" ? block.children.map(lines).join(" ") : words(block);
  return preview(parseMarkdown(text).map(lines).join(" "), length);
}

/** Matches the possible start of an inline element. */
const OPENER = /`+|\*\*?|_|\[|https?:\/\//gi;
const ADDRESS = /https?:\/\/[^\s<>"`]+/iy;
const LABELLED = /\[([^\]\n]{1,500})\]\((\S{1,2000}?)\)/y;
const WORD = /[\p{L}\p{N}]/u;

export function parseInline(text: string, depth = 0): Inline[] {
  const pieces: Inline[] = [];
  let from = 0;
  const add = (piece: Inline, start: number, end: number) => {
    if (start > from) pieces.push({ kind: "text", text: text.slice(from, start) });
    pieces.push(piece);
    OPENER.lastIndex = from = end;
  };
  OPENER.lastIndex = 0;
  for (let found = OPENER.exec(text); found !== null; found = OPENER.exec(text)) {
    const { index, 0: mark } = found;
    const after = index + mark.length;
    // Parsing nested elements moves `lastIndex`.
    OPENER.lastIndex = after;
    if (mark.startsWith("`")) {
      const end = text.indexOf(mark, after);
      if (end > after) add({ kind: "code", text: text.slice(after, end) }, index, end + mark.length);
    } else if (mark === "[") {
      const link = depth < MAX_DEPTH ? at(LABELLED, text, index) : undefined;
      const href = webAddress(link?.[2]);
      if (link?.[1] !== undefined && href !== undefined) {
        add(linkTo(href, link[1]), index, index + link[0].length);
      }
    } else if (mark.startsWith("h") || mark.startsWith("H")) {
      const address = withoutPunctuation(at(ADDRESS, text, index)?.[0] ?? "");
      const href = isWord(text[index - 1]) ? undefined : webAddress(address);
      if (href !== undefined) add(linkTo(href, address), index, index + address.length);
    } else if (depth < MAX_DEPTH) {
      const end = closing(text, mark, index);
      if (end !== undefined) {
        const children = parseInline(text.slice(after, end), depth + 1);
        add({ kind: mark === "**" ? "strong" : "emphasis", children }, index, end + mark.length);
      }
    }
  }
  if (from < text.length || pieces.length === 0) pieces.push({ kind: "text", text: text.slice(from) });
  return pieces;
}

function linkTo(href: string, label: string): Inline {
  return { kind: "link", href, host: hiddenHost(label, href), children: [{ kind: "text", text: label }] };
}

/** Returns the index of the closing mark. Both marks must be at word boundaries. */
function closing(text: string, mark: string, index: number): number | undefined {
  const after = index + mark.length;
  if (isWord(text[index - 1]) || isSpace(text[after])) return undefined;
  for (let end = text.indexOf(mark, after + 1); end !== -1; end = text.indexOf(mark, end + 1)) {
    const isEdge = !isSpace(text[end - 1]) && !isWord(text[end + mark.length]);
    // One of two stars does not close an element that a single star opened.
    const isWhole = mark !== "*" || (text[end + 1] !== "*" && text[end - 1] !== "*");
    if (isEdge && isWhole) return end;
  }
  return undefined;
}

function at(pattern: RegExp, text: string, index: number): RegExpExecArray | undefined {
  pattern.lastIndex = index;
  return pattern.exec(text) ?? undefined;
}

/**
 * Returns an address without trailing punctuation, and without a closing bracket that was opened
 * before the address.
 */
function withoutPunctuation(address: string): string {
  let unopened = 0;
  for (const character of address) unopened += Number(character === ")") - Number(character === "(");
  let end = address.length;
  for (; end > 0; end -= 1) {
    const last = address[end - 1]!;
    if (last === ")" && unopened > 0) unopened -= 1;
    else if (!".,;:!?'*_~".includes(last)) break;
  }
  return address.slice(0, end);
}

function isWord(character: string | undefined): boolean {
  return character !== undefined && WORD.test(character);
}

function isSpace(character: string | undefined): boolean {
  return character === undefined || /\s/.test(character);
}
