import type { Line } from "../../packages/client/src/line/line.ts";
import { Ring } from "./figures.ts";
import type { Alert, NodeChange, Refusals } from "./types.ts";

/** So many of the latest refusals are kept, and so many alerts. */
export const KEPT = 50;
/** So many reasons are added up: more than a server has, so that a newer one still has room. */
const MAX_REASONS = 100;

/** A line of a list: what happened, at which server, when. */
export interface Entry {
  id: number;
  text: string;
  node: string;
  at: string;
  isBad: boolean;
}

/** How often something was refused for one reason. */
export interface Refused {
  type: string;
  reason: string;
  count: number;
}

const changes: Record<NodeChange["change"], string> = { joined: "joined the cluster", left: "left the cluster", draining: "is about to stop" };

/** What servers have told since this page is open: refusals, added up and the latest of them, and alerts. */
export class Journal {
  readonly #refusals = new Ring<Entry>(KEPT);
  readonly #alerts = new Ring<Entry>(KEPT);
  readonly #reasons = new Map<string, Refused>();
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
  get reasons(): readonly Refused[] {
    return [...this.#reasons.values()].sort((one, other) => other.count - one.count);
  }

  /** Whether a server has said that it is about to stop, and is not gone yet. */
  isDraining(node: string): boolean {
    return this.#draining.has(node);
  }

  follow(line: Pick<Line, "on">, changed: () => void): void {
    const on = <Payload>(name: string, take: (payload: Payload) => void) =>
      line.on(name, ((payload: Payload) => {
        take(payload);
        changed();
      }) as (...args: never[]) => void);
    on("admin:refusals", (told: Refusals) => this.refused(told));
    on("admin:alert", (told: Alert) => this.alerted(told));
    on("admin:node", (told: NodeChange) => this.moved(told));
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

/** `rateLimit` as people write it. */
export function typeInWords(type: string): string {
  return type.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
