// A client that uses every event, compiled strictly by `package.test.ts` against the packed package. Written by the
// test of the server that writes `src/types.ts`, with the examples of the catalogue of events.
import type { ClientToServerEvents, ServerToClientEvents } from "@roomcast/client";
import { type Socket, io } from "socket.io-client";

const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io();

/** Every event that the server sends. */
export const heard: { [Name in keyof ServerToClientEvents]: Parameters<ServerToClientEvents[Name]>[0] } = {
  "message": {"content":"hello","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","createdAt":"2025-01-31T12:00:00.000Z","id":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","metadata":{},"seq":7,"type":"user","userId":"ada","userName":"Ada","version":1},
  "message_edited": {"content":"hello, Bob","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","createdAt":"2025-01-31T12:00:00.000Z","editedAt":"2025-01-31T12:01:00.000Z","id":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","metadata":{},"seq":7,"type":"user","userId":"ada","userName":"Ada","version":2},
  "message_deleted": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","deletedAt":"2025-01-31T12:00:00.000Z","deletedBy":"ada","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","seq":7},
  "message_delivered": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","delivered":2,"expected":2,"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","timedOut":false},
  "message_read": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","seq":7,"userId":"ada"},
  "user_joined": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","name":"Ada","timestamp":"2025-01-31T12:00:00.000Z","type":"system","userId":"ada"},
  "user_left": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","name":"Ada","timestamp":"2025-01-31T12:00:00.000Z","type":"system","userId":"ada"},
  "user_disconnected": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","name":"Ada","timestamp":"2025-01-31T12:00:00.000Z","type":"system","userId":"ada"},
  "presence": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","count":1,"users":[{"connections":1,"name":"Ada","since":"2025-01-31T12:00:00.000Z","userId":"ada"}]},
  "typing": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","isTyping":true,"name":"Ada","timestamp":"2025-01-31T12:00:00.000Z","userId":"ada"},
  "conversation_updated": {"conversation":{"createdAt":"2025-01-31T12:00:00.000Z","id":"0f8fad5b-d9cb-469f-a165-70867728950e","memberIds":["ada","bob"],"ownerId":"ada","title":"Engines","updatedAt":"2025-01-31T12:00:00.000Z"},"timestamp":"2025-01-31T12:00:00.000Z"},
  "conversation_deleted": {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","deletedAt":"2025-01-31T12:00:00.000Z","deletedBy":"ada"},
  "session": {"expiresAt":"2025-01-31T12:00:00.000Z","guest":false,"name":"Ada","roles":[],"userId":"ada"},
  "error": {"code":"RATE_LIMITED","event":"typing","message":"too many events of this kind, try again later","retryAfter":200,"status":429,"type":"rateLimit"},
  "auth:expiring": {"expiresAt":"2025-01-31T12:00:00.000Z"},
};

/** Sends every event that clients send. */
export async function talk(): Promise<void> {
  socket.on("message", (payload, confirm) => console.log(payload.content, payload.conversationId, payload.createdAt, payload.id, payload.metadata, payload.seq, payload.type, payload.userId, payload.userName, payload.version, confirm?.()));
  socket.on("message_edited", (payload) => console.log(payload.content, payload.conversationId, payload.createdAt, payload.editedAt, payload.id, payload.metadata, payload.seq, payload.type, payload.userId, payload.userName, payload.version));
  socket.on("message_deleted", (payload) => console.log(payload.conversationId, payload.deletedAt, payload.deletedBy, payload.messageId, payload.seq));
  socket.on("message_delivered", (payload) => console.log(payload.conversationId, payload.delivered, payload.expected, payload.messageId, payload.timedOut));
  socket.on("message_read", (payload) => console.log(payload.conversationId, payload.seq, payload.userId));
  socket.on("user_joined", (payload) => console.log(payload.conversationId, payload.name, payload.timestamp, payload.type, payload.userId));
  socket.on("user_left", (payload) => console.log(payload.conversationId, payload.name, payload.timestamp, payload.type, payload.userId));
  socket.on("user_disconnected", (payload) => console.log(payload.conversationId, payload.name, payload.timestamp, payload.type, payload.userId));
  socket.on("presence", (payload) => console.log(payload.conversationId, payload.count, payload.users));
  socket.on("typing", (payload) => console.log(payload.conversationId, payload.isTyping, payload.name, payload.timestamp, payload.userId));
  socket.on("conversation_updated", (payload) => console.log(payload.conversation, payload.timestamp));
  socket.on("conversation_deleted", (payload) => console.log(payload.conversationId, payload.deletedAt, payload.deletedBy));
  socket.on("session", (payload) => console.log(payload.expiresAt, payload.guest, payload.name, payload.roles, payload.userId));
  socket.on("error", (payload) => console.log(payload.code, payload.event, payload.message, payload.retryAfter, payload.status, payload.type));
  socket.on("auth:expiring", (payload) => console.log(payload.expiresAt));
  const answer0 = await socket.emitWithAck("message", {"clientMessageId":"5f1d","confirmDelivery":true,"content":"hello","conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","metadata":{"imageUrl":"https://example.org/ada.png","timestamp":"2025-01-31T12:00:00Z"},"type":"user"});
  if (!answer0.success) throw new Error(answer0.error.code);
  console.log(answer0.message);
  const answer1 = await socket.emitWithAck("edit_message", {"content":"hello, Bob","messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11","version":1});
  if (!answer1.success) throw new Error(answer1.error.code);
  console.log(answer1.message);
  const answer2 = await socket.emitWithAck("delete_message", {"messageId":"0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11"});
  if (!answer2.success) throw new Error(answer2.error.code);
  console.log(answer2.message);
  const answer3 = await socket.emitWithAck("join_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":6});
  if (!answer3.success) throw new Error(answer3.error.code);
  console.log(answer3.conversation);
  console.log(answer3.hasMore);
  console.log(answer3.messages);
  console.log(answer3.users);
  const answer4 = await socket.emitWithAck("leave_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  if (!answer4.success) throw new Error(answer4.error.code);
  const answer5 = await socket.emitWithAck("typing", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","isTyping":true});
  if (!answer5.success) throw new Error(answer5.error.code);
  const answer6 = await socket.emitWithAck("presence", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  if (!answer6.success) throw new Error(answer6.error.code);
  console.log(answer6.conversationId);
  console.log(answer6.count);
  console.log(answer6.users);
  const answer7 = await socket.emitWithAck("message_history", {"beforeSeq":8,"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","limit":1});
  if (!answer7.success) throw new Error(answer7.error.code);
  console.log(answer7.hasMore);
  console.log(answer7.messages);
  const answer8 = await socket.emitWithAck("mark_read", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","seq":7});
  if (!answer8.success) throw new Error(answer8.error.code);
  console.log(answer8.seq);
  console.log(answer8.unread);
  const answer9 = await socket.emitWithAck("message_search", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","query":"hello"});
  if (!answer9.success) throw new Error(answer9.error.code);
  console.log(answer9.hasMore);
  console.log(answer9.messages);
  const answer10 = await socket.emitWithAck("create_conversation", {"memberIds":["bob"],"title":"Engines"});
  if (!answer10.success) throw new Error(answer10.error.code);
  console.log(answer10.conversation);
  const answer11 = await socket.emitWithAck("rename_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","title":"Engines"});
  if (!answer11.success) throw new Error(answer11.error.code);
  console.log(answer11.conversation);
  const answer12 = await socket.emitWithAck("delete_conversation", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  if (!answer12.success) throw new Error(answer12.error.code);
  console.log(answer12.conversationId);
  console.log(answer12.deletedAt);
  console.log(answer12.deletedBy);
  const answer13 = await socket.emitWithAck("conversations", {"limit":20});
  if (!answer13.success) throw new Error(answer13.error.code);
  console.log(answer13.conversations);
  console.log(answer13.hasMore);
  const answer14 = await socket.emitWithAck("add_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"bob"});
  if (!answer14.success) throw new Error(answer14.error.code);
  console.log(answer14.conversation);
  const answer15 = await socket.emitWithAck("remove_member", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","userId":"eve"});
  if (!answer15.success) throw new Error(answer15.error.code);
  console.log(answer15.conversation);
  const answer16 = await socket.emitWithAck("create_invite", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","expiresIn":86400,"uses":5});
  if (!answer16.success) throw new Error(answer16.error.code);
  console.log(answer16.expiresAt);
  console.log(answer16.token);
  const answer17 = await socket.emitWithAck("preview_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"});
  if (!answer17.success) throw new Error(answer17.error.code);
  console.log(answer17.conversation);
  console.log(answer17.expiresAt);
  console.log(answer17.isMember);
  const answer18 = await socket.emitWithAck("join_invite", {"token":"mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY"});
  if (!answer18.success) throw new Error(answer18.error.code);
  console.log(answer18.conversation);
  const answer19 = await socket.emitWithAck("revoke_invites", {"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e"});
  if (!answer19.success) throw new Error(answer19.error.code);
  console.log(answer19.revoked);
  const answer20 = await socket.emitWithAck("auth:refresh", {"token":"eyJhbGciOiJFUzI1NiJ9…"});
  if (!answer20.success) throw new Error(answer20.error.code);
  console.log(answer20.expiresAt);
}
