// The coach of the examples, and a model for it that a test controls.
import { once } from "node:events";
import { createServer } from "node:http";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { launch, until } from "./processes.mjs";
import { token } from "./tokens.mjs";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
/** The example. */
export const folder = join(root, "examples/coach");
export const python = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "tools/python/bin/python");

/** Starts the coach, and returns its program and a function that requests its health. */
export async function launchCoach(t, url, env = {}) {
  const COACH_TOKEN = token({ sub: "coach", name: "Coach", roles: ["ai"] });
  const program = launch(python, ["-m", "uvicorn", "coach:app", "--port", "0"], {
    cwd: folder,
    env: { COACH_URL: url, COACH_TOKEN, PYTHONUNBUFFERED: "1", PYTHONDONTWRITEBYTECODE: "1", ...env },
  });
  t.after(async () => {
    await program.stop("SIGKILL");
    if (t.error) t.diagnostic(program.output());
  });
  const address = await program.found((line) => /running on (\S+)/.exec(line)?.[1], "listen");
  const health = async () => {
    const response = await fetch(`${address}/health`);
    return { status: response.status, ...(await response.json()) };
  };
  return { program, health };
}

/** Starts the coach, and waits until it is in its conversations. */
export async function startCoach(t, url, env) {
  const coach = await launchCoach(t, url, env);
  await until(() => coach.program.output().includes("answers as coach"), () => `the coach: ${coach.program.output()}`);
  return coach;
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
    await until(() => answers.length >= number, `question ${number}`);
    return answers[number - 1];
  };
  return { url: `http://127.0.0.1:${http.address().port}/v1`, asked };
}
