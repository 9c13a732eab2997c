/** What happened, for whoever has to find out why something did not. Neither credentials nor contents are in it. */
export interface LogEntry {
  /** By the clock of this machine, RFC 3339. */
  readonly at: string;
  /** Such as `status`, `refreshed`, `hole`, `retry`. */
  readonly what: string;
  readonly detail: string;
}

export type Note = (what: string, detail?: string) => void;

/** The newest entries; older ones are forgotten. */
export class EventLog {
  #entries: LogEntry[] = [];
  readonly #size: number;
  readonly #added: (entry: LogEntry) => void;

  constructor(size: number, added: (entry: LogEntry) => void) {
    this.#size = size;
    this.#added = added;
  }

  get entries(): readonly LogEntry[] {
    return this.#entries;
  }

  readonly note: Note = (what, detail = "") => {
    const entry = { at: new Date().toISOString(), what, detail };
    this.#entries = [...this.#entries, entry].slice(-this.#size);
    this.#added(entry);
  };
}
