import { type Failure, DISCONNECTED, QUEUE_FULL, RequestError, asFailure, isUnconfirmed, plain } from "../failure.ts";
import type { Note } from "../log.ts";
import type { QueueStorage, StoredEntry } from "./storage.ts";
import type { Tabs } from "./tabs.ts";
import { Pause, now, pauseAfter, randomId, trim, within } from "../time.ts";

/** Answers by which the server owns up to a mistake, after which an entry is no longer tried. */
const MAX_FAULTS = 5;

/** A storage that takes longer to answer is gone without; what it has is asked for again with the next session. */
const STORAGE_PATIENCE = 5_000;

/** So many ids of entries that are done are remembered. */
const MAX_DONE = 1_000;

/** Something that is sent until the server has answered; a new object after every change. */
export interface Entry {
  /** Stays the same however often it is sent (`clientMessageId`), so that the server carries it out once. */
  readonly id: string;
  readonly event: string;
  readonly payload: Readonly<Record<string, unknown>>;
  /** By the clock of this machine, RFC 3339. */
  readonly writtenAt: string;
  /**
   * `queued` until its turn, `sending` until it is answered, then `stored`, and `delivered` once the server has
   * reported (`confirmDelivery`); or `refused`. With a `failure`, `queued` and `sending` wait for the next attempt.
   */
  readonly state: "queued" | "sending" | "stored" | "delivered" | "refused";
  /** How often it was sent. */
  readonly attempts: number;
  /** How often the server said `INTERNAL`. */
  readonly faults: number;
  failure?: Failure;
  /** What the server has answered. */
  readonly answer?: unknown;
  /** Who it was written for, as the server names them. */
  readonly userId?: string;
}

/** What becomes of something that was put into the queue. */
export interface Sent<Answer = unknown> {
  readonly id: string;
  /** The answer; rejects with a `RequestError` if it is refused or discarded. It need not be listened to. */
  readonly answered: Promise<Answer>;
}

export interface QueueLimits {
  /** How many entries may wait. */
  entries: number;
  /** How many bytes their payloads may have as JSON, together. */
  bytes: number;
}

/** What the outside does for the queue. */
export interface QueueSurroundings {
  readonly storage: QueueStorage;
  readonly tabs: Tabs;
  readonly limits: QueueLimits;
  /** The field of a payload that takes the id. */
  readonly idField: string;
  ask(event: string, payload: unknown): Promise<unknown>;
  /** An entry is new, has changed, or is gone. */
  changed(entry: Entry): void;
  readonly note: Note;
}

interface Waiting {
  /** Under which name it is kept; none yet if that was not known when it was written. */
  owner: string | undefined;
  order: number;
  bytes: number;
  entry: Entry;
}

/** What was written and is not answered yet: sent one at a time, in the order of writing, by one user. */
export class Queue {
  #waiting: Waiting[] = [];
  /** Entries that were answered or given up lately; what is read from a storage may be older. */
  readonly #done = new Set<string>();
  /** Under which name entries are kept; until it is known they are in memory alone. */
  #owner: string | undefined;
  /** Whose session it is; `undefined` without a session. */
  #userId: string | undefined;
  /** Whose session it was last: who writes now. */
  #writer: string | undefined;
  #isLoaded = false;
  #isFlushing = false;
  #holdUntil = 0;
  readonly #pause = new Pause();
  readonly #answers = new Map<string, { resolve: (answer: unknown) => void; reject: (error: unknown) => void }>();
  readonly #surroundings: QueueSurroundings;
  /** Notes that an entry could not be stored: it is in memory, and sent from there. */
  readonly #complain = (error: unknown): undefined => void this.#surroundings.note("storage", String(error));

  constructor(surroundings: QueueSurroundings) {
    this.#surroundings = surroundings;
  }

  /** What is not answered yet, and what was refused, in the order of writing. */
  get entries(): readonly Entry[] {
    return this.#mine().map(({ entry }) => entry);
  }

  /** Whether the server has asked to wait. */
  get isHeld(): boolean {
    return this.#holdUntil > now();
  }

  /** Adds something to send; throws a `RequestError` with `QUEUE_FULL` if there is no room. */
  add<Answer>(event: string, payload: Record<string, unknown>): Sent<Answer> {
    const { limits } = this.#surroundings;
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
    // Whoever looks at the state of entries need not look at this.
    answered.catch(() => {});
    this.#keep(waiting);
    this.#surroundings.changed(entry);
    void this.#flush();
    return { id: entry.id, answered };
  }

  /** Sends a refused entry once more, as the same. */
  again(id: string): void {
    this.#change(id, { state: "queued", faults: 0 }, "refused");
    void this.#flush();
  }

  /** Gives an entry up. One that was sent already may have arrived. */
  discard(id: string): void {
    const entry = this.#take(id);
    if (entry === undefined) return;
    this.#settle(id, "reject", new RequestError({ code: "DISCARDED", message: "discarded" }));
    this.#surroundings.changed({ ...entry, state: "refused" });
  }

  /** Gives up all that this user has written, in this tab and in the storage; resolves when nothing of it is kept any more. */
  async forget(): Promise<void> {
    for (const { entry } of this.#mine()) this.discard(entry.id);
    const [owner, userId] = [this.#owner, this.#writer];
    if (owner === undefined) return;
    const { storage } = this.#surroundings;
    const carryOut = async () => {
      for (const { id, entry } of await storage.load(owner)) {
        if (userId !== undefined && (entry?.userId ?? userId) !== userId) continue;
        // What another tab has left may be on its way into this one.
        this.#remember(id);
        await storage.remove(id);
      }
    };
    await within(STORAGE_PATIENCE, carryOut()).catch(this.#complain);
  }

  /** Opens what is kept under a name, before a session if the name is known by then. */
  async open(owner: string): Promise<void> {
    if (this.#owner === owner) return;
    this.#owner = owner;
    this.#isLoaded = false;
    this.#waiting = this.#waiting.map((waiting) => ({ ...waiting, owner: waiting.owner ?? owner }));
    for (const waiting of this.#mine()) this.#keep(waiting);
    await this.#adopt(owner);
    if (this.#owner !== owner) return;
    this.#isLoaded = true;
    void this.#flush();
  }

  /** A session has begun: what waits is sent, if this user has written it. */
  async begin(owner: string, userId: string): Promise<void> {
    const opened = this.open(owner);
    this.#userId = this.#writer = userId;
    this.#bind();
    await opened;
    void this.#flush();
    // Tabs may have left something since, and may do so as long as this session lasts.
    if (this.#owner === owner) await this.#adopt(owner, true);
  }

  /** The connection is gone; what was under way is sent again after the next session has begun. */
  end(): void {
    this.#userId = undefined;
    this.#pause.end();
  }

  /** Takes over what tabs have left that are gone, or, with `waits`, will be. */
  async #adopt(owner: string, waits = false): Promise<void> {
    const { storage, tabs } = this.#surroundings;
    const load = async () => (await within(STORAGE_PATIENCE, storage.load(owner)).catch(this.#complain))?.filter(isStored) ?? [];
    const kept = await load();
    const heirs = [...new Set(kept.map(({ tab }) => tab))].map((tab) => {
      const take = async () => {
        const left = (await load()).filter((stored) => stored.tab === tab);
        this.#takeOver(owner, left);
      };
      return tabs.inherit(tab, waits, take).catch(this.#complain);
    });
    await Promise.all(heirs);
  }

  #takeOver(owner: string, left: readonly StoredEntry[]): void {
    const unknown = left.filter(({ id }) => !this.#done.has(id) && this.#find(id) === undefined);
    if (unknown.length === 0) return;
    const adopted = unknown.map(({ order, entry }) => ({ owner, order, bytes: sizeOf(entry.payload), entry: restored(entry) }));
    // They were written before this tab could write anything.
    this.#waiting = [...adopted, ...this.#waiting].map((waiting, index) => ({ ...waiting, order: index + 1 }));
    for (const waiting of this.#waiting) this.#keep(waiting);
    this.#surroundings.note("adopted", `${adopted.length} entries`);
    for (const { entry } of adopted) this.#surroundings.changed(entry);
    this.#bind();
    void this.#flush();
  }

  /** What was written before anybody knew who we are belongs to who we turn out to be. */
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
        if (this.isHeld) await this.#pause.for(this.#holdUntil - now());
        else await this.#deliver(entry);
      }
    } finally {
      this.#isFlushing = false;
    }
  }

  /** The one to send next, if anything may be sent. */
  #next(): Entry | undefined {
    if (this.#userId === undefined || !this.#isLoaded) return undefined;
    return this.#mine().find(({ entry }) => entry.state !== "refused")?.entry;
  }

  async #deliver({ id, event, payload, attempts }: Entry): Promise<void> {
    const { ask, idField, note } = this.#surroundings;
    const userId = this.#userId;
    this.#change(id, { state: "sending", attempts: attempts + 1 });
    try {
      const answer = await ask(event, { ...payload, [idField]: id });
      const entry = this.#take(id);
      if (entry !== undefined) this.#surroundings.changed({ ...entry, state: "stored", answer });
      this.#settle(id, "resolve", answer);
    } catch (error) {
      const failure = asFailure(error);
      note("not answered", `${id} ${failure.code}`);
      await this.#handleFailure(id, failure);
    } finally {
      // The next session decides anew, also if it has begun already.
      if (this.#userId !== userId) this.#change(id, { state: "queued" }, "sending");
    }
  }

  async #handleFailure(id: string, failure: RequestError): Promise<void> {
    const entry = this.#find(id)?.entry;
    if (entry === undefined) return;
    const { code, retryAfter } = failure;
    const said = plain(failure);
    const faults = entry.faults + (code === "INTERNAL" ? 1 : 0);
    const pause = pauseAfter(entry.attempts, retryAfter);
    if (code === DISCONNECTED) {
      this.#change(id, { state: "queued" });
      // Usually `end` was called; a line that only says so is asked again after a while.
      if (this.#userId !== undefined) await this.#pause.for(pause);
    } else if (code === "RATE_LIMITED") {
      this.#holdUntil = now() + pause;
      this.#change(id, { state: "queued", failure: said });
    } else if (isUnconfirmed(failure) && faults < MAX_FAULTS) {
      if (retryAfter !== undefined) this.#holdUntil = now() + pause;
      this.#change(id, { state: "sending", failure: said, faults });
      await this.#pause.for(pause);
      if (this.#userId === undefined) this.#change(id, { state: "queued" });
    } else {
      this.#change(id, { state: "refused", failure: said, faults });
      this.#settle(id, "reject", failure);
    }
  }

  /** Entries of who we are, or of all of our name while that is unknown. */
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
    // A failure belongs to the state that it has led to.
    if (change.state !== undefined && change.failure === undefined) delete entry.failure;
    const waiting = { ...known, entry };
    this.#waiting = this.#waiting.map((other) => (other === known ? waiting : other));
    this.#keep(waiting);
    this.#surroundings.changed(waiting.entry);
  }

  #take(id: string): Entry | undefined {
    const waiting = this.#find(id);
    if (waiting === undefined) return undefined;
    this.#waiting = this.#waiting.filter((other) => other !== waiting);
    this.#remember(id);
    this.#surroundings.storage.remove(id).catch(this.#complain);
    return waiting.entry;
  }

  /** What is read from the storage under this id is not taken in again. */
  #remember(id: string): void {
    this.#done.add(id);
    trim(this.#done, MAX_DONE);
  }

  #settle(id: string, how: "resolve" | "reject", outcome: unknown): void {
    this.#answers.get(id)?.[how](outcome);
    this.#answers.delete(id);
  }

  #keep({ owner, order, entry }: Waiting): void {
    const { storage, tabs } = this.#surroundings;
    if (owner === undefined) return;
    storage.save({ id: entry.id, owner, tab: tabs.own, order, entry }).catch(this.#complain);
  }
}

/** What was kept may be of another version of this package, or of somebody else: what is no entry is left alone. */
function isStored({ id, tab, entry }: Partial<StoredEntry>): boolean {
  const { event, payload, state } = (entry ?? {}) as Partial<Entry>;
  const isText = [id, tab, event].every((field) => typeof field === "string") && id === entry?.id;
  return isText && typeof payload === "object" && payload !== null && ["queued", "sending", "refused"].includes(state ?? "");
}

/** What was being sent when it was kept may or may not have arrived: it is sent again. */
function restored(entry: Entry): Entry {
  return entry.state === "sending" ? { ...entry, state: "queued" } : entry;
}

function sizeOf(payload: object): number {
  return new TextEncoder().encode(JSON.stringify(payload)).length;
}
