import type { Percentiles, Statistics } from "../../packages/client/src/types.ts";

export type { Alert, NodeChange, Percentiles, Refusals, Statistics } from "../../packages/client/src/types.ts";

export type Times = Statistics["times"];

/** Durations of the last minutes. */
export interface Recent {
  minutes: number;
  times: Record<keyof Times, Percentiles>;
}

/** The parts of a server that can fail. */
export interface Parts {
  storeChanges: number;
  storeChangesMax: number;
  storeWaitingReads: number;
  publications: string;
  followers: { name: string; lagS: number }[];
  endedTasks: string[];
  certificateExpiresAt?: string;
}

/** The state of one server. */
export interface Server {
  name: string;
  statistics: Statistics;
  recent: Recent[];
  parts: Parts;
}

/** The state of all servers: `GET /api/v1/stats/cluster`. */
export interface Cluster {
  servers: Server[];
  missing: { id: string; name: string; heartbeatAgeMs: number }[];
  total: Pick<Statistics, "sessions" | "sockets" | "traffic" | "queues"> & { users: number; rooms: number };
  times: Times;
  recent: Recent[];
}

/** A server of the cluster: `GET /api/v1/nodes`. */
export interface Node {
  id: string;
  name: string;
  version: string;
  startedAt: string;
  heartbeatAgeMs: number;
  load: { connections: number; sessions: number; sockets: number; rooms: number; queuedBytes: number; lag: number; busy: number };
}

/** A room: `GET /api/v1/rooms`. */
export interface Room {
  room: string;
  sockets: number;
}

export interface Rooms {
  rooms: Room[];
  hasMore: boolean;
  missing: number;
}

/** A socket: `GET /api/v1/sockets` and `GET /api/v1/sockets/{id}`. */
export interface Socket {
  id: string;
  userId: string;
  name: string;
  rooms: string[];
  roomCount: number;
  transport: string;
  address: string;
  agent: string;
  queuedBytes: number;
  recovered: boolean;
  connectionTime: string;
  lastActivity: string;
  node: string;
}

export interface Sockets {
  sockets: Socket[];
  cursor?: string;
  hasMore: boolean;
  missing: number;
}

/** The sockets of a room by server: `GET /api/v1/rooms/{room}`. */
export interface RoomDetails {
  room: string;
  sockets: number;
  nodes: { node: string; sockets: number; users: number }[];
  missing: number;
}

/** A channel of a declared kind: `GET /api/v1/channels`. */
export interface Channel {
  channel: string;
  kind: string;
  /** The room of its followers. */
  room: string;
  followers: number;
  eventsPerSecond: number;
  /** Absent if the kind stores no events. */
  history?: { events: number; bytes: number; hasMore?: boolean };
}

export interface Channels {
  channels: Channel[];
  /** There is one page. */
  cursor?: never;
  hasMore: boolean;
  missing: number;
}

/** What a list of channels is sorted by. */
export type ChannelOrder = "followers" | "rate" | "bytes";

/** A conversation without its members: `GET /api/v1/conversations`. */
export interface Conversation {
  id: string;
  title: string | null;
  ownerId: string | null;
  open: boolean;
  members: number;
  lastSeq: number;
  updatedAt: string;
}

export interface Conversations {
  conversations: Conversation[];
  cursor?: string;
  hasMore: boolean;
}

/** A conversation: `GET /api/v1/conversations/{id}`. */
export interface ConversationDetails {
  conversation: { id: string; title: string | null; ownerId: string | null; memberIds: string[] };
  open: boolean;
}

/** A blocked network: `GET /api/v1/blocks`. */
export interface BlockedNetwork {
  id: string;
  cidr: string;
  reason: string;
  source: string;
  createdAt: string;
  expiresAt?: string;
}

export interface Blocks {
  blocks: BlockedNetwork[];
  cursor?: string;
  hasMore: boolean;
}

/** A stored alert: `GET /api/v1/alerts`. */
export interface StoredAlert {
  id: string;
  node: string;
  alert: string;
  part: string;
  task?: string;
  state: string;
  beganAt?: string;
  endedAt?: string;
}

export interface Alerts {
  alerts: StoredAlert[];
  cursor?: string;
  hasMore: boolean;
}
