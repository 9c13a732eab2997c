import type { SystemLine } from "../activity.ts";
import type { Draft } from "../draft.ts";
import { isGuest } from "../identity.ts";
import { webAddress } from "../text.ts";
import { clockTime, exactTime } from "../time.ts";
import type { Message } from "../types.ts";
import { avatar } from "./avatar.ts";
import { element, spoken } from "./dom.ts";
import { type IconName, icon } from "./icons.ts";
import type { Row } from "./rows.ts";

/** What the lines of a conversation can ask for. */
export interface LineActions {
  sendAgain(clientMessageId: string): void;
  discard(clientMessageId: string): void;
}

/** What a row looks like, as a text: the line is built anew when it changes. */
export function appearance(row: Row): string {
  switch (row.kind) {
    case "day":
      return row.label;
    case "unread":
    case "system":
      return row.key;
    case "message":
      return [row.message.version, row.message.deletedAt, row.isOwn, row.startsGroup, row.endsGroup].join("|");
    case "draft":
      return [row.draft.delivery.state, row.startsGroup].join("|");
  }
}

export function line(row: Row, actions: LineActions): HTMLElement {
  switch (row.kind) {
    case "day":
      return element("li", { class: "day" }, element("span", {}, row.label));
    case "unread":
      return element("li", { class: "unread" }, element("span", {}, "New messages"));
    case "system":
      return systemLine(row.line);
    case "message":
      return row.isOwn ? ownLine(row) : otherLine(row);
    case "draft":
      return draftLine(row.draft, row.startsGroup, actions);
  }
}

type MessageRow = Extract<Row, { kind: "message" }>;

function systemLine({ text, timestamp }: SystemLine): HTMLElement {
  return element("li", { class: "system" }, element("span", {}, text), " ", time(timestamp));
}

function otherLine({ message, startsGroup }: MessageRow): HTMLElement {
  const { id, seq, userId, userName, type, createdAt } = message;
  const author = element("span", { class: "author" }, userName);
  const tag = type === "ai" ? "AI" : isGuest(userId) ? "guest" : undefined;
  const head = startsGroup
    ? element("p", { class: "head" }, author, tag && element("span", { class: "tag" }, tag), time(createdAt))
    : spoken(tag === "guest" ? `${userName}, guest: ` : `${userName}: `);
  return element(
    "li",
    { class: startsGroup ? "message is-start" : "message", "data-id": id, "data-seq": String(seq) },
    startsGroup ? avatar(userId, userName) : undefined,
    element("div", { class: "stack" }, head, bubble(message)),
  );
}

function ownLine({ message, startsGroup, endsGroup }: MessageRow): HTMLElement {
  const { id, seq, createdAt } = message;
  return element(
    "li",
    {
      class: startsGroup ? "message is-own is-start" : "message is-own",
      "data-id": id,
      "data-seq": String(seq),
      "data-state": "stored",
    },
    element(
      "div",
      { class: "stack" },
      spoken("You: "),
      bubble(message),
      endsGroup ? element("p", { class: "foot", title: "Stored by the server" }, time(createdAt), icon("check"), spoken("stored")) : undefined,
    ),
  );
}

function draftLine({ clientMessageId, content, delivery }: Draft, startsGroup: boolean, actions: LineActions): HTMLElement {
  const { state } = delivery;
  const foot = element("p", { class: "foot" }, icon(stateIcons[state]), stateWords[state]);
  const stack = element("div", { class: "stack" }, spoken("You: "), element("p", { class: "bubble" }, content), foot);
  if (delivery.state === "failed") {
    foot.append(delivery.reason);
    stack.append(
      element(
        "div",
        { class: "actions" },
        action("Send again", () => actions.sendAgain(clientMessageId)),
        action("Discard", () => actions.discard(clientMessageId)),
      ),
    );
  }
  return element(
    "li",
    { class: startsGroup ? "message is-own is-start" : "message is-own", "data-state": state },
    stack,
  );
}

const stateWords: Record<Draft["delivery"]["state"], string> = {
  waiting: "Waiting for the connection…",
  held: "Waiting, this server is not that fast…",
  sending: "Sending…",
  unconfirmed: "Not confirmed yet, trying again…",
  failed: "",
};

const stateIcons: Record<Draft["delivery"]["state"], IconName> = {
  waiting: "clock",
  held: "clock",
  sending: "clock",
  unconfirmed: "clock",
  failed: "alert",
};

function bubble({ content, metadata, editedAt, deletedAt }: Message): HTMLElement {
  if (deletedAt) return element("p", { class: "bubble is-deleted" }, "This message was deleted.");
  const node = element("p", { class: "bubble" }, content);
  const address = webAddress(metadata?.imageUrl);
  if (address !== undefined) node.append(imageLink(address));
  if (editedAt) node.append(element("span", { class: "edited", title: exactTime(editedAt) }, "edited"));
  return node;
}

function imageLink(href: string): HTMLElement {
  const attributes = { class: "image-link", href, target: "_blank", rel: "noopener noreferrer nofollow" };
  return element("a", attributes, icon("link"), `Image on ${new URL(href).host}`, spoken(" (opens in a new tab)"));
}

function time(timestamp: string): HTMLElement {
  return element("time", { datetime: timestamp, title: exactTime(timestamp) }, clockTime(timestamp));
}

function action(text: string, run: () => void): HTMLElement {
  const button = element("button", { class: "link-button", type: "button" }, text);
  button.addEventListener("click", run);
  return button;
}
