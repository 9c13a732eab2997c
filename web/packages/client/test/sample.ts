// Code of an application, compiled in strict mode by `package.test.ts` against the packed package.
import { type Entry, type Message, RequestError, type ServerToClientEvents, SocketManager, type Status, indexedDbStorage, memoryStorage } from "@roomcast/client";
import { type PositionStorage, channel } from "@roomcast/client/channels";
import { shareConnection } from "@roomcast/client/share";

const manager = new SocketManager("https://chat.example", {
  auth: async (reason) => ({ token: reason === "connect" ? "retained" : await Promise.resolve("fresh") }),
  identity: "ada",
  storage: typeof indexedDB === "undefined" ? memoryStorage() : indexedDbStorage("own"),
  limits: { entries: 100 },
  share: shareConnection("tabs"),
  socket: { path: "/socket.io/", transports: ["websocket"] },
});

export function words(status: Status): string {
  switch (status.state) {
    case "online":
    case "unresponsive":
      return status.transport;
    case "refused":
      return status.failure.code;
    case "offline":
    case "closed":
      return status.failure?.message ?? "";
    case "idle":
    case "connecting":
      return "";
  }
}

manager.watch("status", (status) => console.log(words(status)));
manager.watch("entry", ({ id, state }: Entry) => console.log(id, state));
manager.on("message", (message: Message, confirm) => confirm?.());
manager.on("typing", ({ userId, isTyping }) => console.log(userId, isTyping));

const conversation = manager.conversation("0f8fad5b-d9cb-469f-a165-70867728950e", { since: 7 });
conversation.on("messages", (messages) => messages.map(({ content }) => content));
conversation.on("reset", (newest, hasOlder) => console.log(newest.length, hasOlder));
conversation.on("interrupted", (isInterrupted) => console.log(isInterrupted === conversation.isInterrupted));

export async function talk(): Promise<number> {
  const { message } = await conversation.send("hello", { confirmDelivery: true }).answered;
  const page = await manager.request("message_history", { conversationId: message.conversationId, limit: 10 });
  // @ts-expect-error `limit` is a number.
  await manager.request("message_history", { conversationId: message.conversationId, limit: "10" });
  // @ts-expect-error There is no such event.
  await manager.request("mesage_history", {});
  // @ts-expect-error Nor one that the server sends.
  manager.on("mesage", () => {});
  try {
    await manager.request("mark_read", { conversationId: message.conversationId, seq: message.seq });
  } catch (error) {
    if (error instanceof RequestError && error.code === "RATE_LIMITED") console.log(error.retryAfter);
  }
  return page.messages.length;
}

/** Events of an application in channels. */
interface OrderEvents {
  "order:updated": { status: "paid" | "shipped" };
  "order:deleted": null;
}
declare const storage: PositionStorage;
const order = channel<OrderEvents>(manager, "orders:7:42", { token: async () => "token", storage });
order.on("order:updated", ({ status }, { position, channel: name }) => console.log(status.length, position, name));
order.watch("reset", (newest, hasOlder) => newest.map((one) => one.event === "order:updated" && console.log(one.data.status, hasOlder)));
order.watch("ended", ({ reason, renews, failure }) => console.log(reason === "expired" && renews, failure?.code));
// @ts-expect-error The application has declared no such event.
order.on("order:update", () => {});
// @ts-expect-error Nor this status.
void order.publish("order:updated", { status: "lost" });
channel(manager, "tickets:7", { storage: false }).on("ticket:opened", (data: unknown, { id }) => console.log(data, id));
export const stored: Promise<string> = order.publish("order:updated", { status: "paid" }, "own-id").then(({ position }) => position);
export const older: Promise<string[]> = order.history({ limit: 10 }).then(({ events }) => events.map(({ event }) => event));
export const followers: Promise<string[]> = order.presence().then(({ users, count }) => users.slice(0, count).map(({ name }) => name));
// Events of the server's own may be typed as well.
const own = new SocketManager<ServerToClientEvents & { "stock:changed": (count: number) => void }>();
channel<OrderEvents>(own, "orders:7:43").close();

/** Subscriptions have the types of the event catalogue. */
export const ends: (() => void)[] = [
  manager.subscribe("subscribe:notifications"),
  manager.subscribe("subscribe:signals", { channelId: "gold" }, { answered: ({ snapshot }) => console.log(snapshot.signals[0]?.symbol) }),
  manager.subscribe("subscribe:prices", { symbols: ["BTC"] }, { answered: ({ rooms }) => console.log(rooms.length), undo: "unsubscribe:prices" }),
  // @ts-expect-error There is no such event.
  manager.subscribe("subscribe:price", { symbols: ["BTC"] }),
  // @ts-expect-error The symbols are needed.
  manager.subscribe("subscribe:prices"),
  // @ts-expect-error They are a list.
  manager.subscribe("subscribe:prices", { symbols: "BTC" }),
  // @ts-expect-error There is no such event to end it.
  manager.subscribe("subscribe:prices", { symbols: ["BTC"] }, { undo: "unsubscribe:price" }),
  // @ts-expect-error The answer has no such field.
  manager.subscribe("subscribe:prices", { symbols: ["BTC"] }, { answered: ({ symbols }) => console.log(symbols) }),
];
manager.emit("unsubscribe:notifications");
export const acknowledged: Promise<number> = manager.request("notification:ack_all").then((answer) => answer.acknowledged);

/** Another server with its own events. */
interface Prices {
  price: (symbol: string, price: number) => void;
}
interface Orders {
  order: { payload: { amount: number }; answer: { filled: boolean } };
  "subscribe:prices": { payload: { symbol: string }; answer: { price: number } };
}
const shop = new SocketManager<Prices, Orders>(undefined, { sessionEvent: false, idField: "key" });
shop.on("price", (symbol, price) => console.log(symbol, price.toFixed(2)));
export const stop: () => void = shop.subscribe("subscribe:prices", { symbol: "BTC" }, { answered: ({ price }) => console.log(price.toFixed(2)) });
export const filled: Promise<boolean> = shop.send("order", { amount: 3 }).answered.then((answer) => answer.filled);
