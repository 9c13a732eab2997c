// Publishes signals to a feed: one JSON object a line from standard input, each once, however often
// it has to be sent.
//
//   TOKEN=$(roomcast token --sub desk --role service) \
//     node publish.mjs http://localhost:3000 < signals.jsonl
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const [url = "http://localhost:3000"] = process.argv.slice(2);

/**
 * Publishes a signal; again after whatever may pass, under the same key and id, so that it is
 * published once.
 */
async function publish(signal) {
  for (let pause = 500; ; pause = Math.min(2 * pause, 30_000)) {
    let wait = pause;
    try {
      const response = await fetch(`${url}/api/v1/emit`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${process.env.TOKEN}`,
          "content-type": "application/json",
          "idempotency-key": `signal-${signal.signalId}`,
        },
        body: JSON.stringify({ event: "signal:new", everyone: true, args: [signal] }),
        signal: AbortSignal.timeout(15_000),
      });
      const answer = await response.json();
      if (response.ok) return answer.published;
      // What is wrong stays wrong; what is busy does not.
      const mayPass = response.status >= 500 || [408, 429].includes(response.status) || answer.error.retryAfter;
      if (!mayPass) throw Object.assign(new Error(answer.error.message), { isFinal: true });
      wait = answer.error.retryAfter ?? pause;
    } catch (error) {
      if (error.isFinal) throw error;
      console.error(`${signal.signalId}: ${error.message}, trying again`);
    }
    await sleep(wait);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  if (!line.trim()) continue;
  const signal = JSON.parse(line);
  try {
    const { signalId, timestamp } = await publish(signal);
    console.log(`published ${signalId} at ${timestamp}`);
  } catch (error) {
    console.error(`${signal.signalId}: ${error.message}`);
    process.exitCode = 1;
  }
}
