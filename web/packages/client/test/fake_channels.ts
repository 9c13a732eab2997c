import { Emitter } from "../src/emitter.ts";
import { DISCONNECTED, RequestError, TIMED_OUT } from "../src/failure.ts";
import { type Line, ObservedLine } from "../src/line/line.ts";
import type { ChannelEvent, ChannelEvents, SubscribeChannel } from "../src/types.ts";

export const ORDER = "orders:7:42";

/** A server with channels, and a client's connection to it. Pages have at most three events. */
export class FakeServer extends ObservedLine implements Line {
  /** The connection follows these channels. */
  readonly following = new Set<string>();
  requests: string[] = [];
  published: { id: string; userId: string | undefined }[] = [];
  /** Called for each request: returns an error to answer with. */
  refusing: (name: string, payload: SubscribeChannel & { id?: string }) => RequestError | undefined = () => undefined;
  /** Called after a subscription was processed, before its answer arrives. */
  beforeAnswer: (() => void) | undefined;
  /** Whether the answer to the next request is lost. */
  losesAnswer = false;
  /** The oldest event that is stored. */
  oldest = 1;
  /** Whether events are sent and not stored (`history = "none"`). */
  storesNothing = false;
  readonly #stored = new Map<string, ChannelEvent[]>();
  readonly #server = new Emitter<Record<string, (...args: unknown[]) => void>>();

  open(): void {}
  close(): void {}
  retry(): void {}
  emit(): void {}

  release(name: string, payload: SubscribeChannel): void {
    this.requests.push(`${name} ${JSON.stringify(payload)}`);
    this.following.delete(payload.channel);
  }

  on(name: string, listener: (...args: never[]) => void): () => void {
    return this.#server.on(name, listener as never);
  }

  /** Connects as a user. With `recovered`, the missed events arrive first. */
  connect(userId = "ada", { guest = false } = {}): void {
    this.become({ status: { state: "online", transport: "websocket" } });
    this.become({ session: { userId, name: userId, roles: [], permissions: [], guest }, isReady: true });
  }

  lose(): void {
    this.following.clear();
    this.become({ isReady: false });
    this.become({ status: { state: "offline" } });
  }

  /** Stores events, and sends them if the client follows. */
  store(data: number[], { name = ORDER, event = "updated" } = {}): void {
    const stored = this.#stored.get(name) ?? [];
    this.#stored.set(name, stored);
    for (const one of data) {
      const position = `${name}.${this.storesNothing ? 0 : stored.length + 1}`;
      stored.push({ event, data: one, position, id: `id-${one}`, timestamp: "now" });
      if (this.following.has(name)) this.send(name, stored.length);
    }
  }

  /** Sends an event that is stored. */
  send(name: string, number: number): void {
    const { event, data, ...rest } = this.#stored.get(name)?.[number - 1] as ChannelEvent;
    this.#server.emit(event, data, { channel: name, ...rest });
  }

  end(reason: string, name = ORDER): void {
    this.following.delete(name);
    this.#server.emit("channel:ended", { channel: name, reason });
  }

  async request(name: string, payload: SubscribeChannel & { id?: string }): Promise<unknown> {
    const { channel: _, ...rest } = payload;
    this.requests.push(`${name} ${JSON.stringify(rest)}`);
    await Promise.resolve(); // The way to the server.
    if (!this.isReady) throw new RequestError({ code: DISCONNECTED, message: "" });
    const refusal = this.refusing(name, payload);
    if (refusal) throw refusal;
    if (name === "channel:publish") {
      this.published.push({ id: payload.id ?? "", userId: this.session?.userId });
      return { position: "p" };
    }
    if (name === "channel:presence") return { channel: payload.channel, users: [], count: 0 };
    const answer = this.#answer(payload);
    if (name === "channel:subscribe") {
      if (answer.hasMore && payload.since !== undefined && !answer.forgotten) this.following.delete(payload.channel);
      else this.following.add(payload.channel);
      this.beforeAnswer?.();
      this.beforeAnswer = undefined;
    }
    const isLost = this.losesAnswer;
    this.losesAnswer = false;
    if (isLost) throw new RequestError({ code: TIMED_OUT, message: "" });
    return answer;
  }

  #answer({ channel: name, since }: SubscribeChannel): ChannelEvents {
    if (this.storesNothing) return { events: [], position: `${name}.0`, hasMore: false, ...(since !== undefined && { forgotten: true }) };
    const stored = this.#stored.get(name) ?? [];
    const after = Number(since?.split(".")[1] ?? 0);
    if (after > stored.length) throw invalid("since");
    const rest = stored.slice(Math.max(after, this.oldest - 1));
    const isForgotten = since !== undefined && after < this.oldest - 1;
    if (since === undefined || isForgotten) {
      const events = rest.slice(-3);
      return { events, position: `${name}.${stored.length}`, hasMore: events.length < rest.length, ...(isForgotten && { forgotten: true }) };
    }
    const events = rest.slice(0, 3);
    return { events, position: events.at(-1)?.position ?? since, hasMore: events.length < rest.length };
  }
}

/** Returns the refusal of a field. */
export const invalid = (field: string) => new RequestError({ code: "INVALID_PAYLOAD", message: "", details: { field } });
