import { type RequestError, asFailure } from "./failure.ts";
import { Pause, pauseAfter } from "./time.ts";

/** Something that is tried until it has worked, with pauses between, as long as nobody ends it or begins anew. */
export class Effort {
  #round = 0;
  readonly #pause = new Pause();

  /**
   * Calls `attempt` until it resolves, or until `goesOn` says of its failure that another attempt makes no sense.
   * After every wait in it, `isCurrent` says whether the rest is still wanted.
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
      await this.#pause.for(pauseAfter(tries, failure.retryAfter));
    }
  }

  end(): void {
    this.#round += 1;
    this.#pause.end();
  }
}
