import type { App } from "../app.ts";
import type { ConversationInfo } from "../types.ts";

/**
 * Makes a request that changes a conversation. Returns the changed conversation, or `undefined` if
 * the request failed.
 */
export async function change(
  app: App,
  name: "create_conversation" | "rename_conversation" | "add_member" | "remove_member",
  payload: object,
): Promise<ConversationInfo | undefined> {
  const answer = (await app.request(name, payload as never)) as { conversation: ConversationInfo } | undefined;
  return answer?.conversation;
}

/** Creates a conversation and opens it. Does nothing more if the request failed. */
export async function begin(app: App, payload: { memberIds: readonly string[]; title?: string }): Promise<void> {
  const made = await change(app, "create_conversation", payload);
  if (made === undefined) return;
  app.inbox?.update(made);
  app.go({ id: made.id });
}
