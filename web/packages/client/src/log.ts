/** What happened, for whoever has to find out why something did not. Neither credentials nor contents are in it. */
export interface LogEntry {
  /** By the clock of this machine, RFC 3339. */
  readonly at: string;
  /** Such as `status`, `refreshed`, `hole`, `retry`. */
  readonly what: string;
  readonly detail: string;
}

export type Note = (what: string, detail?: string) => void;
