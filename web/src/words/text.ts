/** The longest message that a server takes by default, in Unicode scalar values. */
export const MAX_CONTENT = 10_000;

/** The longest name of a guest that a server takes, in Unicode scalar values. */
export const MAX_NAME = 40;

/** Counts the Unicode scalar values of a text: an emoji outside the basic plane counts once. */
export function scalarCount(text: string): number {
  let count = text.length;
  for (let index = 0; index + 1 < text.length; index += 1) {
    if (isHighSurrogate(text.charCodeAt(index)) && isLowSurrogate(text.charCodeAt(index + 1))) {
      count -= 1;
      index += 1;
    }
  }
  return count;
}

/**
 * Returns the text as it is sent: without control characters other than tab, line feed and a lone
 * carriage return, and without empty lines at its start and space at its end.
 */
export function cleanContent(text: string): string {
  return text
    .toWellFormed()
    .replaceAll("\r\n", "\n")
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g, "")
    .replace(/^(?:[^\S\n]*\n)+|\s+$/g, "");
}

/** Invisible characters, which the server refuses in names: direction marks, joiners, fillers. */
const INVISIBLE =
  /[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufffb\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e00ff}]/gu;

/**
 * Returns a name on one line, without control characters, invisible characters and repeated spaces.
 */
export function cleanName(text: string): string {
  return text
    .toWellFormed()
    .replace(/[\u0000-\u001f\u007f-\u009f]/g, " ")
    .replace(INVISIBLE, "")
    .replace(/\s+/g, " ")
    .trim();
}

/**
 * Returns the first characters of the first and last word of a name, or "?" without a word. Names
 * that differ by a number at their end show the end of that number.
 */
export function initials(name: string): string {
  const [, letter = "", digits = ""] = /^\s*(\p{L})?.*?(\d{1,2}|(?<!\d)\d{3})\s*$/u.exec(name) ?? [];
  if (digits !== "") return (digits.length === 3 ? digits : letter + digits).toLocaleUpperCase();
  const words = name.split(/[\s\-_.]+/).filter((word) => word !== "");
  const [first, last] = [words[0], words.length > 1 ? words.at(-1) : undefined];
  return [first, last].map((word) => [...(word ?? "")][0] ?? "").join("").toLocaleUpperCase() || "?";
}

/** Returns the beginning of a text on one line. */
export function preview(text: string, length = 120): string {
  const line = text.slice(0, length * 4).replace(/\s+/g, " ").trim();
  return [...line].slice(0, length).join("");
}

/**
 * Marks a text by another user inside a sentence of the page. `Isolated` renders it so that its
 * writing direction does not reorder the sentence.
 */
export function isolated(text: string): string {
  return `\u2068${text.replace(/[\u2068\u2069]/g, "")}\u2069`;
}

/** Splits a sentence into parts. Every second part is a marked text by another user. */
export function partsOf(sentence: string): string[] {
  return sentence.split(/[\u2068\u2069]/);
}

/** Returns the hue of a user, which is always the same for the same id. */
export function hue(userId: string): number {
  // FNV-1a: similar ids get different hues.
  let hash = 0x811c9dc5;
  for (const character of userId) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
  return (hash >>> 8) % 360;
}

/**
 * Returns the address of a link if messages may link to it. Addresses with a user name are refused,
 * because it could pretend to be the host.
 */
export function webAddress(url: unknown): string | undefined {
  if (typeof url !== "string" || !URL.canParse(url)) return undefined;
  const { protocol, href, username, password } = new URL(url);
  const isWeb = protocol === "http:" || protocol === "https:";
  return isWeb && username === "" && password === "" ? href : undefined;
}

/**
 * Whether a picture may be shown instead of linked: its address has one of these origins. The
 * address must also begin literally with this origin, so that no knowledge of URL parsing is needed
 * to see where it leads.
 */
export function isPicture(url: unknown, origins: readonly string[]): boolean {
  const address = webAddress(url);
  if (typeof url !== "string" || address === undefined) return false;
  const { origin } = new URL(address);
  return origins.includes(origin) && url.startsWith(`${origin}/`);
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}

function isLowSurrogate(unit: number): boolean {
  return unit >= 0xdc00 && unit <= 0xdfff;
}
