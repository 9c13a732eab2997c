import type { SocketManager } from "../../packages/client/src/index.ts";
import type { Inbox } from "../model/inbox.ts";
import { type ListView, Unjoined } from "../model/unjoined.ts";

/** Returns the newest messages of the conversations that are not joined, for the list on the screen. */
export function watchUnjoined(connection: SocketManager, inbox: Inbox, changed: () => void): Unjoined {
  return new Unjoined(connection, inbox, listView, changed);
}

const listView: ListView = {
  isHidden: () => document.hidden,
  inView() {
    const list = listOf();
    if (list === undefined) return [];
    const { top, bottom } = list.getBoundingClientRect();
    const isInView = (row: Element) => {
      const rect = row.getBoundingClientRect();
      return rect.bottom > top && rect.top < bottom;
    };
    return [...list.querySelectorAll<HTMLElement>("[data-conversation]")].filter(isInView).map(({ dataset }) => dataset["conversation"] ?? "");
  },
  isInUse() {
    const list = listOf();
    return list !== undefined && (list.scrollTop > 0 || list.matches(":hover, :focus-within"));
  },
};

function listOf(): Element | undefined {
  return document.querySelector(".conversations") ?? undefined;
}
