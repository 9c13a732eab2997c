/** The share of the time in which growing text may be drawn. */
const SHARE = 1 / 6;
/** Maximum time in milliseconds between two drawings of a growing text. */
const MAX_PAUSE = 250;

/**
 * Decides when growing text is drawn: immediately on a fast machine, and less often where a drawing
 * takes long, so that reading and scrolling stay smooth. It knows nothing of what is drawn.
 */
export class Pace {
  #end = -Infinity;
  #cost = 0;

  /** Records when a drawing began and when its frame was painted. */
  note(start: number, end: number): void {
    this.#end = end;
    this.#cost = end - start;
  }

  /** Returns the milliseconds from `now` until the next drawing. */
  pause(now: number): number {
    const pause = Math.min(this.#cost * (1 / SHARE - 1), MAX_PAUSE);
    return Math.max(0, this.#end + pause - now);
  }
}
