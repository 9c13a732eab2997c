/** Who and what the server lists by a measure. */
export type Subject = "user" | "address" | "room";
export type Measure = "events" | "queuedBytes" | "connects" | "refusals";

export interface TopEntry {
  name: string;
  value: number;
}

export interface TopList {
  subject: Subject;
  measure: Measure;
  entries: TopEntry[];
}

/** A refusal or a cut, or several of the same kind in a row. */
export interface Incident {
  kind: "refusal" | "cut";
  type: string;
  reason: string;
  userId?: string;
  address?: string;
  node: string;
  at: string;
  count: number;
}

/** Connects, refusals and disconnects of the last hour, in steps. */
export interface History {
  beginsAt: string;
  stepSeconds: number;
  connected: number[];
  refused: number[];
  disconnected: { reason: string; counts: number[] }[];
}

/** What the servers know of clients and rooms that may cause trouble: `GET /api/v1/diagnosis`. */
export interface Diagnosis {
  history: History;
  top: TopList[];
  incidents: Incident[];
  missing: number;
}

/** A client that disconnected or was refused: `GET /api/v1/diagnosis/clients`. */
export interface SeenClient {
  userId?: string;
  name?: string;
  address?: string;
  at: string;
  what: string;
  node: string;
}

export interface SeenClients {
  clients: SeenClient[];
  /** There is one page. */
  cursor?: never;
  hasMore?: never;
  missing: number;
}

/** The rates of one step, at its end. */
export interface Step {
  at: number;
  connected: number;
  refused: number;
  /** By reason. Without reasons that did not occur in the hour. */
  disconnected: Record<string, number>;
}

/** Returns the rates a second of each step, the oldest first. */
export function stepsOf({ beginsAt, stepSeconds, connected, refused, disconnected }: History): Step[] {
  const begin = Date.parse(beginsAt);
  const rate = (counts: readonly number[], index: number) => (counts[index] ?? 0) / stepSeconds;
  return connected.map((_, index) => ({
    at: begin + (index + 1) * stepSeconds * 1_000,
    connected: rate(connected, index),
    refused: rate(refused, index),
    disconnected: Object.fromEntries(disconnected.map(({ reason, counts }) => [reason, rate(counts, index)])),
  }));
}

/** Returns the reasons of disconnects, the most frequent first. */
export function reasonsOf({ disconnected }: History): string[] {
  const sum = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0);
  return disconnected.toSorted((one, other) => sum(other.counts) - sum(one.counts)).map(({ reason }) => reason);
}

/** Returns the list of a measure, or `undefined` if the role does not permit it. */
export function topOf(diagnosis: Diagnosis | undefined, measure: Measure, subject: Subject): TopEntry[] | undefined {
  return diagnosis?.top.find((list) => list.measure === measure && list.subject === subject)?.entries;
}
