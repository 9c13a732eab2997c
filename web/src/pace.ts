/** The share of the time in which growing text may be drawn. */
const SHARE = 1 / 8;
/** Maximum time in milliseconds between two drawings of a growing text. */
const MAX_PAUSE = 250;

/**
 * Decides when growing text is drawn: immediately on a fast machine, and less often where a drawing
 * takes long, so that reading and scrolling stay smooth. It knows nothing of what is drawn.
 */
export class Pace {
  #end = -Infinity;
  #cost = 0;

  /** Records when the frame of a drawing was painted, and the milliseconds that both took. */
  note(end: number, cost: number): void {
    this.#end = end;
    this.#cost = cost;
  }

  /** Returns the milliseconds from `now` until the next drawing. */
  pause(now: number): number {
    const pause = Math.min(this.#cost * (1 / SHARE - 1), MAX_PAUSE);
    return Math.max(0, this.#end + pause - now);
  }
}
