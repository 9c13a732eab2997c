/** The server's limit. */
const MAX_BYTES = 64;

/** Returns the text if it is exactly one emoji. The server checks it again. */
export function emojiOf(text: string): string | undefined {
  const emoji = text.trim();
  if (new TextEncoder().encode(emoji).length > MAX_BYTES) return undefined;
  const [, ...others] = new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(emoji);
  const isEmoji = /^(?:\p{Extended_Pictographic}|\p{Regional_Indicator}{2}$|[0-9#*]\uFE0F?\u20E3$)/u.test(emoji);
  return others.length === 0 && isEmoji ? emoji : undefined;
}
