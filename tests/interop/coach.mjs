// The coach of the examples, and a model for it that a test controls.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./support.mjs";
import { token } from "./tokens.mjs";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
/** The example. */
export const folder = join(root, "examples/coach");
export const python = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "tools/python/bin/python");

/** Starts the coach, and waits until it is in its conversations. */
export async function startCoach(t, url, env = {}) {
  const COACH_TOKEN = token({ sub: "coach", name: "Coach", roles: ["ai"] });
  const child = spawn(python, [join(folder, "coach.py")], {
    env: { ...process.env, COACH_URL: url, COACH_TOKEN, PYTHONUNBUFFERED: "1", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data));
  t.after(() => {
    child.kill();
    if (t.error) t.diagnostic(output);
  });
  await until(() => output.includes("answers as coach"), () => `the coach: ${output}`);
}

/** Starts an endpoint with the API of OpenAI, whose answers the test writes. */
export async function startModel(t) {
  const answers = [];
  const http = createServer((request, response) => {
    request.resume();
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.flushHeaders();
    const answer = {
      isClosed: false,
      say: (content) => response.write(`data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`),
      end: () => response.end("data: [DONE]\n\n"),
    };
    response.once("close", () => (answer.isClosed = true));
    answers.push(answer);
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  t.after(() => {
    http.closeAllConnections();
    http.close();
  });
  /** Waits for the question with this number. */
  const asked = async (number) => {
    await until(() => answers.length === number, `question ${number}`);
    return answers[number - 1];
  };
  return { url: `http://127.0.0.1:${http.address().port}/v1`, asked };
}
