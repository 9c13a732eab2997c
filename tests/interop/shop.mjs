// The shop of examples/orders: a Roomcast server, the backend, and pages of its users in Chromium.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startLink } from "./link.mjs";
import { keyed } from "./people.mjs";
import { lastingPort, launch, until, within } from "./processes.mjs";
import { startServer, temporary } from "./support.mjs";
import { Visitor } from "./visitor.mjs";

/** The example, with the working directory of its programs. */
export const folder = fileURLToPath(new URL("../../examples/orders", import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("../../target", import.meta.url));
export const python = join(target, "tools/python/bin/python");
// The paths of the configuration file begin at the working directory of the server.
process.chdir(folder);

export const DESK = { width: 1280, height: 800 };

/** The page of a user. */
class Page extends Visitor {
  /** What the page and Roomcast have sent each other over WebSocket or polling, as texts. */
  sent = [];
  received = [];
  connections = 0;

  constructor(context, page, link) {
    super(context, page, link);
    const isPoll = (request) => request.url().includes("transport=polling");
    page.on("request", (request) => isPoll(request) && this.sent.push(request.postData() ?? ""));
    // A connection begins with polling, also for the first answers if its upgrade takes longer.
    page.on("response", async (response) => {
      if (!isPoll(response.request())) return;
      const text = await response.text().catch(() => ""); // The page may be closed by now.
      this.received.push(text);
    });
    page.on("websocket", (socket) => {
      this.connections += 1;
      socket.on("framesent", ({ payload }) => this.sent.push(String(payload)));
      socket.on("framereceived", ({ payload }) => this.received.push(String(payload)));
    });
  }

  order(number) {
    return this.page.locator("article").filter({ has: this.page.getByRole("heading", { name: new RegExp(`^${number}\\.`) }) });
  }

  /** Returns the changes of an order, as they are listed. */
  changes(number) {
    return this.order(number).locator("li").allTextContents();
  }

  /** Waits for the last change, and expects exactly these. */
  async hasChanges(number, expected) {
    let shown;
    const isLast = async () => (shown = await this.changes(number)).at(-1) === expected.at(-1);
    await until(isLast, () => `${expected.at(-1)} after ${JSON.stringify(shown?.slice(-3))}`);
    assert.deepEqual(shown, expected);
  }

  async isLive() {
    await this.page.getByRole("status", { name: "Connection" }).getByText("Live", { exact: true }).waitFor();
  }

  async isOffline() {
    await this.page.getByText("Offline, trying again…").waitFor();
  }

  /** Asserts that the page had no faults, except that its user was not signed in at first. */
  hasNoComplaints() {
    assert.deepEqual(this.complaints.filter((text) => !text.includes("status of 401")), []);
  }
}

/** Starts everything but the browser. `env` is for both programs. */
export async function openShop(t, browser, env = {}) {
  const data = temporary();
  const [port, backendPort] = [await lastingPort(), await lastingPort()];
  const url = `http://127.0.0.1:${backendPort}`;
  const variables = {
    ...keyed,
    ROOMCAST_LISTEN: `127.0.0.1:${port}`,
    ROOMCAST_CONFIG: "roomcast.toml",
    ROOMCAST_STORE: `sqlite:${join(data, "roomcast.db")}`,
    ALLOWED_ORIGINS: url,
    ...env,
  };
  let server = await startServer(variables);
  /** The networks between the pages and Roomcast, and between the backend and Roomcast. */
  const [link, backendLink] = [await startLink(server.url), await startLink(server.url)];
  const database = join(data, "orders.db");
  const startBackend = async () => {
    const program = launch(python, ["-m", "uvicorn", "backend:app", "--port", `${backendPort}`, "--no-access-log"], {
      cwd: folder,
      env: {
        ...keyed,
        ORDERS_SESSION_SECRET: "another secret of at least thirty-two bytes",
        ORDERS_ROOMCAST_URL: backendLink.url,
        ORDERS_PUBLIC_URL: link.url,
        ORDERS_DATABASE: database,
        PYTHONDONTWRITEBYTECODE: "1",
        ...env,
      },
    });
    await program.found((line) => /Uvicorn running/.exec(line)?.[0], "listen");
    return program;
  };
  let backend = await startBackend();
  t.after(async () => {
    link.close();
    backendLink.close();
    for (const program of [backend, server]) {
      await program.stop("SIGKILL");
      if (t.error) for (const line of program.output().split("\n").slice(-20)) t.diagnostic(line);
    }
  });

  /** Signs a user in at the backend, and returns a function that calls it. */
  const signIn = async (user) => {
    const call = (cookie) => async (method, path, body) => {
      const headers = { cookie, "content-type": "application/json" };
      const response = await within(fetch(url + path, { method, headers, body: JSON.stringify(body) }), `the answer to ${path}`);
      return { status: response.status, headers: response.headers, body: response.status === 204 ? undefined : await response.json() };
    };
    const { status, headers } = await call("")("POST", "/login", { user, password: "demo" });
    assert.equal(status, 204);
    return call(headers.get("set-cookie").split(";")[0]);
  };

  return {
    link,
    backendLink,
    database,
    signIn,
    url: () => server.url,
    store: join(data, "roomcast.db"),
    /** Kills Roomcast, and returns what starts it again. */
    async kill() {
      await server.stop("SIGKILL");
      return async () => (server = await startServer(variables));
    },
    async restartBackend() {
      await backend.stop("SIGKILL");
      backend = await startBackend();
    },
    /** Opens the page, and signs a user in. The page runs `script` first. */
    async visit(user, { path = "/", script = () => {} } = {}) {
      const context = await browser.newContext({ viewport: DESK });
      t.after(() => context.close());
      await context.addInitScript(script);
      const visitor = new Page(context, await context.newPage(), link);
      await visitor.page.goto(url + path);
      await visitor.page.getByLabel("User").fill(user);
      await visitor.page.getByLabel("Password").fill("demo");
      await visitor.page.getByRole("button", { name: "Sign in" }).click();
      await visitor.page.getByRole("button", { name: "Sign out" }).waitFor();
      return visitor;
    },
  };
}

/** Runs a statement in a SQLite database, and returns its rows. */
export function sql(database, statement) {
  const program =
    "import json, sqlite3, sys; d = sqlite3.connect(sys.argv[1], 30); " +
    "rows = d.execute(sys.argv[2]).fetchall(); d.commit(); print(json.dumps(rows))";
  return JSON.parse(execFileSync("python3", ["-c", program, database, statement], { encoding: "utf8" }));
}

/** Places an order of anna, and ships it. Returns its number, and the changes so far. */
export async function ship(shop) {
  const [anna, sam] = [await shop.signIn("anna"), await shop.signIn("sam")];
  const { body } = await anna("POST", "/orders", { item: "Lamp" });
  assert.equal((await sam("POST", `/orders/${body.id}/ship`)).status, 200);
  const changes = ["Placed", "Shipped"];
  let scans = 0;
  return {
    number: body.id,
    /** All changes until now, as pages list them. */
    changes,
    /** Changes the order so many times. */
    async scan(times = 1) {
      for (let n = 0; n < times; n++) {
        const place = `depot ${++scans}`;
        assert.equal((await sam("POST", `/orders/${body.id}/scan`, { place })).status, 200);
        changes.push(`Shipped, now in ${place}`);
      }
    },
  };
}
