export type { Alert, NodeChange, Percentiles, Refusals, Statistics } from "../../packages/client/src/types.ts";

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
