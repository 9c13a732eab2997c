// A service that publishes in its own transactions of PostgreSQL. A committed event is stored once,
// and one that was rolled back never.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { until } from "../support.mjs";
import { pick } from "./followers.mjs";

/** How long a statement may take, in milliseconds. */
const PATIENCE = 3000;

/** Publishes events in transactions until it is stopped. */
export class TransactionPublisher {
  counts = { published: 0, unanswered: 0, refused: 0, rolledBack: 0 };
  #isOver = false;
  #client;

  constructor(postgres, name, channels, ledger, random) {
    Object.assign(this, { postgres, name, channels, ledger, random });
  }

  stop() {
    this.#isOver = true;
  }

  async publish(pause) {
    while (!this.#isOver) {
      const events = Array.from({ length: 1 + Math.floor(this.random() * 3) }, () => this.ledger.create(this.name, pick(this.random, this.channels), this.random));
      if (this.random() < 0.3) await this.#attempt(events, "ROLLBACK");
      else await this.#insist(events);
      await sleep(this.random() * 2 * pause); // Pace of a publisher.
    }
    await this.#client?.end().catch(() => {});
  }

  /** Repeats a transaction until it is committed. */
  async #insist(events) {
    for (const event of events) event.sentAt ??= Date.now();
    while (!(await this.#attempt(events, "COMMIT"))) await sleep(100); // PostgreSQL may be down.
    for (const event of events) this.ledger.acknowledge(event, undefined);
    this.counts.published += events.length;
  }

  /** Returns whether the transaction has ended in this way. */
  async #attempt(events, end) {
    try {
      this.#client ??= await this.#connect();
      await this.#client.query("BEGIN");
      for (const { channel, event, data, id } of events) {
        await this.#client.query("SELECT roomcast_publish_channel($1, $2, $3, $4)", [channel, event, JSON.stringify(data), id]);
      }
      await this.#client.query(end);
      if (end === "ROLLBACK") this.counts.rolledBack += events.length;
      return true;
    } catch {
      // The outcome of a commit is unknown. An event that is published already stays as it is.
      this.counts.unanswered += 1;
      this.#client?.end().catch(() => {});
      this.#client = undefined;
      return false;
    }
  }

  async #connect() {
    const client = new pg.Client({ connectionString: this.postgres.url, connectionTimeoutMillis: PATIENCE, query_timeout: PATIENCE });
    // The database ends connections.
    client.on("error", () => {});
    await client.connect();
    return client;
  }

  /** Waits until what was committed is stored, and checks that no server has refused any of it. */
  async settle() {
    const committed = [...this.ledger.events.values()].filter(({ publisher, isAcknowledged }) => publisher === this.name && isAcknowledged);
    const stored = () => new Set(this.postgres.query(`SELECT key FROM journal_entries WHERE key LIKE '${this.name}-%'`).flat());
    let missing;
    const isDone = async () => {
      const known = stored();
      missing = committed.filter(({ id }) => !known.has(id)).map(({ id }) => id);
      return missing.length === 0;
    };
    await until(isDone, () => `committed events to be stored: ${missing}`);
    assert.deepEqual(this.postgres.query("SELECT event, refused FROM publications WHERE refused IS NOT NULL"), []);
    assert.ok(this.counts.rolledBack > 0 && committed.length > 0);
  }
}
