import type { LogEntry, SocketManager } from "../../packages/client/src/index.ts";
import type { App } from "../app.ts";
import { asFailure, explain } from "../words/failure.ts";
import { clockTime } from "../words/time.ts";
import { type Credentials, storeToken } from "./account.ts";
import { TOKEN } from "./storage.ts";

/** The service worker, which shows a page of its own if the chat page cannot be loaded. */
const WORKER = "/offline.js";

/**
 * A message between tabs: a request for a token (without a field), its answer, the token of a user
 * who has signed out, or a token and its replacement.
 */
type TabMessage = { token?: string; signedOut?: string; renewed?: readonly [before: string | undefined, token: string] };

/** `trustedTypes` of the browser, which older browsers do not have. */
interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL: () => string }): { createScriptURL(url: string): string };
}

let isRegistered = false;

/**
 * Maintains the session of a tab: warns before its end, renews its token, and shares the token with
 * further tabs.
 */
export class Visit {
  readonly #app: App;
  readonly #manager: SocketManager;
  /** The credentials that the manager sends with each connect. */
  readonly #auth: Credentials;
  readonly #channel = new BroadcastChannel(TOKEN);
  /** The warning that the session ends soon; empty if it does not. */
  warning = "";

  constructor(app: App, manager: SocketManager, auth: Credentials) {
    this.#app = app;
    this.#manager = manager;
    this.#auth = auth;
    this.#channel.onmessage = ({ data }: MessageEvent<TabMessage>) => this.#handle(data);
    manager.watch("log", (entry) => this.#handleLog(entry));
    // This code may be loaded after the first warning of the server.
    for (const entry of manager.log) this.#handleLog(entry);
    if (!isRegistered) void registerWorker();
    isRegistered = true;
  }

  get #token(): string | undefined {
    return "token" in this.#auth ? this.#auth.token : undefined;
  }

  /**
   * Replaces the token of this connection by another token of the same user. Returns why that
   * failed, or an empty text.
   */
  async renew(token: string): Promise<string> {
    try {
      const { expiresAt } = await this.#manager.request("auth:refresh", { token });
      const before = this.#token;
      Object.assign(this.#auth, { token });
      this.#channel.postMessage({ renewed: [before, token] });
      storeToken(token);
      this.#extend(expiresAt);
      return "";
    } catch (error) {
      const failure = asFailure(error);
      return failure.code === "FORBIDDEN" ? "This token belongs to another user." : explain(failure);
    }
  }

  /** Signs out all tabs that have the token of this tab. */
  signOut(): void {
    if (this.#token !== undefined) this.#channel.postMessage({ signedOut: this.#token });
  }

  close(): void {
    this.#channel.close();
  }

  /** Handles that the session was extended, to a time that may be unknown. */
  #extend(endsAt?: string): void {
    this.#app.endsAt = endsAt;
    this.warning = "";
    this.#app.changed();
  }

  #handleLog({ what }: LogEntry): void {
    const { endsAt } = this.#app;
    // The client extends an expiring session by itself, but cannot replace a token.
    if (what === "refreshed") return this.#extend();
    if (what === "status") this.warning = "";
    else if (what === "refresh failed") {
      const end = endsAt === undefined ? "soon" : `at ${clockTime(endsAt)}`;
      this.warning = `Your session ends ${end}. Sign in again to stay connected.`;
    } else return;
    this.#app.changed();
  }

  #handle({ token, signedOut, renewed }: TabMessage): void {
    const own = this.#token;
    if (own === undefined || token !== undefined) return;
    if (renewed !== undefined) void (renewed[0] === own && this.renew(renewed[1]));
    else if (signedOut !== undefined) void (signedOut === own && this.#app.signOut());
    else this.#channel.postMessage({ token: own });
  }
}

/** Registers the service worker. Browsers without one, as in private windows, work without it. */
async function registerWorker(): Promise<void> {
  const { trustedTypes } = globalThis as { trustedTypes?: TrustedTypes };
  const url = trustedTypes?.createPolicy("worker", { createScriptURL: () => WORKER }).createScriptURL("") ?? WORKER;
  await navigator.serviceWorker?.register(url).catch(() => {});
}
