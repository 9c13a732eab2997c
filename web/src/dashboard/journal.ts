import type { Line } from "../../packages/client/src/line/line.ts";
import { Ring } from "./figures.ts";
import type { Alert, NodeChange, Refusals } from "./types.ts";

/** Maximum number of listed refusals, and of alerts. */
export const MAX_LISTED = 50;
/** Maximum number of counted reasons. A server has fewer, so that new ones still fit. */
const MAX_REASONS = 100;

/** A line of a list: what happened, on which server and when. */
export interface Entry {
  id: number;
  text: string;
  node: string;
  at: string;
  isBad: boolean;
}

/** The number of refusals for one reason. */
export interface RefusalCount {
  type: string;
  reason: string;
  count: number;
}

const changes: Record<NodeChange["change"], string> = { joined: "joined the cluster", left: "left the cluster", draining: "is shutting down" };

/**
 * The events of servers since the page was opened: counts of refusals and the latest of them.
 * Alerts include the latest before that.
 */
export class Journal {
  readonly #refusals = new Ring<Entry>(MAX_LISTED);
  readonly #alerts = new Ring<Entry>(MAX_LISTED);
  readonly #reasons = new Map<string, RefusalCount>();
  readonly #draining = new Set<string>();
  #count = 0;

  /** Newest first. */
  get refusals(): readonly Entry[] {
    return this.#refusals.items.toReversed();
  }

  /** Newest first. */
  get alerts(): readonly Entry[] {
    return this.#alerts.items.toReversed();
  }

  /** The most frequent first. */
  get reasons(): readonly RefusalCount[] {
    return [...this.#reasons.values()].sort((one, other) => other.count - one.count);
  }

  /** Whether a server has announced its shutdown and has not left yet. */
  isDraining(node: string): boolean {
    return this.#draining.has(node);
  }

  follow(line: Pick<Line, "on">, changed: () => void): void {
    const on = <Payload>(name: string, take: (payload: Payload) => void) =>
      line.on(name, ((payload: Payload) => {
        take(payload);
        changed();
      }) as (...args: never[]) => void);
    on("admin:refusals", (event: Refusals) => this.refused(event));
    on("admin:alert", (event: Alert) => this.alerted(event));
    on("admin:node", (event: NodeChange) => this.moved(event));
  }

  refused({ node, refusals, timestamp }: Refusals): void {
    for (const { type, reason, count } of refusals) {
      const key = `${type}\n${reason}`;
      const known = this.#reasons.get(key);
      if (known !== undefined) known.count += count;
      else if (this.#reasons.size < MAX_REASONS) this.#reasons.set(key, { type, reason, count });
      const often = count === 1 ? "" : ` × ${count}`;
      this.#add(this.#refusals, { text: `${typeInWords(type)}: ${reason}${often}`, node, at: timestamp, isBad: true });
    }
  }

  alerted({ node, part, task, state, timestamp }: Alert): void {
    const isBad = state !== "ok";
    const what = task === undefined ? part : `${part} ${task}`;
    // A new connection receives the latest alerts again.
    const isListed = this.#alerts.items.some((entry) => entry.node === node && entry.at === timestamp && entry.text.startsWith(`${what} `));
    if (isListed) return;
    this.#add(this.#alerts, { text: `${what} ${isBad ? "does not work" : "works again"}`, node, at: timestamp, isBad });
  }

  moved({ node, change, timestamp }: NodeChange): void {
    if (change === "draining") this.#draining.add(node);
    else this.#draining.delete(node);
    this.#add(this.#alerts, { text: `the server ${changes[change] ?? change}`, node, at: timestamp, isBad: change !== "joined" });
  }

  clear(): void {
    this.#refusals.clear();
    this.#alerts.clear();
    this.#reasons.clear();
    this.#draining.clear();
  }

  #add(ring: Ring<Entry>, entry: Omit<Entry, "id">): void {
    this.#count += 1;
    ring.push({ id: this.#count, ...entry });
  }
}

/** Returns a type such as `rateLimit` as words. */
export function typeInWords(type: string): string {
  return type.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
