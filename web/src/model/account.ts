import { type QueueStorage, defaultStorage } from "../../packages/client/src/queue/storage.ts";
import { randomId } from "../../packages/client/src/time.ts";
import { TOKEN, browser, tab } from "./storage.ts";
import { MAX_NAME, cleanName, scalarCount } from "../words/text.ts";

const NAME = "roomcast.name";
const GUEST_KEY = "roomcast.guestKey";
const DRAFT = "roomcast.draft.";

/** How long an answer of another tab is awaited, in milliseconds. */
const TOKEN_TIMEOUT = 1_000;

/** The credentials sent with CONNECT. */
export type Credentials = { token: string } | { name: string; guestKey: string } | Record<string, never>;

/** Returns the name that was chosen on an earlier visit. */
export function storedName(): string | undefined {
  const name = cleanName(browser.get(NAME) ?? "");
  return isName(name) ? name : undefined;
}

export function storeName(name: string): void {
  isSignedOutElsewhere = false;
  browser.set(NAME, name);
}

export function storeToken(token: string): void {
  isSignedOutElsewhere = false;
  tab.set(TOKEN, token);
}

export function removeToken(): void {
  tab.remove(TOKEN);
}

/** Whether the token of this tab has expired. Its signature is up to the server. */
export function isTokenExpired(): boolean {
  try {
    const [, claims = ""] = (tab.get(TOKEN) ?? "").split(".");
    return JSON.parse(atob(claims.replaceAll("-", "+").replaceAll("_", "/"))).exp * 1000 < Date.now();
  } catch {
    return false;
  }
}

/** Requests the token of another open tab. Tabs that have a token answer (`model/visit.ts`). */
export function requestToken(received: (token: string) => void): void {
  const channel = new BroadcastChannel(TOKEN);
  channel.onmessage = ({ data }) => data.token && received(data.token);
  channel.postMessage({});
  setTimeout(() => channel.close(), TOKEN_TIMEOUT);
}

/** Calls back when another tab signs out the guest of this browser. */
export function watchSignOut(forgotten: () => void): void {
  addEventListener("storage", ({ key, newValue }) => {
    if (key === GUEST_KEY && newValue === null) forgotten();
  });
}

/**
 * Whether another tab has signed out the guest of this tab. No later session can be that guest
 * again.
 */
export let isSignedOutElsewhere = false;

const storage = defaultStorage();

/** The storage of the queue. */
export const queueStorage: QueueStorage = {
  ...storage,
  save: async (stored) => {
    if (!isSignedOutElsewhere) await storage.save(stored);
  },
};

/**
 * Handles that another tab has signed out the guest: unfinished work is no longer stored and ends
 * with this tab.
 */
export function detachFromStorage(userId: string, entries: readonly { id: string }[]): void {
  isSignedOutElsewhere = true;
  deleteUnfinished(userId);
  // If the entry cannot be removed, it could not be stored either.
  for (const { id } of entries) storage.remove(id).catch(() => {});
}

/**
 * Stores a value of a user between visits. For a signed-out guest, the value is only held until
 * this tab is closed.
 */
export function keep(userId: string, key: string, value: string): void {
  if (isSignedOutElsewhere && isGuest(userId)) browser.hold(key, value);
  else browser.set(key, value);
}

/** Returns the storage key of a user's pending deletions. */
export function deletionsKey(userId: string): string {
  return `roomcast.deletions.${userId}`;
}

/** Returns the storage key of the reactions that a user has chosen. */
export function reactionsKey(userId: string): string {
  return `roomcast.reactions.${userId}`;
}

/** Returns the stored credentials, or none if a cookie identifies the user. */
export function credentials(): Credentials {
  const token = tab.get(TOKEN);
  if (token !== undefined) return { token };
  const name = storedName();
  return name === undefined ? {} : { name, guestKey: guestKey() };
}

/**
 * Deletes the credentials and unfinished work. A guest's unfinished work is useless: no other
 * session can be that guest again.
 */
export function deleteLocalData(userId: string): void {
  deleteUnfinished(userId);
  // If another tab has deleted them, these already belong to the next guest.
  if (!isSignedOutElsewhere) for (const key of [NAME, GUEST_KEY]) browser.remove(key);
  isSignedOutElsewhere = false;
  removeToken();
}

function deleteUnfinished(userId: string): void {
  for (const key of browser.keys()) if (key.startsWith(draftKey(userId, ""))) browser.remove(key);
  browser.remove(reactionsKey(userId));
  if (isGuest(userId)) browser.remove(deletionsKey(userId));
}

/** The unsent text of a user in a conversation. Other users of this browser cannot see it. */
export const drafts = {
  get: (userId: string, conversationId: string) => browser.get(draftKey(userId, conversationId)) ?? "",
  set: (userId: string, conversationId: string, text: string) =>
    text === "" ? browser.remove(draftKey(userId, conversationId)) : keep(userId, draftKey(userId, conversationId), text),
  /** Calls back when another tab changes the text. Returns a function that stops this. */
  watch: (userId: string, conversationId: string, changed: () => void) => {
    const handle = ({ key }: StorageEvent) => key === draftKey(userId, conversationId) && changed();
    addEventListener("storage", handle);
    return () => removeEventListener("storage", handle);
  },
};

function draftKey(userId: string, conversationId: string): string {
  // An id may contain any character, which must not look like the end of the id.
  return `${DRAFT}${encodeURIComponent(userId)}.${conversationId}`;
}

/**
 * Whether a user is a guest, whose name is not verified. The server gives ids with this prefix only
 * to guests.
 */
export function isGuest(userId: string): boolean {
  return userId.startsWith("guest:");
}

export function isName(name: string): boolean {
  return name !== "" && scalarCount(name) <= MAX_NAME;
}

/**
 * Returns the secret that identifies the guest after a reconnect, and in every tab of this browser.
 */
export function guestKey(): string {
  const known = browser.get(GUEST_KEY);
  if (known !== undefined && /^[\w-]{16,64}$/.test(known)) return known;
  const key = randomId();
  browser.set(GUEST_KEY, key);
  return key;
}
