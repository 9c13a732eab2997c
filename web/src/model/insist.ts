import { type Entry, RequestError, type SocketManager } from "../../packages/client/src/index.ts";
import type { Failure, Requests } from "../types.ts";

/** Why an entry of the queue is not answered that the page itself has given up. */
export const DISCARDED = "DISCARDED";

/** Changes that are the same when they are made twice. */
export type Change = "add_reaction" | "remove_reaction" | "pin_message" | "unpin_message" | "set_notification_level" | "edit_message";

/** Takes over the answer to a change. */
export type Take<Name extends Change> = (answer: Requests[Name]["answer"]) => void;

/** Finds out whether what was refused is so already, by an earlier attempt whose answer got lost. */
export type IsDone = (failure: Failure) => Promise<boolean>;

/** Makes a change, again and again until the server has answered; resolves with why it is not done, if it is not. */
export async function insist<Name extends Change>(
  connection: Pick<SocketManager, "send">,
  name: Name,
  payload: Requests[Name]["payload"],
  take: Take<Name>,
  isDone: IsDone = async () => false,
): Promise<Failure | undefined> {
  try {
    take(await connection.send(name, payload).answered);
    return undefined;
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    return (await isDone(error)) ? undefined : error;
  }
}

/** What whoever has made a change should know while it waits; nothing of messages, whose lines say it. */
export function waitingWords({ event, state, attempts, failure }: Entry, isReady: boolean): string | undefined {
  if (event === "message" || event === "delete_message") return undefined;
  if (state === "queued" && attempts === 0 && !isReady) return "There is no connection. The change is made when it is back.";
  // It is said once, however often it is tried.
  if (attempts !== 1 || failure === undefined) return undefined;
  return state === "sending" ? "The change is not confirmed yet, trying again…" : "You are sending too fast. The change is made soon.";
}
