import { type RequestError, asFailure } from "./failure.ts";
import { Delay, retryDelay } from "./time.ts";

/**
 * Repeats an operation with increasing delays until it succeeds, is stopped or is started again.
 */
export class Effort {
  #round = 0;
  readonly #delay = new Delay();

  /**
   * Calls `attempt` until it resolves, or until `goesOn` returns false for its failure. `attempt`
   * checks `isCurrent` after every wait: it returns false after `end` or another `begin`.
   */
  async begin(
    attempt: (isCurrent: () => boolean) => Promise<void>,
    goesOn: (failure: RequestError) => boolean,
  ): Promise<void> {
    this.end();
    const round = this.#round;
    const isCurrent = () => round === this.#round;
    for (let tries = 1; isCurrent(); tries += 1) {
      const failure = await attempt(isCurrent).then(() => undefined, asFailure);
      if (failure === undefined || !isCurrent() || !goesOn(failure)) return;
      await this.#delay.for(retryDelay(tries, failure.retryAfter));
    }
  }

  end(): void {
    this.#round += 1;
    this.#delay.end();
  }
}
