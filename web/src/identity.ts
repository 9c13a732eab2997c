import { randomId } from "../packages/client/src/time.ts";
import { browser } from "./storage.ts";
import { MAX_NAME, cleanName, scalarCount } from "./text.ts";

const NAME = "roomcast.name";
const GUEST_KEY = "roomcast.guestKey";

/** The name that was chosen on an earlier visit. */
export function storedName(): string | undefined {
  const name = cleanName(browser.get(NAME) ?? "");
  return isName(name) ? name : undefined;
}

export function storeName(name: string): void {
  browser.set(NAME, name);
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
