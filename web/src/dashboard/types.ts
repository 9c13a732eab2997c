/** How a server is: the answer to `admin:stats`. */
export interface Statistics {
  node: string;
  sessions: { total: number; polling: number; websocket: number };
  sockets: number;
  users: number;
  rooms: { count: number; members: number; largest: number };
  traffic: { received: number; sent: number; bytesReceived: number; bytesSent: number };
  queues: { bytes: number; acksPending: number; polls: number };
  times: { delivery: Percentiles; processing: Percentiles; ping: Percentiles };
  store: string;
  adapter: string;
  adapterState?: { up: boolean; lost: number; unsent: number; queued: number; queuedBytes: number; lag?: number };
  nodes: number;
  draining: boolean;
}

/** Milliseconds below which so many percent are. */
export interface Percentiles {
  count: number;
  p50?: number;
  p95?: number;
  p99?: number;
}

/** A server of the cluster: `GET /api/v1/nodes`. */
export interface Node {
  id: string;
  name: string;
  version: string;
  startedAt: string;
  heard: number;
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

/** A socket of a user: `GET /api/v1/sockets`. */
export interface Socket {
  id: string;
  userId: string;
  name: string;
  rooms: string[];
  roomCount: number;
  transport: string;
  address: string;
  connectionTime: string;
  node: string;
}

export interface Sockets {
  sockets: Socket[];
  hasMore: boolean;
  missing: number;
}

/** `admin:refusals`: what a server has refused since it last said so. */
export interface Refusals {
  node: string;
  refusals: { type: string; reason: string; count: number }[];
  timestamp: string;
}

/** `admin:alert`: something works no longer, or again. */
export interface Alert {
  node: string;
  part: string;
  task?: string;
  state: string;
  timestamp: string;
}

/** `admin:node`: a server has come, goes, or is gone. */
export interface NodeChange {
  node: string;
  change: string;
  timestamp: string;
}
