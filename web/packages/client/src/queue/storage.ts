import type { Entry } from "./queue.ts";

/** An entry of the queue as it is kept. */
export interface StoredEntry {
  /** The `clientMessageId`. */
  id: string;
  /** Whose queue it is in. */
  owner: string;
  /** The tab that sends it. */
  tab: string;
  /** Entries are sent in ascending order. */
  order: number;
  entry: Entry;
}

/** Where the queue is kept. Changes are carried out in the order of the calls. */
export interface QueueStorage {
  /** All entries of an owner, in ascending order. */
  load(owner: string): Promise<StoredEntry[]>;
  /** Adds an entry, or replaces the one with its `id`. */
  save(stored: StoredEntry): Promise<void>;
  remove(id: string): Promise<void>;
}

/** Keeps the queue as long as the program runs. */
export function memoryStorage(): QueueStorage {
  const all = new Map<string, StoredEntry>();
  return {
    load: async (owner) => inOrder([...all.values()].filter((stored) => stored.owner === owner)),
    save: async (stored) => void all.set(stored.id, stored),
    remove: async (id) => void all.delete(id),
  };
}

/** Keeps the queue in IndexedDB: beyond a reload, and for all tabs of an origin. Rejects where a browser forbids it. */
export function indexedDbStorage(name = "roomcast"): QueueStorage {
  let database: Promise<IDBDatabase> | undefined;
  const open = () => (database ??= connect(name, () => (database = undefined)));
  /** Resolves when it is on disk. */
  async function carryOut<Result>(mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest<Result>): Promise<Result> {
    const transaction = (await open()).transaction(STORE, mode);
    const request = ask(transaction.objectStore(STORE));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  }
  return {
    load: async (owner) => inOrder(await carryOut("readonly", (store) => store.index("owner").getAll(owner) as IDBRequest<StoredEntry[]>)),
    save: async (stored) => void (await carryOut("readwrite", (store) => store.put(stored))),
    remove: async (id) => carryOut("readwrite", (store) => store.delete(id)),
  };
}

/** IndexedDB where there is one, memory elsewhere. */
export function defaultStorage(): QueueStorage {
  return typeof indexedDB === "undefined" ? memoryStorage() : indexedDbStorage();
}

const STORE = "queue";

function connect(name: string, lost: () => void): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open(name, 1);
    opening.onupgradeneeded = () => {
      opening.result.createObjectStore(STORE, { keyPath: "id" }).createIndex("owner", "owner");
    };
    opening.onsuccess = () => {
      const database = opening.result;
      database.onclose = lost;
      // Another tab has a newer version of this, or the user clears everything.
      database.onversionchange = () => {
        database.close();
        lost();
      };
      resolve(database);
    };
    opening.onerror = () => {
      lost();
      reject(opening.error);
    };
  });
}

function inOrder(entries: StoredEntry[]): StoredEntry[] {
  return entries.sort((one, other) => one.order - other.order);
}
