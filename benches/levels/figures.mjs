// Counts, second by second, what clients see: connections, writes, deliveries and errors.

/** Returns a share as a percentage with three digits after the point. */
export const percent = (share) => `${(share * 100).toFixed(3)} %`;

/** Returns the value below which this share of the values lies. */
export function quantile(values, share) {
  const sorted = [...values].sort((one, other) => one - other);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0);
}

/** Returns the counts of one second. */
const second = () => ({ written: 0, delivered: 0, sent: 0, refused: 0, givenUp: 0, disconnects: 0, longestReturn: 0 });

/** The counts of all clients. */
export class Levels {
  #begin = performance.now();
  #seconds = [];
  #isCounting = false;
  /** The times of acknowledgements of messages, in milliseconds. */
  acks = [];
  /** The times from a lost connection to the next, in milliseconds. */
  returns = [];
  attempts = { made: 0, succeeded: 0, failed: 0 };
  /**
   * First attempts of new clients: their number, and the times of the successful attempts in
   * milliseconds.
   */
  newcomers = { made: 0, took: [] };
  codes = new Map();
  #clients = 0;
  /** Milliseconds that clients were not connected, all together. */
  #away = 0;

  begin() {
    this.#begin = performance.now();
    this.#seconds = [];
    this.#isCounting = true;
  }

  end() {
    this.length = this.second();
    this.#isCounting = false;
  }

  /** Returns the number of the present second. */
  second() {
    return Math.floor((performance.now() - this.#begin) / 1000);
  }

  #now() {
    return this.#at(this.second());
  }

  #at(number) {
    return (this.#seconds[number] ??= second());
  }

  /** Counts what happens to a socket of the stock client. */
  watch(socket) {
    this.#clients += 1;
    let lostAt;
    const counting = (act) => (...args) => this.#isCounting && act(...args);
    socket.io.on("reconnect_attempt", counting(() => (this.attempts.made += 1)));
    socket.on("connect_error", counting(() => (this.attempts.failed += 1)));
    socket.on("disconnect", counting(() => {
      lostAt = performance.now();
      this.#now().disconnects += 1;
    }));
    socket.on("connect", counting(() => {
      if (lostAt === undefined) return;
      this.attempts.succeeded += 1;
      const took = performance.now() - lostAt;
      lostAt = undefined;
      this.#away += took;
      this.returns.push(took);
      const now = this.#now();
      now.longestReturn = Math.max(now.longestReturn, took);
    }));
    socket.on("message", counting(() => (this.#now().delivered += 1)));
    const emit = socket.emit;
    socket.emit = (event, ...args) => {
      // With `retries`, the client emits what is queued by this method again.
      if (event !== "message" || socket.flags.fromQueue || !this.#isCounting) return emit.call(socket, event, ...args);
      const done = args.pop();
      const began = performance.now();
      this.#now().sent += 1;
      return emit.call(socket, event, ...args, (error, answer) => {
        this.#answered(began, error, answer);
        done(error, answer);
      });
    };
  }

  /** Counts the only attempt of a new client. */
  welcome(socket) {
    if (!this.#isCounting) return socket.disconnect();
    const began = performance.now();
    this.newcomers.made += 1;
    socket.once("connect", () => {
      this.newcomers.took.push(performance.now() - began);
      socket.disconnect();
    });
    socket.once("connect_error", () => socket.disconnect());
  }

  #answered(began, error, answer) {
    if (!this.#isCounting) return;
    const now = this.#now();
    if (error) {
      now.givenUp += 1;
    } else if (answer.success) {
      now.written += 1;
      this.acks.push(performance.now() - began);
    } else {
      now.refused += 1;
      this.codes.set(answer.error.code, (this.codes.get(answer.error.code) ?? 0) + 1);
    }
  }

  /** Returns the sums of the seconds from the first number up to the second, without that. */
  window(from, to) {
    const sums = { ...second(), seconds: to - from, unavailable: 0, longestWithoutWrite: 0 };
    let without = 0;
    for (let number = from; number < to; number++) {
      const counts = this.#at(number);
      for (const [name, count] of Object.entries(counts)) {
        sums[name] = name === "longestReturn" ? Math.max(sums[name], count) : sums[name] + count;
      }
      if (counts.written === 0 || counts.delivered === 0) sums.unavailable += 1;
      without = counts.written === 0 ? without + 1 : 0;
      sums.longestWithoutWrite = Math.max(sums.longestWithoutWrite, without);
    }
    return sums;
  }

  /** Returns the figures of the whole run by their names. */
  summary() {
    const sums = this.window(0, this.length);
    const { made, succeeded, failed } = this.attempts;
    const ends = sums.written + sums.refused + sums.givenUp;
    const share = (part, whole) => percent(whole === 0 ? 1 : part / whole);
    const inTime = (limit) => this.acks.filter((took) => took <= limit).length;
    return {
      "seconds with a stored message and a delivery (availability)": `${share(sums.seconds - sums.unavailable, sums.seconds)} of ${sums.seconds}`,
      "time that clients were connected": share(1000 * this.#clients * sums.seconds - this.#away, 1000 * this.#clients * sums.seconds),
      "first attempts of new clients, one each second: success": `${share(this.newcomers.took.length, this.newcomers.made)} of ${this.newcomers.made}`,
      "their time until they were connected, p50, p99, max ms": [0.5, 0.99, 1].map((part) => quantile(this.newcomers.took, part)).join(", "),
      "connections lost, returned": `${sums.disconnects}, ${this.returns.length}`,
      "time until a lost connection returned, p50, p99, max ms": [0.5, 0.99, 1].map((part) => quantile(this.returns, part)).join(", "),
      "attempts to reconnect, failed": `${made}, ${failed}`,
      "success of attempts to reconnect": share(succeeded, Math.max(made, succeeded)),
      "requests to send a message": sums.sent,
      "answered with an error, given up after retries (error rate)": `${sums.refused}, ${sums.givenUp} (${share(sums.refused + sums.givenUp, ends)})`,
      "codes of the errors": [...this.codes].map(([code, count]) => `${code} ${count}`).join(", ") || "none",
      "acknowledged within 1 s, within 5 s": `${share(inTime(1000), ends)}, ${share(inTime(5000), ends)}`,
      "acknowledgement p50, p99 ms": [0.5, 0.99].map((part) => quantile(this.acks, part)).join(", "),
      "deliveries to other members": sums.delivered,
    };
  }
}
