import type { ConversationInfo, Message, MessageReaction, Pin, Quote } from "../types.ts";

/** Number of characters in a quote, as on the server. */
const EXCERPT = 200;
/** Maximum number of users listed for a reaction, as on the server. */
const MAX_LISTED = 10;

/** Returns a message after a user has added or removed a reaction. */
export function withReaction(message: Message, { emoji, userId, added, count }: MessageReaction, ownId: string): Message {
  const before = message.reactions ?? [];
  const known = before.find((reaction) => reaction.emoji === emoji);
  const others = (known?.userIds ?? []).filter((other) => other !== userId);
  const own = userId === ownId ? added : (known?.own ?? false);
  const reaction = { emoji, count, userIds: added ? [...others, userId].slice(0, MAX_LISTED) : others, ...(own && { own: true as const }) };
  if (count === 0) return { ...message, reactions: before.filter((other) => other !== known) };
  return { ...message, reactions: known === undefined ? [...before, reaction] : before.map((other) => (other === known ? reaction : other)) };
}

/**
 * Returns a newer version of a message that was sent to all users, with this user's own reactions
 * from the known version.
 */
export function withOwn(newer: Message, known: Message): Message {
  if (newer.reactions === undefined) return newer;
  const isOwn = (emoji: string) => known.reactions?.some((reaction) => reaction.emoji === emoji && reaction.own) ?? false;
  return { ...newer, reactions: newer.reactions.map((reaction) => (isOwn(reaction.emoji) ? { ...reaction, own: true as const } : reaction)) };
}

/** Returns a quote of the current version of a message. */
export function quoteOf({ id, seq, userId, userName, content, editedAt, deletedAt }: Message): Quote {
  const excerpt = [...content.slice(0, EXCERPT * 2)].slice(0, EXCERPT).join("");
  return { id, seq, userId, userName, excerpt, ...(editedAt && { editedAt }), ...(deletedAt && { deletedAt }) };
}

/**
 * The pinned messages, the newest pins first. Changes that arrive while the list is requested are
 * applied to it again.
 */
export class Pins {
  all: readonly Pin[] = [];
  #changes: ((pins: readonly Pin[]) => readonly Pin[])[] = [];

  /** Starts recording changes, because the list is requested again. */
  wait(): void {
    this.#changes = [];
  }

  begin(pins: readonly Pin[]): void {
    this.all = this.#changes.reduce((all, apply) => apply(all), pins);
    this.#changes = [];
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

  /** Updates a pinned message. */
  renew(message: Message): void {
    this.#apply((pins) => pins.map((pin) => (pin.message.id === message.id ? { ...pin, message: quoteOf(message) } : pin)));
  }

  #apply(change: (pins: readonly Pin[]) => readonly Pin[]): void {
    this.#changes.push(change);
    this.all = change(this.all);
  }
}

/**
 * Whether the user may pin: owners and moderators may, if they have the permission `chat:manage`.
 */
export function mayPin(info: ConversationInfo | undefined, ownId: string, permissions: readonly string[] = []): boolean {
  if (info === undefined || !permissions.includes("chat:manage")) return false;
  return info.ownerId === ownId || permissions.includes("chat:moderate");
}
