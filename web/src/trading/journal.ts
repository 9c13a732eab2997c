/** Tracks the revisions of a snapshot and its updates. */
export class Journal {
  #revision = -1;

  /** Whether a snapshot was taken, on this connection or an earlier one. */
  get isKnown(): boolean {
    return this.#revision >= 0;
  }

  /**
   * Takes the revision of a snapshot, which replaces all earlier state, even if its revision is
   * lower.
   */
  begin(revision: number): void {
    this.#revision = revision;
  }

  /**
   * Takes the revision of an update. Returns whether it is newer than all before, and not late or
   * repeated.
   */
  take(revision: number): boolean {
    if (!this.isKnown || revision <= this.#revision) return false;
    this.#revision = revision;
    return true;
  }
}
