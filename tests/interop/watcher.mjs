// A thread that reads a row of a server's metrics again and again, until it is told to stop or the server is gone. It has an event
// loop of its own, because that of a test with hundreds of clients may stand still for seconds.
import { setTimeout as sleep } from "node:timers/promises";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { metric, within } from "./support.mjs";

/** Reads a row until `values` is asked for, which are those that were read, without repetitions in a row. */
export function watch(url, row) {
  const worker = new Worker(new URL(import.meta.url), { workerData: { url, row } });
  const values = new Promise((done) => worker.once("message", done));
  return {
    values() {
      worker.postMessage("stop");
      return within(values, "the values of a metric");
    },
  };
}

if (!isMainThread) {
  const values = [];
  let isOver = false;
  parentPort.once("message", () => (isOver = true));
  while (!isOver) {
    const value = await metric(workerData.url, workerData.row).catch(() => undefined);
    if (value === undefined) break;
    if (value !== values.at(-1)) values.push(value);
    await sleep(20); // Between two looks.
  }
  parentPort.postMessage(values);
}
