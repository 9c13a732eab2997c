/** What the server numbers: a snapshot, and updates with larger numbers than all before. */
export class Journal {
  #revision = -1;

  /** Whether a snapshot was taken, on this connection or an earlier one. */
  get isKnown(): boolean {
    return this.#revision >= 0;
  }

  /** A snapshot in its place among the updates: whatever was before it, it is what counts from here on. */
  begin(revision: number): void {
    this.#revision = revision;
  }

  /** Whether an update is newer than all that was taken. One that comes late is not, nor is one that comes again. */
  take(revision: number): boolean {
    if (!this.isKnown || revision <= this.#revision) return false;
    this.#revision = revision;
    return true;
  }
}
