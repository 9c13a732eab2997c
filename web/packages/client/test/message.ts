import type { Message } from "../src/types.ts";

/** Returns a stored message with the given number, by Ada unless specified otherwise. */
export function message(seq: number, fields: Partial<Message> = {}): Message {
  return {
    id: `id-${seq}`,
    conversationId: "lobby",
    seq,
    userId: "ada",
    userName: "Ada",
    content: `message ${seq}`,
    type: "user",
    metadata: {},
    createdAt: new Date(Date.UTC(2026, 0, 5, 12, seq)).toISOString(),
    version: 1,
    ...fields,
  };
}
