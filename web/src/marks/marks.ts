import type { ConversationInfo, Message, MessageReaction, Pin, Quote } from "../types.ts";

/** So much of a text stands in a quote, as the server has it. */
const EXCERPT = 200;
/** So many of those who reacted are listed, as the server has it. */
const MAX_LISTED = 10;

/** A message after somebody has reacted to it, or has taken that back. */
export function withReaction(message: Message, { emoji, userId, added, count }: MessageReaction, ownId: string): Message {
  const before = message.reactions ?? [];
  const known = before.find((reaction) => reaction.emoji === emoji);
  const others = (known?.userIds ?? []).filter((other) => other !== userId);
  const own = userId === ownId ? added : (known?.own ?? false);
  const reaction = { emoji, count, userIds: added ? [...others, userId].slice(0, MAX_LISTED) : others, ...(own && { own: true as const }) };
  if (count === 0) return { ...message, reactions: before.filter((other) => other !== known) };
  return { ...message, reactions: known === undefined ? [...before, reaction] : before.map((other) => (other === known ? reaction : other)) };
}

/** A newer version that was told to everybody: what of it is one's own is known from before. */
export function withOwn(newer: Message, known: Message): Message {
  if (newer.reactions === undefined) return newer;
  const isOwn = (emoji: string) => known.reactions?.some((reaction) => reaction.emoji === emoji && reaction.own) ?? false;
  return { ...newer, reactions: newer.reactions.map((reaction) => (isOwn(reaction.emoji) ? { ...reaction, own: true as const } : reaction)) };
}

/** A quote of a message as it is now. */
export function quoteOf({ id, seq, userId, userName, content, editedAt, deletedAt }: Message): Quote {
  const excerpt = [...content.slice(0, EXCERPT * 2)].slice(0, EXCERPT).join("");
  return { id, seq, userId, userName, excerpt, ...(editedAt && { editedAt }), ...(deletedAt && { deletedAt }) };
}

/** The pinned messages, the newest pins first. What was told while they were on their way is told to them again. */
export class Pins {
  all: readonly Pin[] = [];
  #told: ((pins: readonly Pin[]) => readonly Pin[])[] = [];

  /** They are asked for. */
  wait(): void {
    this.#told = [];
  }

  begin(pins: readonly Pin[]): void {
    this.all = this.#told.reduce((all, apply) => apply(all), pins);
    this.#told = [];
  }

  has(messageId: string): boolean {
    return this.all.some(({ message }) => message.id === messageId);
  }

  add(pin: Pin): void {
    this.#apply((pins) => [pin, ...pins.filter(({ message }) => message.id !== pin.message.id)]);
  }

  remove(messageId: string): void {
    this.#apply((pins) => pins.filter(({ message }) => message.id !== messageId));
  }

  /** A pinned message has another text. */
  renew(message: Message): void {
    this.#apply((pins) => pins.map((pin) => (pin.message.id === message.id ? { ...pin, message: quoteOf(message) } : pin)));
  }

  #apply(change: (pins: readonly Pin[]) => readonly Pin[]): void {
    this.#told.push(change);
    this.all = change(this.all);
  }
}

/** Who may pin: the owner, and those who moderate, if they may change conversations at all. */
export function mayPin(info: ConversationInfo | undefined, ownId: string, permissions: readonly string[] = []): boolean {
  if (info === undefined || !permissions.includes("chat:manage")) return false;
  return info.ownerId === ownId || permissions.includes("chat:moderate");
}
