import type { Failure } from "../../../packages/client/src/failure.ts";
import type { Diagnosis, SeenClients } from "../diagnosis.ts";
import type { Alerts, Blocks, ChannelOrder, Channels, Cluster, ConversationDetails, Conversations, Node, RoomDetails, Rooms, Socket, Sockets } from "../types.ts";

/**
 * Timeout of requests, in milliseconds. A server waits 5 seconds for others that do not answer, so
 * that it can name them.
 */
export const REQUEST_TIMEOUT = 8_000;
/** Sockets, channels, conversations, blocks or alerts of a page. */
export const PAGE = 50;

/** Seconds for which events are watched. */
const WATCHED = 3_600;

/** Takes a line of a stream. */
export type TakeLine = (line: Record<string, unknown>) => void;

type Query = Record<string, string | number | undefined>;

/** The HTTP API, with the token of the admin. Its errors have the codes of the server. */
export class Api {
  readonly #token: string;

  constructor(token: string) {
    this.#token = token;
  }

  cluster(): Promise<Cluster> {
    return this.#call("GET", "/stats/cluster");
  }

  async nodes(): Promise<Node[]> {
    const { nodes } = await this.#call<{ nodes: Node[] }>("GET", "/nodes");
    return nodes;
  }

  rooms(query: { prefix?: string; limit: number }): Promise<Rooms> {
    return this.#call("GET", `/rooms${queryOf({ order: "size", ...query })}`);
  }

  diagnosis(): Promise<Diagnosis> {
    return this.#call("GET", "/diagnosis");
  }

  /** Returns clients that disconnected or were refused in the last hour. */
  seen(search: string): Promise<SeenClients> {
    return this.#call("GET", `/diagnosis/clients${queryOf({ search })}`);
  }

  room(room: string): Promise<RoomDetails> {
    return this.#call("GET", `/rooms/${encodeURIComponent(room)}`);
  }

  channels(sort: ChannelOrder): Promise<Channels> {
    return this.#call("GET", `/channels${queryOf({ sort, limit: PAGE })}`);
  }

  sockets(query: { search?: string; room?: string; cursor?: string | undefined }): Promise<Sockets> {
    return this.#call("GET", `/sockets${queryOf({ ...query, limit: PAGE })}`);
  }

  socket(id: string): Promise<Socket> {
    return this.#call("GET", `/sockets/${encodeURIComponent(id)}`);
  }

  close(id: string): Promise<unknown> {
    return this.#call("DELETE", `/sockets/${encodeURIComponent(id)}`);
  }

  async join(id: string, room: string): Promise<boolean> {
    const { changed } = await this.#call<{ changed: boolean }>("PUT", `/sockets/${encodeURIComponent(id)}/rooms/${encodeURIComponent(room)}`);
    return changed;
  }

  async leave(id: string, room: string): Promise<boolean> {
    const { changed } = await this.#call<{ changed: boolean }>("DELETE", `/sockets/${encodeURIComponent(id)}/rooms/${encodeURIComponent(room)}`);
    return changed;
  }

  conversations(query: { title?: string; ids?: string; cursor?: string | undefined }): Promise<Conversations> {
    return this.#call("GET", `/conversations${queryOf({ ...query, ...(query.ids === undefined && { limit: PAGE }) })}`);
  }

  conversation(id: string): Promise<ConversationDetails> {
    return this.#call("GET", `/conversations/${encodeURIComponent(id)}`);
  }

  blocks(cursor?: string): Promise<Blocks> {
    return this.#call("GET", `/blocks${queryOf({ cursor, limit: PAGE })}`);
  }

  lift(id: string): Promise<unknown> {
    return this.#call("DELETE", `/blocks/${encodeURIComponent(id)}`);
  }

  alerts(cursor?: string): Promise<Alerts> {
    return this.#call("GET", `/alerts${queryOf({ cursor, limit: PAGE })}`);
  }

  /** Passes on each line about a socket until `signal` is aborted or the server ends the stream. */
  trace(socketId: string, take: TakeLine, signal: AbortSignal): Promise<void> {
    return this.#stream(`/trace${queryOf({ socketId, seconds: WATCHED })}`, take, signal);
  }

  /** Passes on each event that is published to a channel, like `trace`. */
  live(channel: string, take: TakeLine, signal: AbortSignal): Promise<void> {
    return this.#stream(`/channels/${encodeURIComponent(channel)}/live${queryOf({ seconds: WATCHED })}`, take, signal);
  }

  async #stream(path: string, take: TakeLine, signal: AbortSignal): Promise<void> {
    const response = await fetch(`/api/v1${path}`, { ...this.#options(), signal });
    if (!response.ok || response.body === null) throw await failureOf(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      // Empty lines show that the stream is alive.
      for (const line of lines) if (line !== "") take(JSON.parse(line) as Record<string, unknown>);
    }
  }

  async #call<Answer>(method: string, path: string): Promise<Answer> {
    const response = await fetch(`/api/v1${path}`, { ...this.#options(), method, signal: AbortSignal.timeout(REQUEST_TIMEOUT) });
    if (!response.ok) throw await failureOf(response);
    return (response.status === 204 ? undefined : await response.json()) as Answer;
  }

  #options(): RequestInit {
    return { headers: { authorization: `Bearer ${this.#token}` }, cache: "no-store", credentials: "omit" };
  }
}

async function failureOf(response: Response): Promise<Error> {
  const { error } = (await response.json()) as { error?: Failure };
  return Object.assign(new Error(error?.message ?? response.statusText), error);
}

function queryOf(query: Query): string {
  const known = Object.entries(query).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]]));
  return `?${new URLSearchParams(known)}`;
}
