import { SocketManager } from "../packages/client/src/index.ts";
import { Conversation } from "./conversation.ts";
import { explain } from "./failure.ts";
import { guestKey, storeName, storedName } from "./identity.ts";
import { Chat } from "./view/chat.ts";
import { entryPage, renameDialog } from "./view/entry.ts";
import { applyTheme } from "./view/theme.ts";

const LOBBY = "00000000-0000-4000-8000-000000000001";

function socketPath(): string {
  return document.querySelector<HTMLMetaElement>("meta[name=socket-path]")?.content ?? "/socket.io/";
}

/** `?transport=polling` or `?transport=websocket` keeps to one transport. */
function wantedTransport(): "polling" | "websocket" | undefined {
  const wanted = new URLSearchParams(location.search).get("transport");
  return wanted === "polling" || wanted === "websocket" ? wanted : undefined;
}

function show(node: HTMLElement): void {
  document.querySelector("#app")?.replaceChildren(node);
}

function enter(name: string): void {
  const key = guestKey();
  const transport = wantedTransport();
  const manager = new SocketManager(undefined, {
    auth: { name, guestKey: key },
    // Who has the key is the same guest, so that what waits may be sent after a reload and by any tab.
    identity: key,
    socket: { path: socketPath(), ...(transport !== undefined && { transports: [transport] }) },
  });
  const conversation = new Conversation(LOBBY, manager, {
    changed: () => chat.schedule(),
    announce: (text) => chat.announce(text),
    notice: (text) => chat.notice(text),
  });
  const chat = new Chat(manager, conversation, () => {
    // The server learns a name when we connect, so the page begins anew; messages on their way are kept.
    renameDialog(name, (chosen) => {
      storeName(chosen);
      location.reload();
    });
  });
  for (const name of ["status", "session"] as const) manager.watch(name, () => chat.schedule());
  manager.on("error", (error) => {
    // Typing comes back by itself; nobody needs to read about it.
    if (error.event !== "typing") chat.notice(explain(error));
  });
  show(chat.node);
  chat.start();
  manager.open();
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
