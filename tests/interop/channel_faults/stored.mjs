// What is stored of channels: at each server, and in PostgreSQL.
import assert from "node:assert/strict";
import { service } from "../channel_backend.mjs";
import { callOnce } from "../channel_publishers.mjs";
import { until } from "../support.mjs";

/** Returns all events of a channel that a server returns to services, the oldest first. */
export async function storedAt(url, channel) {
  const stored = [];
  for (let [before, hasMore] = [undefined, true]; hasMore; before = stored[0]?.position) {
    const query = new URLSearchParams({ limit: 200, ...(before && { before }) });
    let answer;
    const isRead = async () => (answer = await callOnce(url, "GET", `/api/v1/channels/${channel}/history?${query}`, undefined, service, 5000))?.status === 200;
    await until(isRead, () => `the history of ${channel}: ${JSON.stringify(answer)}`);
    stored.unshift(...answer.body.events);
    ({ hasMore } = answer.body);
  }
  return stored;
}

/** Asserts that the rows of PostgreSQL are what a server returned. */
export function assertRows(postgres, channel, stored) {
  const rows = postgres.query(`SELECT revision, split_part(key, chr(10), -1), body FROM journal_entries WHERE journal = 'channel:${channel}' ORDER BY revision`);
  const parsed = rows.map(([revision, id, body]) => ({ revision: Number(revision), id, ...JSON.parse(body) }));
  assert.deepEqual(parsed, stored.map(({ event, data, id }, n) => ({ revision: n + 1, id, event, data })), channel);
}
