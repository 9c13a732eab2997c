import type { Entry } from "./queue.ts";
import { trim } from "../time.ts";
import type { MessageDelivered } from "../types.ts";

/** Maximum number of entries and of reports. The oldest are evicted. */
const MAX = 1_000;

/** Matches stored messages with the server's delivery reports, in either order of arrival. */
export class Confirmations {
  readonly #entries = new Map<string, Entry>();
  readonly #reports = new Map<string, MessageDelivered>();
  readonly #delivered: (entry: Entry, report: MessageDelivered) => void;

  constructor(delivered: (entry: Entry, report: MessageDelivered) => void) {
    this.#delivered = delivered;
  }

  handleStored(messageId: string, entry: Entry): void {
    this.#match(messageId, this.#entries, entry);
  }

  handleReport(report: MessageDelivered): void {
    this.#match(report.messageId, this.#reports, report);
  }

  #match<Half>(messageId: string, halves: Map<string, Half>, half: Half): void {
    halves.set(messageId, half);
    trim(halves, MAX);
    const [entry, report] = [this.#entries.get(messageId), this.#reports.get(messageId)];
    if (entry === undefined || report === undefined) return;
    this.#entries.delete(messageId);
    this.#reports.delete(messageId);
    this.#delivered({ ...entry, state: "delivered" }, report);
  }
}
