import { Effort } from "./effort.ts";
import type { RequestError } from "./failure.ts";
import type { Line } from "./line/line.ts";
import type { Note } from "./log.ts";

/** Error codes after which the request is not repeated. */
const FINAL = new Set(["FORBIDDEN", "INVALID_PAYLOAD", "NOT_FOUND", "REFUSED"]);

export interface SubscriptionOptions<Answer = unknown, Name extends string = string> {
  /**
   * Receives every answer, such as the snapshot of a subscription: the first one, and one after
   * each reconnect.
   */
  answered?: (answer: Answer) => void;
  /** Called when the server refuses the request. The request is not repeated. */
  refused?: (failure: RequestError) => void;
  /**
   * The event that ends the subscription. Default: `unsubscribe:x` for `subscribe:x`, otherwise
   * none.
   */
  undo?: Name;
}

/** A request that is repeated after each reconnect until `stop` is called. */
export class Subscription {
  readonly #effort = new Effort();
  readonly #event: string;
  readonly #payload: unknown;
  readonly #options: SubscriptionOptions<never>;
  readonly #line: Line;
  readonly #note: Note;

  constructor(event: string, payload: unknown, options: SubscriptionOptions<never>, line: Line, note: Note) {
    this.#event = event;
    this.#payload = payload;
    this.#options = options;
    this.#line = line;
    this.#note = note;
  }

  begin(): void {
    const subscribe = async (isCurrent: () => boolean) => {
      const answer = await this.#line.request(this.#event, this.#payload);
      if (isCurrent()) this.#options.answered?.(answer as never);
    };
    void this.#effort.begin(subscribe, (failure) => {
      this.#note("subscription failed", `${this.#event} ${failure.code}`);
      const goesOn = !FINAL.has(failure.code);
      if (!goesOn) this.#options.refused?.(failure);
      return goesOn;
    });
  }

  wait(): void {
    this.#effort.end();
  }

  stop(): void {
    this.wait();
    const undo = this.#options.undo ?? (this.#event.startsWith("subscribe:") ? `un${this.#event}` : undefined);
    if (undo !== undefined) this.#line.release(undo, this.#payload);
  }
}
