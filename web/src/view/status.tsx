import type { Status as State } from "../../packages/client/src/index.ts";
import type { App } from "../app.ts";
import { explain } from "../words/failure.ts";

/** The state of the connection, with the transport in the tooltip. */
export function Status({ status }: { status: State }) {
  const isSlow = status.state === "online" && status.slow === true;
  const label = isSlow ? "The server is slow…" : status.state === "offline" && !navigator.onLine ? "Offline" : labels[status.state];
  const title = "transport" in status ? `${label.replace("…", "")} over ${transportName(status.transport)}` : label;
  return (
    <p class="status" role="status" aria-label="Connection" data-state={status.state} data-slow={isSlow ? "" : undefined} title={title}>
      <span class="status-dot" aria-hidden="true" />
      <span class="status-label">{label}</span>
    </p>
  );
}

/** A bar with an action, if the connection or the session needs one. */
export function StatusBar({ app }: { app: App }) {
  const { status, visit } = app;
  const warning = status.state === "online" ? (visit?.warning ?? "") : "";
  const [text, action] = warning === "" ? barOf(status) : [warning, "Sign in"];
  return (
    <div class="bar" role="alert" hidden={text === ""}>
      <span>{text}</span>
      {action !== "" && (
        <button class="button" type="button" onClick={() => (warning ? app.show("renew") : app.retry())}>
          {action}
        </button>
      )}
    </div>
  );
}

const labels: Record<State["state"], string> = {
  idle: "Connecting…",
  connecting: "Connecting…",
  online: "Connected",
  unresponsive: "Not responding…",
  offline: "Reconnecting…",
  refused: "Refused",
  closed: "Disconnected",
};

function barOf(status: State): [text: string, action: string] {
  switch (status.state) {
    case "idle":
    case "connecting":
    case "online":
    case "unresponsive":
      return ["", ""];
    case "offline":
      return navigator.onLine
        ? ["The server is unreachable. What you write will be sent after the reconnect.", "Try now"]
        : ["Your browser is offline. What you write will be sent after the reconnect.", ""];
    case "refused":
      return [explain(status.failure), "Try again"];
    case "closed":
      return ["The server closed this connection.", "Connect again"];
  }
}

function transportName(transport: string): string {
  return transport === "websocket" ? "WebSocket" : transport;
}
