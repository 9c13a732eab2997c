import { type QueueStorage, defaultStorage } from "../../packages/client/src/queue/storage.ts";
import { randomId } from "../../packages/client/src/time.ts";
import { TOKEN, browser, tab } from "./storage.ts";
import { MAX_NAME, cleanName, scalarCount } from "../words/text.ts";

const NAME = "roomcast.name";
const GUEST_KEY = "roomcast.guestKey";
const DRAFT = "roomcast.draft.";

/** What is sent with CONNECT. */
export type Credentials = { token: string } | { name: string; guestKey: string } | Record<string, never>;

/** The name that was chosen on an earlier visit. */
export function storedName(): string | undefined {
  const name = cleanName(browser.get(NAME) ?? "");
  return isName(name) ? name : undefined;
}

export function storeName(name: string): void {
  isForgotten = false;
  browser.set(NAME, name);
}

export function storeToken(token: string): void {
  isForgotten = false;
  tab.set(TOKEN, token);
}

export function forgetToken(): void {
  tab.remove(TOKEN);
}

/** Calls back when another tab has signed the guest of this browser out. */
export function watchForgotten(forgotten: () => void): void {
  addEventListener("storage", ({ key, newValue }) => {
    if (key === GUEST_KEY && newValue === null) forgotten();
  });
}

/** Whether another tab has signed out the guest that this tab still is: nobody will be that guest again. */
export let isForgotten = false;

const kept = defaultStorage();

/** Where the queue is kept. */
export const queueStorage: QueueStorage = {
  ...kept,
  save: async (stored) => {
    if (!isForgotten) await kept.save(stored);
  },
};

/** Another tab has signed out our guest: what this tab has not finished ends with it, however it ends. */
export function outlive(userId: string, entries: readonly { id: string }[]): void {
  isForgotten = true;
  forgetBegun(userId);
  // What cannot be removed could not be kept either.
  for (const { id } of entries) kept.remove(id).catch(() => {});
}

/** Keeps something of a user between visits; of a guest who was signed out, as long as this tab is there. */
export function keep(userId: string, key: string, value: string): void {
  if (isForgotten && isGuest(userId)) browser.hold(key, value);
  else browser.set(key, value);
}

/** Where the deletions of a user are kept until they are carried out. */
export function deletionsKey(userId: string): string {
  return `roomcast.deletions.${userId}`;
}

/** Who we say we are; nothing if a cookie is to say it. */
export function credentials(): Credentials {
  const token = tab.get(TOKEN);
  if (token !== undefined) return { token };
  const name = storedName();
  return name === undefined ? {} : { name, guestKey: guestKey() };
}

/** Forgets who we are, and what was begun. What a guest has not finished is nobody's: no other session is that guest again. */
export function forgetAll(userId: string): void {
  forgetBegun(userId);
  // After another tab has forgotten them these are of the next guest.
  if (!isForgotten) for (const key of [NAME, GUEST_KEY]) browser.remove(key);
  isForgotten = false;
  forgetToken();
}

function forgetBegun(userId: string): void {
  for (const key of browser.keys()) if (key.startsWith(draftKey(userId, ""))) browser.remove(key);
  if (isGuest(userId)) browser.remove(deletionsKey(userId));
}

/** What a user has written in a conversation and not sent. Nobody else who uses this browser gets to see it. */
export const drafts = {
  get: (userId: string, conversationId: string) => browser.get(draftKey(userId, conversationId)) ?? "",
  set: (userId: string, conversationId: string, text: string) =>
    text === "" ? browser.remove(draftKey(userId, conversationId)) : keep(userId, draftKey(userId, conversationId), text),
};

function draftKey(userId: string, conversationId: string): string {
  // An id may have any character in it, and none of it may look like the end of the id.
  return `${DRAFT}${encodeURIComponent(userId)}.${conversationId}`;
}

/** Whether a user is a guest, whose name may be anybody's: the server gives such ids to guests alone. */
export function isGuest(userId: string): boolean {
  return userId.startsWith("guest:");
}

export function isName(name: string): boolean {
  return name !== "" && scalarCount(name) <= MAX_NAME;
}

/** The secret that makes us the same guest after a reconnect, and in every tab of this browser. */
export function guestKey(): string {
  const known = browser.get(GUEST_KEY);
  if (known !== undefined && /^[\w-]{16,64}$/.test(known)) return known;
  const key = randomId();
  browser.set(GUEST_KEY, key);
  return key;
}
