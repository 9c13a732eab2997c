import { keep, reactionsKey } from "../model/account.ts";
import { browser } from "../model/storage.ts";
import { emojiOf } from "./emoji.ts";

/** Shown until the user has chosen others. */
const DEFAULTS = ["👍", "❤️", "😂", "🎉", "😮", "😢"];
/** Number of choices that are stored. The oldest are forgotten, so that habits may change. */
const MAX_CHOICES = 60;

/** Returns the emojis that the user reacts with most, as many as there are defaults. */
export function mostUsed(userId: string): string[] {
  const counts = new Map<string, number>();
  // Of emojis that were chosen equally often, the latest comes first.
  for (const emoji of choicesOf(userId).reverse()) counts.set(emoji, (counts.get(emoji) ?? 0) + 1);
  const chosen = [...counts.keys()].sort((one, other) => (counts.get(other) ?? 0) - (counts.get(one) ?? 0));
  return [...new Set([...chosen, ...DEFAULTS])].slice(0, DEFAULTS.length);
}

/** Stores that the user has chosen an emoji. */
export function noteChoice(userId: string, emoji: string): void {
  keep(userId, reactionsKey(userId), JSON.stringify([...choicesOf(userId), emoji].slice(-MAX_CHOICES)));
}

function choicesOf(userId: string): string[] {
  try {
    const stored: unknown = JSON.parse(browser.get(reactionsKey(userId)) ?? "[]");
    return Array.isArray(stored) ? stored.filter((emoji) => typeof emoji === "string" && emojiOf(emoji) === emoji).slice(-MAX_CHOICES) : [];
  } catch {
    return [];
  }
}
