import { type Failure, DISCONNECTED, QUEUE_FULL, RequestError, asFailure, isUnconfirmed, plain } from "../failure.ts";
import type { Note } from "../log.ts";
import type { QueueStorage, StoredEntry } from "./storage.ts";
import type { Tabs } from "./tabs.ts";
import { Delay, now, retryDelay, randomId, trim, within } from "../time.ts";

/** Maximum number of `INTERNAL` errors for an entry, after which it is refused. */
const MAX_FAULTS = 5;

/**
 * Timeout of a storage request in milliseconds. The queue then works without it until the next
 * session reads the storage again.
 */
const STORAGE_TIMEOUT = 5_000;

/** Number of ids of completed entries that are remembered. */
const MAX_DONE = 1_000;

/** A request that is sent until the server answers. Every change creates a new object. */
export interface Entry {
  /** The id of all attempts (`clientMessageId`), so that the server processes the request once. */
  readonly id: string;
  readonly event: string;
  readonly payload: Readonly<Record<string, unknown>>;
  /** RFC 3339, by the clock of this machine. */
  readonly writtenAt: string;
  /**
   * `queued` until the entries before it are done, `sending` until the server answers, then
   * `stored` or `refused`. `delivered` follows `stored` after the server's delivery report
   * (`confirmDelivery`). With a `failure`, `queued` and `sending` wait for the next attempt.
   */
  readonly state: "queued" | "sending" | "stored" | "delivered" | "refused";
  /** How often the entry was sent. */
  readonly attempts: number;
  /** How often the server answered `INTERNAL`. */
  readonly faults: number;
  failure?: Failure;
  /** The server's answer. */
  readonly answer?: unknown;
  /** The author, as the server identifies the user. */
  readonly userId?: string;
}

/** The id and the answer of a request that was added to the queue. */
export interface Sent<Answer = unknown> {
  readonly id: string;
  /**
   * The answer. Rejects with a `RequestError` if the request is refused or discarded. An unhandled
   * rejection of this promise is not reported.
   */
  readonly answered: Promise<Answer>;
}

export interface QueueLimits {
  /** Maximum number of queued entries. */
  entries: number;
  /** Maximum total size of their payloads as JSON, in bytes. */
  bytes: number;
}

/** The dependencies of the queue. */
export interface QueueDependencies {
  readonly storage: QueueStorage;
  readonly tabs: Tabs;
  readonly limits: QueueLimits;
  /** The field of a payload that receives the id. */
  readonly idField: string;
  request(event: string, payload: unknown): Promise<unknown>;
  /** Called when an entry was added, changed or removed. */
  changed(entry: Entry): void;
  readonly note: Note;
}

interface Waiting {
  /**
   * The owner under which the entry is stored; `undefined` if it was unknown at the time of
   * writing.
   */
  owner: string | undefined;
  order: number;
  bytes: number;
  entry: Entry;
}

/** Requests without an answer, sent one at a time in the order of writing, for one user. */
export class Queue {
  #waiting: Waiting[] = [];
  /** Ids of recently completed or discarded entries. The storage may still return them. */
  readonly #done = new Set<string>();
  /** The owner under which entries are stored. While it is unknown, they are only in memory. */
  #owner: string | undefined;
  /** The user of the current session; `undefined` without a session. */
  #userId: string | undefined;
  /** The user of the latest session, who is the author of new entries. */
  #writer: string | undefined;
  #isLoaded = false;
  #isFlushing = false;
  #holdUntil = 0;
  readonly #delay = new Delay();
  readonly #answers = new Map<string, { resolve: (answer: unknown) => void; reject: (error: unknown) => void }>();
  readonly #dependencies: QueueDependencies;
  /** Logs that an entry could not be stored. It stays in memory and is sent from there. */
  readonly #complain = (error: unknown): undefined => void this.#dependencies.note("storage", String(error));

  constructor(dependencies: QueueDependencies) {
    this.#dependencies = dependencies;
  }

  /** Unanswered and refused entries of this user, in the order of writing. */
  get entries(): readonly Entry[] {
    return this.#mine().map(({ entry }) => entry);
  }

  /** Whether the server has requested a delay. */
  get isHeld(): boolean {
    return this.#holdUntil > now();
  }

  /** Adds a request. Throws a `RequestError` with `QUEUE_FULL` if the limits are reached. */
  add<Answer>(event: string, payload: Record<string, unknown>): Sent<Answer> {
    const { limits } = this.#dependencies;
    const bytes = sizeOf(payload);
    const used = this.#waiting.reduce((sum, waiting) => sum + waiting.bytes, 0);
    if (this.#waiting.length >= limits.entries || used + bytes > limits.bytes) {
      throw new RequestError({ code: QUEUE_FULL, message: `${this.#waiting.length} entries of ${used} bytes wait already` });
    }
    const entry: Entry = {
      id: randomId(),
      event,
      payload: { ...payload },
      writtenAt: new Date().toISOString(),
      state: "queued",
      attempts: 0,
      faults: 0,
      ...(this.#writer !== undefined && { userId: this.#writer }),
    };
    const waiting = { owner: this.#owner, order: (this.#waiting.at(-1)?.order ?? 0) + 1, bytes, entry };
    this.#waiting = [...this.#waiting, waiting];
    const answered = new Promise<Answer>((resolve, reject) => this.#answers.set(entry.id, { resolve: resolve as () => void, reject }));
    // Callers may watch the state of entries instead of this promise.
    answered.catch(() => {});
    this.#store(waiting);
    this.#dependencies.changed(entry);
    void this.#flush();
    return { id: entry.id, answered };
  }

  /** Sends a refused entry again, with the same id. */
  again(id: string): void {
    this.#change(id, { state: "queued", faults: 0 }, "refused");
    void this.#flush();
  }

  /** Discards an entry. If it was sent already, the server may have processed it. */
  discard(id: string): void {
    const entry = this.#take(id);
    if (entry === undefined) return;
    this.#settle(id, "reject", new RequestError({ code: "DISCARDED", message: "discarded" }));
    this.#dependencies.changed({ ...entry, state: "refused" });
  }

  /**
   * Discards all entries of this user, in this tab and in the storage. Resolves when they are
   * deleted from the storage.
   */
  async forget(): Promise<void> {
    for (const { entry } of this.#mine()) this.discard(entry.id);
    const [owner, userId] = [this.#owner, this.#writer];
    if (owner === undefined) return;
    const { storage } = this.#dependencies;
    const carryOut = async () => {
      for (const { id, entry } of await storage.load(owner)) {
        if (userId !== undefined && (entry?.userId ?? userId) !== userId) continue;
        // This tab may be adopting the entry from a closed tab at this moment.
        this.#remember(id);
        await storage.remove(id);
      }
    };
    await within(STORAGE_TIMEOUT, carryOut()).catch(this.#complain);
  }

  /**
   * Opens the stored entries of an owner. This precedes the session if the owner is known by then.
   */
  async open(owner: string): Promise<void> {
    if (this.#owner === owner) return;
    this.#owner = owner;
    this.#isLoaded = false;
    this.#waiting = this.#waiting.map((waiting) => ({ ...waiting, owner: waiting.owner ?? owner }));
    for (const waiting of this.#mine()) this.#store(waiting);
    await this.#adopt(owner);
    if (this.#owner !== owner) return;
    this.#isLoaded = true;
    void this.#flush();
  }

  /** Starts sending after a session has begun: the queued entries of this user. */
  async begin(owner: string, userId: string): Promise<void> {
    const opened = this.open(owner);
    this.#userId = this.#writer = userId;
    this.#bind();
    await opened;
    void this.#flush();
    // Tabs may have closed since, and may close while this session lasts.
    if (this.#owner === owner) await this.#adopt(owner, true);
  }

  /**
   * Stops sending after the connection is lost. An unanswered request is sent again in the next
   * session.
   */
  end(): void {
    this.#userId = undefined;
    this.#delay.end();
  }

  /** Adopts the entries of closed tabs and, with `waits`, of tabs that close later. */
  async #adopt(owner: string, waits = false): Promise<void> {
    const { storage, tabs } = this.#dependencies;
    const load = async () => (await within(STORAGE_TIMEOUT, storage.load(owner)).catch(this.#complain))?.filter(isStored) ?? [];
    const stored = await load();
    const adoptions = [...new Set(stored.map(({ tab }) => tab))].map((tab) => {
      const take = async () => {
        const entries = (await load()).filter((entry) => entry.tab === tab);
        this.#takeOver(owner, entries);
      };
      return tabs.inherit(tab, waits, take).catch(this.#complain);
    });
    await Promise.all(adoptions);
  }

  #takeOver(owner: string, entries: readonly StoredEntry[]): void {
    const unknown = entries.filter(({ id }) => !this.#done.has(id) && this.#find(id) === undefined);
    if (unknown.length === 0) return;
    const adopted = unknown.map(({ order, entry }) => ({ owner, order, bytes: sizeOf(entry.payload), entry: restored(entry) }));
    // The adopted entries are older than the entries of this tab.
    this.#waiting = [...adopted, ...this.#waiting].map((waiting, index) => ({ ...waiting, order: index + 1 }));
    for (const waiting of this.#waiting) this.#store(waiting);
    this.#dependencies.note("adopted", `${adopted.length} entries`);
    for (const { entry } of adopted) this.#dependencies.changed(entry);
    this.#bind();
    void this.#flush();
  }

  /** Assigns entries that were written before the first session to the user of this session. */
  #bind(): void {
    const userId = this.#writer;
    if (userId === undefined) return;
    for (const { entry } of this.#mine()) if (entry.userId === undefined) this.#change(entry.id, { userId });
  }

  async #flush(): Promise<void> {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    try {
      for (let entry = this.#next(); entry !== undefined; entry = this.#next()) {
        if (this.isHeld) await this.#delay.for(this.#holdUntil - now());
        else await this.#deliver(entry);
      }
    } finally {
      this.#isFlushing = false;
    }
  }

  /** Returns the next entry to send, or `undefined` if nothing can be sent. */
  #next(): Entry | undefined {
    if (this.#userId === undefined || !this.#isLoaded) return undefined;
    return this.#mine().find(({ entry }) => entry.state !== "refused")?.entry;
  }

  async #deliver({ id, event, payload, attempts }: Entry): Promise<void> {
    const { request, idField, note } = this.#dependencies;
    const userId = this.#userId;
    this.#change(id, { state: "sending", attempts: attempts + 1 });
    try {
      const answer = await request(event, { ...payload, [idField]: id });
      const entry = this.#take(id);
      if (entry !== undefined) this.#dependencies.changed({ ...entry, state: "stored", answer });
      this.#settle(id, "resolve", answer);
    } catch (error) {
      const failure = asFailure(error);
      note("not answered", `${id} ${failure.code}`);
      await this.#handleFailure(id, failure);
    } finally {
      // The entry waits for the next session, even if that has begun already.
      if (this.#userId !== userId) this.#change(id, { state: "queued" }, "sending");
    }
  }

  async #handleFailure(id: string, failure: RequestError): Promise<void> {
    const entry = this.#find(id)?.entry;
    if (entry === undefined) return;
    const { code, retryAfter } = failure;
    const plainFailure = plain(failure);
    const faults = entry.faults + (code === "INTERNAL" ? 1 : 0);
    const delay = retryDelay(entry.attempts, retryAfter);
    if (code === DISCONNECTED) {
      this.#change(id, { state: "queued" });
      // Usually `end` was called. If the session is still open, the request is repeated after a
      // delay.
      if (this.#userId !== undefined) await this.#delay.for(delay);
    } else if (code === "RATE_LIMITED") {
      this.#holdUntil = now() + delay;
      this.#change(id, { state: "queued", failure: plainFailure });
    } else if (isUnconfirmed(failure) && faults < MAX_FAULTS) {
      if (retryAfter !== undefined) this.#holdUntil = now() + delay;
      this.#change(id, { state: "sending", failure: plainFailure, faults });
      await this.#delay.for(delay);
      if (this.#userId === undefined) this.#change(id, { state: "queued" });
    } else {
      this.#change(id, { state: "refused", failure: plainFailure, faults });
      this.#settle(id, "reject", failure);
    }
  }

  /** Returns the entries of this user, or all entries of the owner while the user is unknown. */
  #mine(): Waiting[] {
    const userId = this.#writer;
    const ofOwner = this.#waiting.filter(({ owner }) => owner === this.#owner);
    return ofOwner.filter(({ entry }) => userId === undefined || (entry.userId ?? userId) === userId);
  }

  #find(id: string): Waiting | undefined {
    return this.#waiting.find(({ entry }) => entry.id === id);
  }

  #change(id: string, change: Partial<Entry>, from?: Entry["state"]): void {
    const known = this.#find(id);
    if (known === undefined || (from !== undefined && known.entry.state !== from)) return;
    const entry = { ...known.entry, ...change };
    // A failure belongs to the state that it caused.
    if (change.state !== undefined && change.failure === undefined) delete entry.failure;
    const waiting = { ...known, entry };
    this.#waiting = this.#waiting.map((other) => (other === known ? waiting : other));
    this.#store(waiting);
    this.#dependencies.changed(waiting.entry);
  }

  #take(id: string): Entry | undefined {
    const waiting = this.#find(id);
    if (waiting === undefined) return undefined;
    this.#waiting = this.#waiting.filter((other) => other !== waiting);
    this.#remember(id);
    this.#dependencies.storage.remove(id).catch(this.#complain);
    return waiting.entry;
  }

  /** Prevents that an entry with this id is adopted from the storage. */
  #remember(id: string): void {
    this.#done.add(id);
    trim(this.#done, MAX_DONE);
  }

  #settle(id: string, how: "resolve" | "reject", outcome: unknown): void {
    this.#answers.get(id)?.[how](outcome);
    this.#answers.delete(id);
  }

  #store({ owner, order, entry }: Waiting): void {
    const { storage, tabs } = this.#dependencies;
    if (owner === undefined) return;
    storage.save({ id: entry.id, owner, tab: tabs.own, order, entry }).catch(this.#complain);
  }
}

/**
 * Whether a stored value is a valid entry. Another version of this package or other code may have
 * written it. Invalid values are ignored.
 */
function isStored({ id, tab, entry }: Partial<StoredEntry>): boolean {
  const { event, payload, state } = (entry ?? {}) as Partial<Entry>;
  const isText = [id, tab, event].every((field) => typeof field === "string") && id === entry?.id;
  return isText && typeof payload === "object" && payload !== null && ["queued", "sending", "refused"].includes(state ?? "");
}

/**
 * Returns a stored entry for sending. An entry in state `sending` may or may not have arrived, so
 * it is sent again.
 */
function restored(entry: Entry): Entry {
  return entry.state === "sending" ? { ...entry, state: "queued" } : entry;
}

function sizeOf(payload: object): number {
  return new TextEncoder().encode(JSON.stringify(payload)).length;
}
