/** One touch away. */
export const COMMON = ["👍", "❤️", "😂", "🎉", "😮", "😢", "🙏", "👀"] as const;

/** The server takes so many bytes. */
const MAX_BYTES = 64;

/** The one emoji that a text is; the server looks once more. */
export function emojiOf(text: string): string | undefined {
  const emoji = text.trim();
  if (new TextEncoder().encode(emoji).length > MAX_BYTES) return undefined;
  const [, ...others] = new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(emoji);
  const isEmoji = /^(?:\p{Extended_Pictographic}|\p{Regional_Indicator}{2}$|[0-9#*]\uFE0F?\u20E3$)/u.test(emoji);
  return others.length === 0 && isEmoji ? emoji : undefined;
}
