import { Connection } from "./connection.ts";
import { Conversation } from "./conversation.ts";
import { explain } from "./failure.ts";
import { guestKey, storeName, storedName } from "./identity.ts";
import { parseDrafts } from "./outbox.ts";
import { tab } from "./storage.ts";
import { Chat } from "./view/chat.ts";
import { entryPage, renameDialog } from "./view/entry.ts";
import { applyTheme } from "./view/theme.ts";

const LOBBY = "00000000-0000-4000-8000-000000000001";
const DRAFTS = "roomcast.drafts";

function socketPath(): string {
  return document.querySelector<HTMLMetaElement>("meta[name=socket-path]")?.content ?? "/socket.io/";
}

/** `?transport=polling` or `?transport=websocket` keeps to one transport. */
function wantedTransport(): string | undefined {
  return new URLSearchParams(location.search).get("transport") ?? undefined;
}

function show(node: HTMLElement): void {
  document.querySelector("#app")?.replaceChildren(node);
}

function enter(name: string): void {
  const connection = new Connection({ path: socketPath(), name, guestKey: guestKey(), transport: wantedTransport() });
  const conversation = new Conversation(LOBBY, connection, parseDrafts(tab.get(DRAFTS)), {
    changed: () => chat.schedule(),
    announce: (text) => chat.announce(text),
    notice: (text) => chat.notice(text),
    keep: (drafts) => tab.set(DRAFTS, JSON.stringify(drafts)),
  });
  const chat = new Chat(connection, conversation, () => {
    // The server learns a name when we connect, so the page begins anew; messages on their way are kept.
    renameDialog(name, (chosen) => {
      storeName(chosen);
      location.reload();
    });
  });
  connection.changed = () => chat.schedule();
  connection.on("session", () => void conversation.enter());
  connection.on("error", (error) => {
    // Typing comes back by itself; nobody needs to read about it.
    if (error.event !== "typing") chat.notice(explain(error));
  });
  window.addEventListener("online", () => connection.retry());
  show(chat.node);
  chat.start();
  connection.open();
}

applyTheme();
const name = storedName();
if (name !== undefined) {
  enter(name);
} else {
  const page = entryPage((chosen) => {
    storeName(chosen);
    enter(chosen);
  });
  show(page);
  page.querySelector("input")?.focus();
}
