import type { Entry } from "./queue.ts";

/** An entry of the queue as it is stored. */
export interface StoredEntry {
  /** The `clientMessageId`. */
  id: string;
  /** The owner of the queue: the `identity` of the manager, or the user id. */
  owner: string;
  /** The tab that sends it. */
  tab: string;
  /** Entries are sent in ascending order. */
  order: number;
  entry: Entry;
}

/** Stores the queue. Changes are applied in the order of the calls. */
export interface QueueStorage {
  /** All entries of an owner, in ascending order. */
  load(owner: string): Promise<StoredEntry[]>;
  /** Adds an entry, or replaces the entry with the same `id`. */
  save(stored: StoredEntry): Promise<void>;
  remove(id: string): Promise<void>;
}

/** Stores the queue in memory, until the program ends. */
export function memoryStorage(): QueueStorage {
  const all = new Map<string, StoredEntry>();
  return {
    load: async (owner) => inOrder([...all.values()].filter((stored) => stored.owner === owner)),
    save: async (stored) => void all.set(stored.id, stored),
    remove: async (id) => void all.delete(id),
  };
}

/**
 * Stores the queue in IndexedDB: it survives a reload, and all tabs of an origin share it. The
 * methods reject if the browser blocks IndexedDB.
 */
export function indexedDbStorage(name = "roomcast"): QueueStorage {
  let database: Promise<IDBDatabase> | undefined;
  const open = () => (database ??= connect(name, () => (database = undefined)));
  /** Runs one transaction. Resolves after the transaction is complete. */
  async function carryOut<Result>(mode: IDBTransactionMode, operation: (store: IDBObjectStore) => IDBRequest<Result>): Promise<Result> {
    const transaction = (await open()).transaction(STORE, mode);
    const request = operation(transaction.objectStore(STORE));
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

/** Returns the IndexedDB storage if the platform has IndexedDB, otherwise the memory storage. */
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
      // Another tab upgrades the database, or the user clears the site data.
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
