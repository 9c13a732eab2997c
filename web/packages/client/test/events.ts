// A client that uses every event, compiled strictly by `package.test.ts` against the packed package. Written by
// `tests/generate`, with the examples of the catalogue of events.
import type {
  AdminAcknowledgedEvents,
  AdminClientToServerEvents,
  AdminServerToClientEvents,
  AdminUnacknowledgedEmit,
  AcknowledgedEvents,
  ClientToServerEvents,
  ServerToClientEvents,
  UnacknowledgedEmit,
} from "@roomcast/client";
import { type Socket, io } from "socket.io-client";

const socket: Socket<ServerToClientEvents, AcknowledgedEvents> & UnacknowledgedEmit = io();
const admin: Socket<AdminServerToClientEvents, AdminAcknowledgedEvents> & AdminUnacknowledgedEmit = io("/admin");
const plain: Socket<ServerToClientEvents, ClientToServerEvents> = io();
const plainAdmin: Socket<AdminServerToClientEvents, AdminClientToServerEvents> = io("/admin");

/** Every event that the server sends. */
export const heard: { [Name in keyof ServerToClientEvents]: Parameters<ServerToClientEvents[Name]>[0] } = {
  // To sockets in the conversation, except the sending socket.
  "message": {"content":"hello","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","createdAt":"2025-01-31T12:00:00.000Z","id":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","mentions":["bob"],"metadata":{},"replyTo":{"excerpt":"is anybody there?","id":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10","seq":6,"userId":"bob","userName":"Bob"},"seq":7,"type":"user","userId":"ada","userName":"Ada","version":1},
  // To sockets in the conversation, except the sending socket.
  "message_edited": {"content":"hello, Bob","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","createdAt":"2025-01-31T12:00:00.000Z","editedAt":"2025-01-31T12:01:00.000Z","id":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","metadata":{},"seq":7,"type":"user","userId":"ada","userName":"Ada","version":2},
  // To sockets in the conversation, except the author's.
  "message_appended": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":5,"seq":7,"text":", Bob"},
  // To the author's sockets.
  "message_stop_requested": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","userId":"bob"},
  // To sockets in the conversation, except the sending socket.
  "message_deleted": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","deletedAt":"2025-01-31T12:00:00.000Z","deletedBy":"ada","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","seq":7},
  // To the sending socket, if it set `confirmDelivery`.
  "message_delivered": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","delivered":2,"expected":2,"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","timedOut":false},
  // To the user's other sockets, and sockets in the conversation if there are at most 50.
  "message_read": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","seq":7,"userId":"ada"},
  // To sockets in the conversation, except the sending socket.
  "message_reaction": {"added":true,"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","count":1,"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","seq":7,"timestamp":"2025-01-31T12:00:00.000Z","userId":"bob"},
  // To sockets in the conversation, except the sending socket.
  "message_pinned": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","pin":{"message":{"excerpt":"is anybody there?","id":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10","seq":6,"userId":"bob","userName":"Bob"},"pinnedAt":"2025-01-31T12:00:00.000Z","pinnedBy":"ada"}},
  // To sockets in the conversation, except the sending socket.
  "message_unpinned": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10","seq":6,"timestamp":"2025-01-31T12:00:00.000Z","unpinnedBy":"ada"},
  // To sockets in the conversation, except the user's.
  "user_joined": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","name":"Ada","timestamp":"2025-01-31T12:00:00.000Z","type":"system","userId":"ada"},
  // To sockets in the conversation, except the user's.
  "user_left": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","name":"Ada","timestamp":"2025-01-31T12:00:00.000Z","type":"system","userId":"ada"},
  // To sockets in the conversation, except the user's.
  "user_disconnected": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","name":"Ada","timestamp":"2025-01-31T12:00:00.000Z","type":"system","userId":"ada"},
  // To sockets in the conversation.
  "presence": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","count":1,"users":[{"connections":1,"name":"Ada","since":"2025-01-31T12:00:00.000Z","userId":"ada"}]},
  // To sockets in the conversation, except the sending socket.
  "typing": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","isTyping":true,"name":"Ada","timestamp":"2025-01-31T12:00:00.000Z","userId":"ada"},
  // To sockets in conversations of which the user is a member, all sockets of members of those with at most 100 members, and the user's other sockets; not the sending socket.
  "status": {"status":"busy","text":"in a meeting","timestamp":"2025-01-31T12:00:00.000Z","userId":"ada"},
  // To sockets in the conversation, and all sockets of users who became members or are no longer members, or of all members if the title has changed; not the sending socket.
  "conversation_updated": {"conversation":{"createdAt":"2025-01-31T12:00:00.000Z","id":"0f8fad5b-d9cb-469f-a165-70867728950e","memberIds":["ada","bob"],"ownerId":"ada","title":"Engines","updatedAt":"2025-01-31T12:00:00.000Z"},"timestamp":"2025-01-31T12:00:00.000Z"},
  // To sockets in the conversation, and all sockets of its members; not the sending socket.
  "conversation_deleted": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","deletedAt":"2025-01-31T12:00:00.000Z","deletedBy":"ada"},
  // To sockets in the conversation on that server.
  "conversation:interrupted": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"},
  // To the user's other sockets.
  "notification_level": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","level":"mentions"},
  // To the socket.
  "trades:subscribed": {"room":"trades:ada","snapshot":{"hasMore":false,"revision":1,"trades":[{"executedPrice":190.5,"quantity":2.0,"side":"buy","status":"executed","symbol":"AAPL","timestamp":"2025-01-31T12:00:00.000Z","tradeId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","userId":"ada"}]}},
  // To the socket.
  "trades:unsubscribed": {"room":"trades:ada"},
  // To sockets that follow the user's trades.
  "trade:update": {"executedPrice":190.5,"quantity":2.0,"revision":1,"side":"buy","status":"executed","symbol":"AAPL","timestamp":"2025-01-31T12:00:00.000Z","tradeId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","userId":"ada"},
  // To sockets that follow the user's trades.
  "trade:withdrawn": {"revision":2,"timestamp":"2025-01-31T12:01:00.000Z","tradeId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","userId":"ada"},
  // To the socket that ordered it, or the user's other sockets if it has disconnected.
  "trade:executed": {"executedPrice":190.5,"quantity":2.0,"side":"buy","symbol":"AAPL","timestamp":"2025-01-31T12:00:00.000Z","tradeId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"},
  // To the socket that ordered it, or the user's other sockets if it has disconnected.
  "trade:error": {"code":"NO_PRICE","message":"no price of the symbol is known","symbol":"AAPL","tradeId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"},
  // To the socket.
  "signals:subscribed": {"room":"signals:gold","snapshot":{"hasMore":false,"revision":1,"signals":[{"action":"buy","channelId":"gold","confidence":75.0,"entryPrice":2800.5,"providerId":"p1","providerName":"A provider","signalId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","stopLoss":2750.0,"symbol":"XAU/USD","takeProfit":null,"timestamp":"2025-01-31T12:00:00.000Z"}]}},
  // To the socket.
  "signals:unsubscribed": {"room":"signals"},
  // To sockets that follow all signals or the signals of its channel.
  "signal:new": {"action":"buy","channelId":"gold","confidence":75.0,"entryPrice":2800.5,"providerId":"p1","providerName":"A provider","revision":1,"signalId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","stopLoss":2750.0,"symbol":"XAU/USD","takeProfit":null,"timestamp":"2025-01-31T12:00:00.000Z"},
  // To sockets that follow all signals or the signals of its channel.
  "signal:withdrawn": {"channelId":"gold","revision":2,"signalId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","timestamp":"2025-01-31T12:01:00.000Z"},
  // To the socket.
  "portfolio:subscribed": {"room":"portfolio:ada","snapshot":{"portfolio":{"cash":1000.0,"positions":[{"avgPrice":190.5,"quantity":2.0,"symbol":"AAPL"}],"timestamp":"2025-01-31T12:00:00.000Z","totalValue":1381.0,"userId":"ada"},"revision":1}},
  // To the socket.
  "portfolio:unsubscribed": {"room":"portfolio:ada"},
  // To sockets that follow the portfolio.
  "portfolio:update": {"cash":1000.0,"positions":[{"avgPrice":190.5,"quantity":2.0,"symbol":"AAPL"}],"revision":1,"timestamp":"2025-01-31T12:00:00.000Z","totalValue":1381.0,"userId":"ada"},
  // To the socket.
  "prices:subscribed": {"rooms":["prices:AAPL","prices:BTC/USD"],"snapshot":{"prices":[{"price":190.5,"symbol":"AAPL","timestamp":"2025-01-31T12:00:00.000Z"}]}},
  // To the socket.
  "prices:unsubscribed": {"rooms":["prices:BTC/USD"]},
  // To sockets that follow the symbol.
  "price:update": {"price":190.5,"symbol":"AAPL","timestamp":"2025-01-31T12:00:00.000Z"},
  // To sockets that follow the symbol.
  "price:withdrawn": {"reason":"expired","symbol":"AAPL","timestamp":"2025-02-07T12:00:00.000Z"},
  // To the socket.
  "notifications:subscribed": {"room":"notifications:ada","snapshot":{"hasMore":false,"notifications":[{"actionUrl":"/orders/1","expiresAt":"2025-03-02T12:00:00.000Z","message":"2 AAPL at 190.5","notificationId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","priority":"normal","timestamp":"2025-01-31T12:00:00.000Z","title":"Order filled","type":"info"}],"revision":1,"unread":1}},
  // To the socket.
  "notifications:unsubscribed": {"room":"notifications:ada"},
  // To sockets that follow the user's notifications.
  "notification:new": {"actionUrl":"/orders/1","expiresAt":"2025-03-02T12:00:00.000Z","message":"2 AAPL at 190.5","notificationId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","priority":"normal","revision":1,"timestamp":"2025-01-31T12:00:00.000Z","title":"Order filled","type":"info"},
  // To sockets that follow the user's notifications.
  "notification:batch": {"notifications":[{"actionUrl":"/orders/1","expiresAt":"2025-03-02T12:00:00.000Z","message":"2 AAPL at 190.5","notificationId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","priority":"normal","revision":1,"timestamp":"2025-01-31T12:00:00.000Z","title":"Order filled","type":"info"}]},
  // To sockets that follow the user's notifications, except the acknowledging socket.
  "notification:acked": {"notificationId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","timestamp":"2025-01-31T12:01:00.000Z"},
  // To sockets that follow the user's notifications, except the acknowledging socket.
  "notifications:acked": {"notificationIds":["0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"],"timestamp":"2025-01-31T12:01:00.000Z"},
  // To sockets that follow the user's notifications.
  "notifications:unread": {"revision":7,"unread":3},
  // To sockets that follow the user's notifications.
  "notification:withdrawn": {"notificationId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","reason":"withdrawn","timestamp":"2025-01-31T12:01:00.000Z"},
  // To the socket.
  "channel:ended": {"channel":"orders:ada:42","reason":"forbidden"},
  // To the socket.
  "channel:subscribed": {"channel":"orders:ada:42","events":[{"data":{"status":"shipped"},"event":"order:updated","id":"order-42-shipped","position":"5f1d03ab.7.9e107d9d.0190b0e0","timestamp":"2025-01-31T12:00:00.000Z"}],"hasMore":false,"position":"5f1d03ab.7.9e107d9d.0190b0e0"},
  // To the socket, after it has connected.
  "session": {"expiresAt":"2025-01-31T12:00:00.000Z","guest":false,"name":"Ada","permissions":["chat:read","chat:send","chat:manage","chat:type"],"roles":[],"status":{"status":"busy","text":"in a meeting","timestamp":"2025-01-31T12:00:00.000Z","userId":"ada"},"userId":"ada"},
  // To the socket whose event failed.
  "error": {"code":"RATE_LIMITED","event":"typing","message":"too many events of this kind, try again later","retryAfter":200,"status":429,"type":"rateLimit"},
  // To the socket, before its credentials expire.
  "auth:expiring": {"expiresAt":"2025-01-31T12:00:00.000Z"},
};

/** Every event that the server sends. */
export const heardByAdmins: { [Name in keyof AdminServerToClientEvents]: Parameters<AdminServerToClientEvents[Name]>[0] } = {
  // To sockets in `/admin` on all servers.
  "admin:refusals": {"node":"chat-1","refusals":[{"count":3,"reason":"expired","type":"authentication"}],"timestamp":"2025-01-31T12:00:00.000Z"},
  // To sockets in `/admin` on all servers; a new socket receives the failures of its server, and the latest alerts of all.
  "admin:alert": {"alert":"RoomcastStoreUnavailable","node":"chat-1","part":"store","state":"unavailable","timestamp":"2025-01-31T12:00:00.000Z"},
  // To sockets in `/admin` on all servers.
  "admin:node": {"change":"joined","node":"chat-2","timestamp":"2025-01-31T12:00:00.000Z"},
};

/** Sends every event that clients send. */
export async function talk(): Promise<void> {
  socket.on("message", (payload, confirm) => console.log(payload.content, payload.conversationId, payload.createdAt, payload.id, payload.mentions, payload.metadata, payload.replyTo, payload.seq, payload.type, payload.userId, payload.userName, payload.version, confirm?.()));
  socket.on("message_edited", (payload) => console.log(payload.content, payload.conversationId, payload.createdAt, payload.editedAt, payload.id, payload.metadata, payload.seq, payload.type, payload.userId, payload.userName, payload.version));
  socket.on("message_appended", (payload) => console.log(payload.conversationId, payload.messageId, payload.offset, payload.seq, payload.text));
  socket.on("message_stop_requested", (payload) => console.log(payload.conversationId, payload.messageId, payload.userId));
  socket.on("message_deleted", (payload) => console.log(payload.conversationId, payload.deletedAt, payload.deletedBy, payload.messageId, payload.seq));
  socket.on("message_delivered", (payload) => console.log(payload.conversationId, payload.delivered, payload.expected, payload.messageId, payload.timedOut));
  socket.on("message_read", (payload) => console.log(payload.conversationId, payload.seq, payload.userId));
  socket.on("message_reaction", (payload) => console.log(payload.added, payload.conversationId, payload.count, payload.emoji, payload.messageId, payload.seq, payload.timestamp, payload.userId));
  socket.on("message_pinned", (payload) => console.log(payload.conversationId, payload.pin));
  socket.on("message_unpinned", (payload) => console.log(payload.conversationId, payload.messageId, payload.seq, payload.timestamp, payload.unpinnedBy));
  socket.on("user_joined", (payload) => console.log(payload.conversationId, payload.name, payload.timestamp, payload.type, payload.userId));
  socket.on("user_left", (payload) => console.log(payload.conversationId, payload.name, payload.timestamp, payload.type, payload.userId));
  socket.on("user_disconnected", (payload) => console.log(payload.conversationId, payload.name, payload.timestamp, payload.type, payload.userId));
  socket.on("presence", (payload) => console.log(payload.conversationId, payload.count, payload.users));
  socket.on("typing", (payload) => console.log(payload.conversationId, payload.isTyping, payload.name, payload.timestamp, payload.userId));
  socket.on("status", (payload) => console.log(payload.status, payload.text, payload.timestamp, payload.userId));
  socket.on("conversation_updated", (payload) => console.log(payload.conversation, payload.timestamp));
  socket.on("conversation_deleted", (payload) => console.log(payload.conversationId, payload.deletedAt, payload.deletedBy));
  socket.on("conversation:interrupted", (payload) => console.log(payload.conversationId));
  socket.on("notification_level", (payload) => console.log(payload.conversationId, payload.level));
  socket.on("trades:subscribed", (payload) => console.log(payload.room, payload.snapshot));
  socket.on("trades:unsubscribed", (payload) => console.log(payload.room));
  socket.on("trade:update", (payload) => console.log(payload.executedPrice, payload.quantity, payload.revision, payload.side, payload.status, payload.symbol, payload.timestamp, payload.tradeId, payload.userId));
  socket.on("trade:withdrawn", (payload) => console.log(payload.revision, payload.timestamp, payload.tradeId, payload.userId));
  socket.on("trade:executed", (payload) => console.log(payload.executedPrice, payload.quantity, payload.side, payload.symbol, payload.timestamp, payload.tradeId));
  socket.on("trade:error", (payload) => console.log(payload.code, payload.message, payload.symbol, payload.tradeId));
  socket.on("signals:subscribed", (payload) => console.log(payload.room, payload.snapshot));
  socket.on("signals:unsubscribed", (payload) => console.log(payload.room));
  socket.on("signal:new", (payload) => console.log(payload.action, payload.channelId, payload.confidence, payload.entryPrice, payload.providerId, payload.providerName, payload.revision, payload.signalId, payload.stopLoss, payload.symbol, payload.takeProfit, payload.timestamp));
  socket.on("signal:withdrawn", (payload) => console.log(payload.channelId, payload.revision, payload.signalId, payload.timestamp));
  socket.on("portfolio:subscribed", (payload) => console.log(payload.room, payload.snapshot));
  socket.on("portfolio:unsubscribed", (payload) => console.log(payload.room));
  socket.on("portfolio:update", (payload) => console.log(payload.cash, payload.positions, payload.revision, payload.timestamp, payload.totalValue, payload.userId));
  socket.on("prices:subscribed", (payload) => console.log(payload.rooms, payload.snapshot));
  socket.on("prices:unsubscribed", (payload) => console.log(payload.rooms));
  socket.on("price:update", (payload) => console.log(payload.price, payload.symbol, payload.timestamp));
  socket.on("price:withdrawn", (payload) => console.log(payload.reason, payload.symbol, payload.timestamp));
  socket.on("notifications:subscribed", (payload) => console.log(payload.room, payload.snapshot));
  socket.on("notifications:unsubscribed", (payload) => console.log(payload.room));
  socket.on("notification:new", (payload) => console.log(payload.actionUrl, payload.expiresAt, payload.message, payload.notificationId, payload.priority, payload.revision, payload.timestamp, payload.title, payload.type));
  socket.on("notification:batch", (payload) => console.log(payload.notifications));
  socket.on("notification:acked", (payload) => console.log(payload.notificationId, payload.timestamp));
  socket.on("notifications:acked", (payload) => console.log(payload.notificationIds, payload.timestamp));
  socket.on("notifications:unread", (payload) => console.log(payload.revision, payload.unread));
  socket.on("notification:withdrawn", (payload) => console.log(payload.notificationId, payload.reason, payload.timestamp));
  socket.on("channel:ended", (payload) => console.log(payload.channel, payload.reason));
  socket.on("channel:subscribed", (payload) => console.log(payload.channel, payload.events, payload.hasMore, payload.position));
  socket.on("session", (payload) => console.log(payload.expiresAt, payload.guest, payload.name, payload.permissions, payload.roles, payload.status, payload.userId));
  socket.on("error", (payload) => console.log(payload.code, payload.event, payload.message, payload.retryAfter, payload.status, payload.type));
  socket.on("auth:expiring", (payload) => console.log(payload.expiresAt));
  admin.on("admin:refusals", (payload) => console.log(payload.node, payload.refusals, payload.timestamp));
  admin.on("admin:alert", (payload) => console.log(payload.alert, payload.node, payload.part, payload.state, payload.timestamp));
  admin.on("admin:node", (payload) => console.log(payload.change, payload.node, payload.timestamp));
  const answer0 = await socket.emitWithAck("message", {"clientMessageId":"5f1d","confirmDelivery":true,"content":"hello","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"metadata":{"imageUrl":"https://example.org/ada.png","timestamp":"2025-01-31T12:00:00Z"},"replyTo":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10","type":"user"});
  socket.emit("message", {"clientMessageId":"5f1d","confirmDelivery":true,"content":"hello","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"metadata":{"imageUrl":"https://example.org/ada.png","timestamp":"2025-01-31T12:00:00Z"},"replyTo":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10","type":"user"});
  socket.emit("message", {"clientMessageId":"5f1d","confirmDelivery":true,"content":"hello","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"metadata":{"imageUrl":"https://example.org/ada.png","timestamp":"2025-01-31T12:00:00Z"},"replyTo":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10","type":"user"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("message", {"clientMessageId":"5f1d","confirmDelivery":true,"content":"hello","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"metadata":{"imageUrl":"https://example.org/ada.png","timestamp":"2025-01-31T12:00:00Z"},"replyTo":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10","type":"user"});
  plain.emit("message", {"clientMessageId":"5f1d","confirmDelivery":true,"content":"hello","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"metadata":{"imageUrl":"https://example.org/ada.png","timestamp":"2025-01-31T12:00:00Z"},"replyTo":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10","type":"user"});
  plain.emit("message", {"clientMessageId":"5f1d","confirmDelivery":true,"content":"hello","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"metadata":{"imageUrl":"https://example.org/ada.png","timestamp":"2025-01-31T12:00:00Z"},"replyTo":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10","type":"user"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("message", {"clientMessageId":"5f1d","confirmDelivery":true,"content":"hello","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"metadata":{"imageUrl":"https://example.org/ada.png","timestamp":"2025-01-31T12:00:00Z"},"replyTo":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10","type":"user"});
  if (!answer0.success) throw new Error(answer0.error.code);
  console.log(answer0.message);
  const answer1 = await socket.emitWithAck("edit_message", {"content":"hello, Bob","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","version":1});
  socket.emit("edit_message", {"content":"hello, Bob","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","version":1});
  socket.emit("edit_message", {"content":"hello, Bob","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","version":1}, (answer) => console.log(answer.success));
  await socket.emitWithAck("edit_message", {"content":"hello, Bob","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","version":1});
  plain.emit("edit_message", {"content":"hello, Bob","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","version":1});
  plain.emit("edit_message", {"content":"hello, Bob","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","version":1}, (answer) => console.log(answer.success));
  await plain.emitWithAck("edit_message", {"content":"hello, Bob","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","version":1});
  if (!answer1.success) throw new Error(answer1.error.code);
  console.log(answer1.message);
  const answer2 = await socket.emitWithAck("delete_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  socket.emit("delete_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  socket.emit("delete_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("delete_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  plain.emit("delete_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  plain.emit("delete_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("delete_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  if (!answer2.success) throw new Error(answer2.error.code);
  console.log(answer2.message);
  const answer3 = await socket.emitWithAck("add_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  socket.emit("add_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  socket.emit("add_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("add_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  plain.emit("add_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  plain.emit("add_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("add_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  if (!answer3.success) throw new Error(answer3.error.code);
  console.log(answer3.added);
  console.log(answer3.conversationId);
  console.log(answer3.count);
  console.log(answer3.emoji);
  console.log(answer3.messageId);
  console.log(answer3.seq);
  console.log(answer3.timestamp);
  console.log(answer3.userId);
  const answer4 = await socket.emitWithAck("remove_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  socket.emit("remove_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  socket.emit("remove_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("remove_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  plain.emit("remove_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  plain.emit("remove_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("remove_reaction", {"emoji":"👍","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  if (!answer4.success) throw new Error(answer4.error.code);
  console.log(answer4.added);
  console.log(answer4.conversationId);
  console.log(answer4.count);
  console.log(answer4.emoji);
  console.log(answer4.messageId);
  console.log(answer4.seq);
  console.log(answer4.timestamp);
  console.log(answer4.userId);
  const answer5 = await socket.emitWithAck("pin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"});
  socket.emit("pin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"});
  socket.emit("pin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("pin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"});
  plain.emit("pin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"});
  plain.emit("pin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("pin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"});
  if (!answer5.success) throw new Error(answer5.error.code);
  console.log(answer5.conversationId);
  console.log(answer5.pin);
  const answer6 = await socket.emitWithAck("unpin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"});
  socket.emit("unpin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"});
  socket.emit("unpin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("unpin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"});
  plain.emit("unpin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"});
  plain.emit("unpin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("unpin_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10"});
  if (!answer6.success) throw new Error(answer6.error.code);
  console.log(answer6.conversationId);
  console.log(answer6.messageId);
  console.log(answer6.seq);
  console.log(answer6.timestamp);
  console.log(answer6.unpinnedBy);
  const answer7 = await socket.emitWithAck("begin_message", {"clientMessageId":"5f1e","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"type":"user"});
  socket.emit("begin_message", {"clientMessageId":"5f1e","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"type":"user"});
  socket.emit("begin_message", {"clientMessageId":"5f1e","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"type":"user"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("begin_message", {"clientMessageId":"5f1e","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"type":"user"});
  plain.emit("begin_message", {"clientMessageId":"5f1e","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"type":"user"});
  plain.emit("begin_message", {"clientMessageId":"5f1e","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"type":"user"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("begin_message", {"clientMessageId":"5f1e","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","mentions":["bob"],"type":"user"});
  if (!answer7.success) throw new Error(answer7.error.code);
  console.log(answer7.message);
  console.log(answer7.offset);
  const answer8 = await socket.emitWithAck("append_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":0,"text":"hello"});
  socket.emit("append_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":0,"text":"hello"});
  socket.emit("append_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":0,"text":"hello"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("append_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":0,"text":"hello"});
  plain.emit("append_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":0,"text":"hello"});
  plain.emit("append_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":0,"text":"hello"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("append_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":0,"text":"hello"});
  if (!answer8.success) throw new Error(answer8.error.code);
  console.log(answer8.offset);
  console.log(answer8.stored);
  const answer9 = await socket.emitWithAck("finish_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":10});
  socket.emit("finish_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":10});
  socket.emit("finish_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":10}, (answer) => console.log(answer.success));
  await socket.emitWithAck("finish_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":10});
  plain.emit("finish_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":10});
  plain.emit("finish_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":10}, (answer) => console.log(answer.success));
  await plain.emitWithAck("finish_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","offset":10});
  if (!answer9.success) throw new Error(answer9.error.code);
  console.log(answer9.message);
  const answer10 = await socket.emitWithAck("abort_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","reason":"the model failed"});
  socket.emit("abort_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","reason":"the model failed"});
  socket.emit("abort_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","reason":"the model failed"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("abort_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","reason":"the model failed"});
  plain.emit("abort_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","reason":"the model failed"});
  plain.emit("abort_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","reason":"the model failed"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("abort_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","reason":"the model failed"});
  if (!answer10.success) throw new Error(answer10.error.code);
  console.log(answer10.message);
  const answer11 = await socket.emitWithAck("stop_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  socket.emit("stop_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  socket.emit("stop_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("stop_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  plain.emit("stop_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  plain.emit("stop_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("stop_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  if (!answer11.success) throw new Error(answer11.error.code);
  const answer12 = await socket.emitWithAck("join_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":6});
  socket.emit("join_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":6});
  socket.emit("join_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":6}, (answer) => console.log(answer.success));
  await socket.emitWithAck("join_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":6});
  plain.emit("join_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":6});
  plain.emit("join_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":6}, (answer) => console.log(answer.success));
  await plain.emitWithAck("join_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":6});
  socket.emit("join_conversation", "0f8fad5b-d9cb-469f-a165-70867728950e");
  socket.emit("join_conversation", "0f8fad5b-d9cb-469f-a165-70867728950e", (answer) => console.log(answer.success));
  await socket.emitWithAck("join_conversation", "0f8fad5b-d9cb-469f-a165-70867728950e");
  plain.emit("join_conversation", "0f8fad5b-d9cb-469f-a165-70867728950e");
  plain.emit("join_conversation", "0f8fad5b-d9cb-469f-a165-70867728950e", (answer) => console.log(answer.success));
  await plain.emitWithAck("join_conversation", "0f8fad5b-d9cb-469f-a165-70867728950e");
  if (!answer12.success) throw new Error(answer12.error.code);
  console.log(answer12.conversation);
  console.log(answer12.hasMore);
  console.log(answer12.messages);
  console.log(answer12.notificationLevel);
  console.log(answer12.othersReadSeq);
  console.log(answer12.pins);
  console.log(answer12.statuses);
  console.log(answer12.users);
  const answer13 = await socket.emitWithAck("leave_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  socket.emit("leave_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  socket.emit("leave_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("leave_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  plain.emit("leave_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  plain.emit("leave_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("leave_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  socket.emit("leave_conversation", "0f8fad5b-d9cb-469f-a165-70867728950e");
  socket.emit("leave_conversation", "0f8fad5b-d9cb-469f-a165-70867728950e", (answer) => console.log(answer.success));
  await socket.emitWithAck("leave_conversation", "0f8fad5b-d9cb-469f-a165-70867728950e");
  plain.emit("leave_conversation", "0f8fad5b-d9cb-469f-a165-70867728950e");
  plain.emit("leave_conversation", "0f8fad5b-d9cb-469f-a165-70867728950e", (answer) => console.log(answer.success));
  await plain.emitWithAck("leave_conversation", "0f8fad5b-d9cb-469f-a165-70867728950e");
  if (!answer13.success) throw new Error(answer13.error.code);
  const answer14 = await socket.emitWithAck("typing", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","isTyping":true});
  socket.emit("typing", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","isTyping":true});
  socket.emit("typing", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","isTyping":true}, (answer) => console.log(answer.success));
  await socket.emitWithAck("typing", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","isTyping":true});
  plain.emit("typing", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","isTyping":true});
  plain.emit("typing", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","isTyping":true}, (answer) => console.log(answer.success));
  await plain.emitWithAck("typing", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","isTyping":true});
  if (!answer14.success) throw new Error(answer14.error.code);
  const answer15 = await socket.emitWithAck("presence", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  socket.emit("presence", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  socket.emit("presence", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("presence", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  plain.emit("presence", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  plain.emit("presence", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("presence", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  if (!answer15.success) throw new Error(answer15.error.code);
  console.log(answer15.conversationId);
  console.log(answer15.count);
  console.log(answer15.users);
  const answer16 = await socket.emitWithAck("set_status", {"status":"busy","text":"in a meeting"});
  socket.emit("set_status", {"status":"busy","text":"in a meeting"});
  socket.emit("set_status", {"status":"busy","text":"in a meeting"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("set_status", {"status":"busy","text":"in a meeting"});
  plain.emit("set_status", {"status":"busy","text":"in a meeting"});
  plain.emit("set_status", {"status":"busy","text":"in a meeting"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("set_status", {"status":"busy","text":"in a meeting"});
  if (!answer16.success) throw new Error(answer16.error.code);
  console.log(answer16.status);
  console.log(answer16.text);
  console.log(answer16.timestamp);
  console.log(answer16.userId);
  const answer17 = await socket.emitWithAck("statuses", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  socket.emit("statuses", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  socket.emit("statuses", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("statuses", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  plain.emit("statuses", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  plain.emit("statuses", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("statuses", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  if (!answer17.success) throw new Error(answer17.error.code);
  console.log(answer17.conversationId);
  console.log(answer17.statuses);
  const answer18 = await socket.emitWithAck("message_history", {"beforeSeq":8,"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","limit":1});
  socket.emit("message_history", {"beforeSeq":8,"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","limit":1});
  socket.emit("message_history", {"beforeSeq":8,"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","limit":1}, (answer) => console.log(answer.success));
  await socket.emitWithAck("message_history", {"beforeSeq":8,"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","limit":1});
  plain.emit("message_history", {"beforeSeq":8,"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","limit":1});
  plain.emit("message_history", {"beforeSeq":8,"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","limit":1}, (answer) => console.log(answer.success));
  await plain.emitWithAck("message_history", {"beforeSeq":8,"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","limit":1});
  if (!answer18.success) throw new Error(answer18.error.code);
  console.log(answer18.hasMore);
  console.log(answer18.messages);
  const answer19 = await socket.emitWithAck("mark_read", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","seq":7});
  socket.emit("mark_read", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","seq":7});
  socket.emit("mark_read", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","seq":7}, (answer) => console.log(answer.success));
  await socket.emitWithAck("mark_read", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","seq":7});
  plain.emit("mark_read", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","seq":7});
  plain.emit("mark_read", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","seq":7}, (answer) => console.log(answer.success));
  await plain.emitWithAck("mark_read", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","seq":7});
  if (!answer19.success) throw new Error(answer19.error.code);
  console.log(answer19.seq);
  console.log(answer19.unread);
  const answer20 = await socket.emitWithAck("message_search", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","query":"hello"});
  socket.emit("message_search", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","query":"hello"});
  socket.emit("message_search", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","query":"hello"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("message_search", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","query":"hello"});
  plain.emit("message_search", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","query":"hello"});
  plain.emit("message_search", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","query":"hello"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("message_search", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","query":"hello"});
  if (!answer20.success) throw new Error(answer20.error.code);
  console.log(answer20.hasMore);
  console.log(answer20.messages);
  const answer21 = await socket.emitWithAck("create_conversation", {"memberIds":["bob"],"title":"Engines"});
  socket.emit("create_conversation", {"memberIds":["bob"],"title":"Engines"});
  socket.emit("create_conversation", {"memberIds":["bob"],"title":"Engines"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("create_conversation", {"memberIds":["bob"],"title":"Engines"});
  plain.emit("create_conversation", {"memberIds":["bob"],"title":"Engines"});
  plain.emit("create_conversation", {"memberIds":["bob"],"title":"Engines"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("create_conversation", {"memberIds":["bob"],"title":"Engines"});
  if (!answer21.success) throw new Error(answer21.error.code);
  console.log(answer21.conversation);
  const answer22 = await socket.emitWithAck("rename_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","title":"Engines"});
  socket.emit("rename_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","title":"Engines"});
  socket.emit("rename_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","title":"Engines"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("rename_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","title":"Engines"});
  plain.emit("rename_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","title":"Engines"});
  plain.emit("rename_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","title":"Engines"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("rename_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","title":"Engines"});
  if (!answer22.success) throw new Error(answer22.error.code);
  console.log(answer22.conversation);
  const answer23 = await socket.emitWithAck("delete_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  socket.emit("delete_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  socket.emit("delete_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("delete_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  plain.emit("delete_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  plain.emit("delete_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("delete_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  if (!answer23.success) throw new Error(answer23.error.code);
  console.log(answer23.conversationId);
  console.log(answer23.deletedAt);
  console.log(answer23.deletedBy);
  const answer24 = await socket.emitWithAck("conversations", {"limit":20});
  socket.emit("conversations", {"limit":20});
  socket.emit("conversations", {"limit":20}, (answer) => console.log(answer.success));
  await socket.emitWithAck("conversations", {"limit":20});
  plain.emit("conversations", {"limit":20});
  plain.emit("conversations", {"limit":20}, (answer) => console.log(answer.success));
  await plain.emitWithAck("conversations", {"limit":20});
  if (!answer24.success) throw new Error(answer24.error.code);
  console.log(answer24.conversations);
  console.log(answer24.hasMore);
  const answer25 = await socket.emitWithAck("add_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"bob"});
  socket.emit("add_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"bob"});
  socket.emit("add_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"bob"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("add_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"bob"});
  plain.emit("add_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"bob"});
  plain.emit("add_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"bob"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("add_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"bob"});
  if (!answer25.success) throw new Error(answer25.error.code);
  console.log(answer25.conversation);
  const answer26 = await socket.emitWithAck("remove_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"eve"});
  socket.emit("remove_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"eve"});
  socket.emit("remove_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"eve"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("remove_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"eve"});
  plain.emit("remove_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"eve"});
  plain.emit("remove_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"eve"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("remove_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"eve"});
  if (!answer26.success) throw new Error(answer26.error.code);
  console.log(answer26.conversation);
  const answer27 = await socket.emitWithAck("set_notification_level", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","level":"mentions"});
  socket.emit("set_notification_level", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","level":"mentions"});
  socket.emit("set_notification_level", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","level":"mentions"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("set_notification_level", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","level":"mentions"});
  plain.emit("set_notification_level", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","level":"mentions"});
  plain.emit("set_notification_level", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","level":"mentions"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("set_notification_level", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","level":"mentions"});
  if (!answer27.success) throw new Error(answer27.error.code);
  console.log(answer27.conversationId);
  console.log(answer27.level);
  const answer28 = await socket.emitWithAck("create_invite", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","expiresIn":86400,"uses":5});
  socket.emit("create_invite", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","expiresIn":86400,"uses":5});
  socket.emit("create_invite", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","expiresIn":86400,"uses":5}, (answer) => console.log(answer.success));
  await socket.emitWithAck("create_invite", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","expiresIn":86400,"uses":5});
  plain.emit("create_invite", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","expiresIn":86400,"uses":5});
  plain.emit("create_invite", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","expiresIn":86400,"uses":5}, (answer) => console.log(answer.success));
  await plain.emitWithAck("create_invite", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","expiresIn":86400,"uses":5});
  if (!answer28.success) throw new Error(answer28.error.code);
  console.log(answer28.expiresAt);
  console.log(answer28.token);
  const answer29 = await socket.emitWithAck("preview_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"});
  socket.emit("preview_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"});
  socket.emit("preview_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("preview_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"});
  plain.emit("preview_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"});
  plain.emit("preview_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("preview_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"});
  if (!answer29.success) throw new Error(answer29.error.code);
  console.log(answer29.conversation);
  console.log(answer29.expiresAt);
  console.log(answer29.isMember);
  const answer30 = await socket.emitWithAck("join_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"});
  socket.emit("join_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"});
  socket.emit("join_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("join_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"});
  plain.emit("join_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"});
  plain.emit("join_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("join_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"});
  if (!answer30.success) throw new Error(answer30.error.code);
  console.log(answer30.conversation);
  const answer31 = await socket.emitWithAck("revoke_invites", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  socket.emit("revoke_invites", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  socket.emit("revoke_invites", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("revoke_invites", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  plain.emit("revoke_invites", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  plain.emit("revoke_invites", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("revoke_invites", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  if (!answer31.success) throw new Error(answer31.error.code);
  console.log(answer31.revoked);
  const answer32 = await socket.emitWithAck("subscribe:trades", {"userId":"ada"});
  socket.emit("subscribe:trades", {"userId":"ada"});
  socket.emit("subscribe:trades", {"userId":"ada"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("subscribe:trades", {"userId":"ada"});
  plain.emit("subscribe:trades", {"userId":"ada"});
  plain.emit("subscribe:trades", {"userId":"ada"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("subscribe:trades", {"userId":"ada"});
  if (!answer32.success) throw new Error(answer32.error.code);
  console.log(answer32.room);
  console.log(answer32.snapshot);
  const answer33 = await socket.emitWithAck("unsubscribe:trades", {"userId":"ada"});
  socket.emit("unsubscribe:trades", {"userId":"ada"});
  socket.emit("unsubscribe:trades", {"userId":"ada"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("unsubscribe:trades", {"userId":"ada"});
  plain.emit("unsubscribe:trades", {"userId":"ada"});
  plain.emit("unsubscribe:trades", {"userId":"ada"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("unsubscribe:trades", {"userId":"ada"});
  if (!answer33.success) throw new Error(answer33.error.code);
  console.log(answer33.room);
  const answer34 = await socket.emitWithAck("trades:history", {"limit":1});
  socket.emit("trades:history", {"limit":1});
  socket.emit("trades:history", {"limit":1}, (answer) => console.log(answer.success));
  await socket.emitWithAck("trades:history", {"limit":1});
  plain.emit("trades:history", {"limit":1});
  plain.emit("trades:history", {"limit":1}, (answer) => console.log(answer.success));
  await plain.emitWithAck("trades:history", {"limit":1});
  socket.emit("trades:history");
  socket.emit("trades:history", (answer) => console.log(answer.success));
  await socket.emitWithAck("trades:history");
  plain.emit("trades:history");
  plain.emit("trades:history", (answer) => console.log(answer.success));
  await plain.emitWithAck("trades:history");
  if (!answer34.success) throw new Error(answer34.error.code);
  console.log(answer34.hasMore);
  console.log(answer34.revision);
  console.log(answer34.trades);
  const answer35 = await socket.emitWithAck("execute:trade", {"clientTradeId":"7d1c8f0e-3a52-4f0e-9b6e-2a4f6c1d9e10","quantity":2,"side":"buy","symbol":"AAPL"});
  socket.emit("execute:trade", {"clientTradeId":"7d1c8f0e-3a52-4f0e-9b6e-2a4f6c1d9e10","quantity":2,"side":"buy","symbol":"AAPL"});
  socket.emit("execute:trade", {"clientTradeId":"7d1c8f0e-3a52-4f0e-9b6e-2a4f6c1d9e10","quantity":2,"side":"buy","symbol":"AAPL"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("execute:trade", {"clientTradeId":"7d1c8f0e-3a52-4f0e-9b6e-2a4f6c1d9e10","quantity":2,"side":"buy","symbol":"AAPL"});
  plain.emit("execute:trade", {"clientTradeId":"7d1c8f0e-3a52-4f0e-9b6e-2a4f6c1d9e10","quantity":2,"side":"buy","symbol":"AAPL"});
  plain.emit("execute:trade", {"clientTradeId":"7d1c8f0e-3a52-4f0e-9b6e-2a4f6c1d9e10","quantity":2,"side":"buy","symbol":"AAPL"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("execute:trade", {"clientTradeId":"7d1c8f0e-3a52-4f0e-9b6e-2a4f6c1d9e10","quantity":2,"side":"buy","symbol":"AAPL"});
  if (!answer35.success) throw new Error(answer35.error.code);
  console.log(answer35.executedPrice);
  console.log(answer35.quantity);
  console.log(answer35.side);
  console.log(answer35.symbol);
  console.log(answer35.timestamp);
  console.log(answer35.tradeId);
  const answer36 = await socket.emitWithAck("subscribe:signals", {"channelId":"gold"});
  socket.emit("subscribe:signals", {"channelId":"gold"});
  socket.emit("subscribe:signals", {"channelId":"gold"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("subscribe:signals", {"channelId":"gold"});
  plain.emit("subscribe:signals", {"channelId":"gold"});
  plain.emit("subscribe:signals", {"channelId":"gold"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("subscribe:signals", {"channelId":"gold"});
  socket.emit("subscribe:signals");
  socket.emit("subscribe:signals", (answer) => console.log(answer.success));
  await socket.emitWithAck("subscribe:signals");
  plain.emit("subscribe:signals");
  plain.emit("subscribe:signals", (answer) => console.log(answer.success));
  await plain.emitWithAck("subscribe:signals");
  if (!answer36.success) throw new Error(answer36.error.code);
  console.log(answer36.room);
  console.log(answer36.snapshot);
  const answer37 = await socket.emitWithAck("unsubscribe:signals", {"channelId":"gold"});
  socket.emit("unsubscribe:signals", {"channelId":"gold"});
  socket.emit("unsubscribe:signals", {"channelId":"gold"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("unsubscribe:signals", {"channelId":"gold"});
  plain.emit("unsubscribe:signals", {"channelId":"gold"});
  plain.emit("unsubscribe:signals", {"channelId":"gold"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("unsubscribe:signals", {"channelId":"gold"});
  socket.emit("unsubscribe:signals");
  socket.emit("unsubscribe:signals", (answer) => console.log(answer.success));
  await socket.emitWithAck("unsubscribe:signals");
  plain.emit("unsubscribe:signals");
  plain.emit("unsubscribe:signals", (answer) => console.log(answer.success));
  await plain.emitWithAck("unsubscribe:signals");
  if (!answer37.success) throw new Error(answer37.error.code);
  console.log(answer37.room);
  const answer38 = await socket.emitWithAck("signals:history", {"channelId":"gold","limit":1});
  socket.emit("signals:history", {"channelId":"gold","limit":1});
  socket.emit("signals:history", {"channelId":"gold","limit":1}, (answer) => console.log(answer.success));
  await socket.emitWithAck("signals:history", {"channelId":"gold","limit":1});
  plain.emit("signals:history", {"channelId":"gold","limit":1});
  plain.emit("signals:history", {"channelId":"gold","limit":1}, (answer) => console.log(answer.success));
  await plain.emitWithAck("signals:history", {"channelId":"gold","limit":1});
  socket.emit("signals:history");
  socket.emit("signals:history", (answer) => console.log(answer.success));
  await socket.emitWithAck("signals:history");
  plain.emit("signals:history");
  plain.emit("signals:history", (answer) => console.log(answer.success));
  await plain.emitWithAck("signals:history");
  if (!answer38.success) throw new Error(answer38.error.code);
  console.log(answer38.hasMore);
  console.log(answer38.revision);
  console.log(answer38.signals);
  const answer39 = await socket.emitWithAck("subscribe:portfolio", {"userId":"ada"});
  socket.emit("subscribe:portfolio", {"userId":"ada"});
  socket.emit("subscribe:portfolio", {"userId":"ada"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("subscribe:portfolio", {"userId":"ada"});
  plain.emit("subscribe:portfolio", {"userId":"ada"});
  plain.emit("subscribe:portfolio", {"userId":"ada"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("subscribe:portfolio", {"userId":"ada"});
  if (!answer39.success) throw new Error(answer39.error.code);
  console.log(answer39.room);
  console.log(answer39.snapshot);
  const answer40 = await socket.emitWithAck("unsubscribe:portfolio", {"userId":"ada"});
  socket.emit("unsubscribe:portfolio", {"userId":"ada"});
  socket.emit("unsubscribe:portfolio", {"userId":"ada"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("unsubscribe:portfolio", {"userId":"ada"});
  plain.emit("unsubscribe:portfolio", {"userId":"ada"});
  plain.emit("unsubscribe:portfolio", {"userId":"ada"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("unsubscribe:portfolio", {"userId":"ada"});
  if (!answer40.success) throw new Error(answer40.error.code);
  console.log(answer40.room);
  const answer41 = await socket.emitWithAck("subscribe:prices", {"symbols":["AAPL","BTC/USD"]});
  socket.emit("subscribe:prices", {"symbols":["AAPL","BTC/USD"]});
  socket.emit("subscribe:prices", {"symbols":["AAPL","BTC/USD"]}, (answer) => console.log(answer.success));
  await socket.emitWithAck("subscribe:prices", {"symbols":["AAPL","BTC/USD"]});
  plain.emit("subscribe:prices", {"symbols":["AAPL","BTC/USD"]});
  plain.emit("subscribe:prices", {"symbols":["AAPL","BTC/USD"]}, (answer) => console.log(answer.success));
  await plain.emitWithAck("subscribe:prices", {"symbols":["AAPL","BTC/USD"]});
  if (!answer41.success) throw new Error(answer41.error.code);
  console.log(answer41.rooms);
  console.log(answer41.snapshot);
  const answer42 = await socket.emitWithAck("unsubscribe:prices", {"symbols":["BTC/USD"]});
  socket.emit("unsubscribe:prices", {"symbols":["BTC/USD"]});
  socket.emit("unsubscribe:prices", {"symbols":["BTC/USD"]}, (answer) => console.log(answer.success));
  await socket.emitWithAck("unsubscribe:prices", {"symbols":["BTC/USD"]});
  plain.emit("unsubscribe:prices", {"symbols":["BTC/USD"]});
  plain.emit("unsubscribe:prices", {"symbols":["BTC/USD"]}, (answer) => console.log(answer.success));
  await plain.emitWithAck("unsubscribe:prices", {"symbols":["BTC/USD"]});
  if (!answer42.success) throw new Error(answer42.error.code);
  console.log(answer42.rooms);
  const answer43 = await socket.emitWithAck("subscribe:notifications", {});
  socket.emit("subscribe:notifications", {});
  socket.emit("subscribe:notifications", {}, (answer) => console.log(answer.success));
  await socket.emitWithAck("subscribe:notifications", {});
  plain.emit("subscribe:notifications", {});
  plain.emit("subscribe:notifications", {}, (answer) => console.log(answer.success));
  await plain.emitWithAck("subscribe:notifications", {});
  socket.emit("subscribe:notifications");
  socket.emit("subscribe:notifications", (answer) => console.log(answer.success));
  await socket.emitWithAck("subscribe:notifications");
  plain.emit("subscribe:notifications");
  plain.emit("subscribe:notifications", (answer) => console.log(answer.success));
  await plain.emitWithAck("subscribe:notifications");
  if (!answer43.success) throw new Error(answer43.error.code);
  console.log(answer43.room);
  console.log(answer43.snapshot);
  const answer44 = await socket.emitWithAck("unsubscribe:notifications", {});
  socket.emit("unsubscribe:notifications", {});
  socket.emit("unsubscribe:notifications", {}, (answer) => console.log(answer.success));
  await socket.emitWithAck("unsubscribe:notifications", {});
  plain.emit("unsubscribe:notifications", {});
  plain.emit("unsubscribe:notifications", {}, (answer) => console.log(answer.success));
  await plain.emitWithAck("unsubscribe:notifications", {});
  socket.emit("unsubscribe:notifications");
  socket.emit("unsubscribe:notifications", (answer) => console.log(answer.success));
  await socket.emitWithAck("unsubscribe:notifications");
  plain.emit("unsubscribe:notifications");
  plain.emit("unsubscribe:notifications", (answer) => console.log(answer.success));
  await plain.emitWithAck("unsubscribe:notifications");
  if (!answer44.success) throw new Error(answer44.error.code);
  console.log(answer44.room);
  const answer45 = await socket.emitWithAck("notification:ack", {"notificationId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  socket.emit("notification:ack", {"notificationId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  socket.emit("notification:ack", {"notificationId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("notification:ack", {"notificationId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  plain.emit("notification:ack", {"notificationId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  plain.emit("notification:ack", {"notificationId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("notification:ack", {"notificationId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  if (!answer45.success) throw new Error(answer45.error.code);
  console.log(answer45.notificationId);
  console.log(answer45.timestamp);
  const answer46 = await socket.emitWithAck("notification:ack_all", {"revision":7});
  socket.emit("notification:ack_all", {"revision":7});
  socket.emit("notification:ack_all", {"revision":7}, (answer) => console.log(answer.success));
  await socket.emitWithAck("notification:ack_all", {"revision":7});
  plain.emit("notification:ack_all", {"revision":7});
  plain.emit("notification:ack_all", {"revision":7}, (answer) => console.log(answer.success));
  await plain.emitWithAck("notification:ack_all", {"revision":7});
  socket.emit("notification:ack_all");
  socket.emit("notification:ack_all", (answer) => console.log(answer.success));
  await socket.emitWithAck("notification:ack_all");
  plain.emit("notification:ack_all");
  plain.emit("notification:ack_all", (answer) => console.log(answer.success));
  await plain.emitWithAck("notification:ack_all");
  if (!answer46.success) throw new Error(answer46.error.code);
  console.log(answer46.acknowledged);
  console.log(answer46.timestamp);
  const answer47 = await socket.emitWithAck("notifications:history", {"limit":1});
  socket.emit("notifications:history", {"limit":1});
  socket.emit("notifications:history", {"limit":1}, (answer) => console.log(answer.success));
  await socket.emitWithAck("notifications:history", {"limit":1});
  plain.emit("notifications:history", {"limit":1});
  plain.emit("notifications:history", {"limit":1}, (answer) => console.log(answer.success));
  await plain.emitWithAck("notifications:history", {"limit":1});
  socket.emit("notifications:history");
  socket.emit("notifications:history", (answer) => console.log(answer.success));
  await socket.emitWithAck("notifications:history");
  plain.emit("notifications:history");
  plain.emit("notifications:history", (answer) => console.log(answer.success));
  await plain.emitWithAck("notifications:history");
  if (!answer47.success) throw new Error(answer47.error.code);
  console.log(answer47.hasMore);
  console.log(answer47.notifications);
  console.log(answer47.revision);
  const answer48 = await socket.emitWithAck("channel:subscribe", {"channel":"orders:ada:42","since":"5f1d03ab.7.9e107d9d.0190b0e0"});
  socket.emit("channel:subscribe", {"channel":"orders:ada:42","since":"5f1d03ab.7.9e107d9d.0190b0e0"});
  socket.emit("channel:subscribe", {"channel":"orders:ada:42","since":"5f1d03ab.7.9e107d9d.0190b0e0"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("channel:subscribe", {"channel":"orders:ada:42","since":"5f1d03ab.7.9e107d9d.0190b0e0"});
  plain.emit("channel:subscribe", {"channel":"orders:ada:42","since":"5f1d03ab.7.9e107d9d.0190b0e0"});
  plain.emit("channel:subscribe", {"channel":"orders:ada:42","since":"5f1d03ab.7.9e107d9d.0190b0e0"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("channel:subscribe", {"channel":"orders:ada:42","since":"5f1d03ab.7.9e107d9d.0190b0e0"});
  if (!answer48.success) throw new Error(answer48.error.code);
  console.log(answer48.events);
  console.log(answer48.hasMore);
  console.log(answer48.position);
  const answer49 = await socket.emitWithAck("channel:unsubscribe", {"channel":"orders:ada:42"});
  socket.emit("channel:unsubscribe", {"channel":"orders:ada:42"});
  socket.emit("channel:unsubscribe", {"channel":"orders:ada:42"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("channel:unsubscribe", {"channel":"orders:ada:42"});
  plain.emit("channel:unsubscribe", {"channel":"orders:ada:42"});
  plain.emit("channel:unsubscribe", {"channel":"orders:ada:42"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("channel:unsubscribe", {"channel":"orders:ada:42"});
  if (!answer49.success) throw new Error(answer49.error.code);
  const answer50 = await socket.emitWithAck("channel:history", {"before":"5f1d03ab.7.9e107d9d.0190b0e0","channel":"orders:ada:42","limit":1});
  socket.emit("channel:history", {"before":"5f1d03ab.7.9e107d9d.0190b0e0","channel":"orders:ada:42","limit":1});
  socket.emit("channel:history", {"before":"5f1d03ab.7.9e107d9d.0190b0e0","channel":"orders:ada:42","limit":1}, (answer) => console.log(answer.success));
  await socket.emitWithAck("channel:history", {"before":"5f1d03ab.7.9e107d9d.0190b0e0","channel":"orders:ada:42","limit":1});
  plain.emit("channel:history", {"before":"5f1d03ab.7.9e107d9d.0190b0e0","channel":"orders:ada:42","limit":1});
  plain.emit("channel:history", {"before":"5f1d03ab.7.9e107d9d.0190b0e0","channel":"orders:ada:42","limit":1}, (answer) => console.log(answer.success));
  await plain.emitWithAck("channel:history", {"before":"5f1d03ab.7.9e107d9d.0190b0e0","channel":"orders:ada:42","limit":1});
  if (!answer50.success) throw new Error(answer50.error.code);
  console.log(answer50.events);
  console.log(answer50.hasMore);
  console.log(answer50.position);
  const answer51 = await socket.emitWithAck("channel:presence", {"channel":"orders:ada:42"});
  socket.emit("channel:presence", {"channel":"orders:ada:42"});
  socket.emit("channel:presence", {"channel":"orders:ada:42"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("channel:presence", {"channel":"orders:ada:42"});
  plain.emit("channel:presence", {"channel":"orders:ada:42"});
  plain.emit("channel:presence", {"channel":"orders:ada:42"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("channel:presence", {"channel":"orders:ada:42"});
  if (!answer51.success) throw new Error(answer51.error.code);
  console.log(answer51.channel);
  console.log(answer51.count);
  console.log(answer51.users);
  const answer52 = await socket.emitWithAck("channel:publish", {"channel":"orders:ada:42","data":{"status":"shipped"},"event":"order:updated","id":"order-42-shipped"});
  socket.emit("channel:publish", {"channel":"orders:ada:42","data":{"status":"shipped"},"event":"order:updated","id":"order-42-shipped"});
  socket.emit("channel:publish", {"channel":"orders:ada:42","data":{"status":"shipped"},"event":"order:updated","id":"order-42-shipped"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("channel:publish", {"channel":"orders:ada:42","data":{"status":"shipped"},"event":"order:updated","id":"order-42-shipped"});
  plain.emit("channel:publish", {"channel":"orders:ada:42","data":{"status":"shipped"},"event":"order:updated","id":"order-42-shipped"});
  plain.emit("channel:publish", {"channel":"orders:ada:42","data":{"status":"shipped"},"event":"order:updated","id":"order-42-shipped"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("channel:publish", {"channel":"orders:ada:42","data":{"status":"shipped"},"event":"order:updated","id":"order-42-shipped"});
  if (!answer52.success) throw new Error(answer52.error.code);
  console.log(answer52.position);
  const answer53 = await socket.emitWithAck("auth:refresh", {"token":"eyJhbGciOiJFUzI1NiJ9…"});
  socket.emit("auth:refresh", {"token":"eyJhbGciOiJFUzI1NiJ9…"});
  socket.emit("auth:refresh", {"token":"eyJhbGciOiJFUzI1NiJ9…"}, (answer) => console.log(answer.success));
  await socket.emitWithAck("auth:refresh", {"token":"eyJhbGciOiJFUzI1NiJ9…"});
  plain.emit("auth:refresh", {"token":"eyJhbGciOiJFUzI1NiJ9…"});
  plain.emit("auth:refresh", {"token":"eyJhbGciOiJFUzI1NiJ9…"}, (answer) => console.log(answer.success));
  await plain.emitWithAck("auth:refresh", {"token":"eyJhbGciOiJFUzI1NiJ9…"});
  socket.emit("auth:refresh");
  socket.emit("auth:refresh", (answer) => console.log(answer.success));
  await socket.emitWithAck("auth:refresh");
  plain.emit("auth:refresh");
  plain.emit("auth:refresh", (answer) => console.log(answer.success));
  await plain.emitWithAck("auth:refresh");
  if (!answer53.success) throw new Error(answer53.error.code);
  console.log(answer53.expiresAt);
  const answer54 = await admin.emitWithAck("admin:kick", {"userId":"ada"});
  admin.emit("admin:kick", {"userId":"ada"});
  admin.emit("admin:kick", {"userId":"ada"}, (answer) => console.log(answer.success));
  await admin.emitWithAck("admin:kick", {"userId":"ada"});
  plainAdmin.emit("admin:kick", {"userId":"ada"});
  plainAdmin.emit("admin:kick", {"userId":"ada"}, (answer) => console.log(answer.success));
  await plainAdmin.emitWithAck("admin:kick", {"userId":"ada"});
  if (!answer54.success) throw new Error(answer54.error.code);
  console.log(answer54.disconnected);
  console.log(answer54.missing);
  const answer55 = await admin.emitWithAck("admin:block", {"cidr":"192.0.2.0/24","reason":"a flood","seconds":3600});
  admin.emit("admin:block", {"cidr":"192.0.2.0/24","reason":"a flood","seconds":3600});
  admin.emit("admin:block", {"cidr":"192.0.2.0/24","reason":"a flood","seconds":3600}, (answer) => console.log(answer.success));
  await admin.emitWithAck("admin:block", {"cidr":"192.0.2.0/24","reason":"a flood","seconds":3600});
  plainAdmin.emit("admin:block", {"cidr":"192.0.2.0/24","reason":"a flood","seconds":3600});
  plainAdmin.emit("admin:block", {"cidr":"192.0.2.0/24","reason":"a flood","seconds":3600}, (answer) => console.log(answer.success));
  await plainAdmin.emitWithAck("admin:block", {"cidr":"192.0.2.0/24","reason":"a flood","seconds":3600});
  if (!answer55.success) throw new Error(answer55.error.code);
  console.log(answer55.cidr);
  console.log(answer55.expiresAt);
  console.log(answer55.id);
  const answer56 = await admin.emitWithAck("admin:stats", {});
  admin.emit("admin:stats", {});
  admin.emit("admin:stats", {}, (answer) => console.log(answer.success));
  await admin.emitWithAck("admin:stats", {});
  plainAdmin.emit("admin:stats", {});
  plainAdmin.emit("admin:stats", {}, (answer) => console.log(answer.success));
  await plainAdmin.emitWithAck("admin:stats", {});
  admin.emit("admin:stats");
  admin.emit("admin:stats", (answer) => console.log(answer.success));
  await admin.emitWithAck("admin:stats");
  plainAdmin.emit("admin:stats");
  plainAdmin.emit("admin:stats", (answer) => console.log(answer.success));
  await plainAdmin.emitWithAck("admin:stats");
  if (!answer56.success) throw new Error(answer56.error.code);
  console.log(answer56.adapter);
  console.log(answer56.adapterState);
  console.log(answer56.draining);
  console.log(answer56.node);
  console.log(answer56.nodes);
  console.log(answer56.queues);
  console.log(answer56.rooms);
  console.log(answer56.sessions);
  console.log(answer56.sockets);
  console.log(answer56.store);
  console.log(answer56.times);
  console.log(answer56.traffic);
  console.log(answer56.users);
}
