import type { Status } from "../../packages/client/src/index.ts";
import { explain } from "../failure.ts";
import { element, setText } from "./dom.ts";

/** How the connection is doing: a word in the header, and a bar when there is something to do. */
export class StatusView {
  readonly badge: HTMLElement;
  readonly bar: HTMLElement;
  readonly #label = element("span", { class: "status-label" });
  readonly #transport = element("span", { class: "status-transport" });
  readonly #text = element("span", {});
  readonly #retry: HTMLButtonElement;

  constructor(retry: () => void) {
    this.badge = element(
      "p",
      { class: "status", role: "status", "aria-label": "Connection" },
      element("span", { class: "status-dot", "aria-hidden": "true" }),
      this.#label,
      this.#transport,
    );
    this.#retry = element("button", { class: "button", type: "button" });
    this.#retry.addEventListener("click", retry);
    this.bar = element("div", { class: "bar", role: "alert", hidden: true }, this.#text, this.#retry);
  }

  render(status: Status): void {
    this.badge.dataset["state"] = status.state;
    setText(this.#label, labels[status.state]);
    const transport = "transport" in status ? transportName(status.transport) : "";
    setText(this.#transport, transport);
    this.badge.title = status.state === "online" ? `${labels.online} over ${transport}` : labels[status.state];
    const [text, action] = barOf(status);
    this.bar.hidden = text === "";
    setText(this.#text, text);
    setText(this.#retry, action);
  }
}

const labels: Record<Status["state"], string> = {
  idle: "Connecting…",
  connecting: "Connecting…",
  online: "Connected",
  unresponsive: "Not answering…",
  offline: "Reconnecting…",
  refused: "Refused",
  closed: "Disconnected",
};

function barOf(status: Status): [text: string, action: string] {
  switch (status.state) {
    case "idle":
    case "connecting":
    case "online":
    case "unresponsive":
      return ["", ""];
    case "offline":
      return ["The server cannot be reached. What you write is sent once it is back.", "Try now"];
    case "refused":
      return [explain(status.failure), "Try again"];
    case "closed":
      return ["The server closed this connection.", "Connect again"];
  }
}

function transportName(transport: string): string {
  return transport === "websocket" ? "WebSocket" : transport;
}
