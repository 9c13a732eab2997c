import { DISCONNECTED, RequestError, TIMED_OUT } from "../src/failure.ts";
import type { Line, Status } from "../src/line/line.ts";
import type { Message, Requests, Session } from "../src/types.ts";
import { message } from "./message.ts";

type History = Requests["message_history"]["payload"];

/**
 * A server with one conversation, with the interface of a line. Pages hold at most `pageSize`
 * messages.
 */
export class FakeServer implements Line {
  readonly status: Status = { state: "online", transport: "websocket" };
  session: Session | undefined = { userId: "me", name: "Me", roles: [], permissions: [], guest: false };
  isReady = true;
  stored: Message[] = [];
  pageSize = 3;
  requests: string[] = [];
  /** The ids of the messages that were sent. */
  sent: string[] = [];
  /** Called for the next `message` request, before its answer or instead of it. */
  failing: ((content: string) => RequestError | undefined) | undefined;
  /** Whether messages are stored, but not confirmed in time. */
  isSlow = false;
  /** The answer to the next join. */
  refusing: RequestError | undefined;
  /** Called after the next page was read, before it arrives. */
  afterReading: (() => void) | undefined;
  readonly #rows = new Map<string, Message>();

  open(): void {}
  close(): void {}
  retry(): void {}
  emit(): void {}
  release(): void {}

  watch(): () => void {
    return () => {};
  }

  on(): () => void {
    return () => {};
  }

  store(fields: Partial<Message> = {}): Message {
    const stored = message(this.stored.length + 1, fields);
    this.stored.push(stored);
    return stored;
  }

  async request(name: string, payload: never): Promise<unknown> {
    this.requests.push(`${name} ${describe(payload)}`.trim());
    if (!this.isReady) throw new RequestError({ code: DISCONNECTED, message: "" });
    switch (name) {
      case "join_conversation": {
        const refusal = this.refusing;
        this.refusing = undefined;
        if (refusal !== undefined) throw refusal;
        return { users: [], statuses: [], ...this.#pageAfterJoin(payload) };
      }
      case "message_history": {
        const page = this.#page(payload);
        this.afterReading?.();
        this.afterReading = undefined;
        return page;
      }
      default:
        return { message: this.#take(payload) };
    }
  }

  #pageAfterJoin({ lastSeq }: { lastSeq?: number }) {
    return lastSeq === undefined ? { messages: [], hasMore: false } : this.#page({ conversationId: "lobby", afterSeq: lastSeq });
  }

  #page({ afterSeq, beforeSeq }: History) {
    const range = this.stored.filter(({ seq }) => seq > (afterSeq ?? 0) && seq < (beforeSeq ?? Number.POSITIVE_INFINITY));
    const messages = afterSeq === undefined ? range.slice(-this.pageSize) : range.slice(0, this.pageSize);
    return { messages, hasMore: range.length > messages.length };
  }

  #take({ content, clientMessageId = "" }: Requests["message"]["payload"]): Message {
    this.sent.push(clientMessageId);
    const failure = this.failing?.(content);
    this.failing = undefined;
    if (failure !== undefined) throw failure;
    const row = this.#rows.get(clientMessageId) ?? this.store({ userId: "me", content });
    this.#rows.set(clientMessageId, row);
    if (this.isSlow) throw new RequestError({ code: TIMED_OUT, message: "" });
    return row;
  }
}

function describe({ lastSeq, afterSeq, beforeSeq }: History & { lastSeq?: number }): string {
  const bounds = Object.entries({ lastSeq, afterSeq, beforeSeq }).filter(([, seq]) => seq !== undefined);
  return bounds.map(([name, seq]) => `${name}=${seq}`).join(" ");
}

/** Lets all code that waits for an answer of the fake server continue. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
