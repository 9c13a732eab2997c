/** A log entry for troubleshooting. It contains neither credentials nor contents. */
export interface LogEntry {
  /** RFC 3339, by the clock of this machine. */
  readonly at: string;
  /** Such as `status`, `refreshed`, `hole`, `retry`. */
  readonly what: string;
  readonly detail: string;
}

export type Note = (what: string, detail?: string) => void;
