import { type Entry, RequestError, type SocketManager } from "../../packages/client/src/index.ts";
import type { Failure, Requests } from "../types.ts";

/** The error code of a queue entry that the page itself has discarded. */
export const DISCARDED = "DISCARDED";

/** Idempotent changes. */
export type Change = "add_reaction" | "remove_reaction" | "pin_message" | "unpin_message" | "set_notification_level" | "edit_message" | "stop_message";

/** Processes the answer to a change. */
export type Take<Name extends Change> = (answer: Requests[Name]["answer"]) => void;

/**
 * Checks whether a refused change was already made, by an earlier attempt whose answer was lost.
 */
export type IsDone = (failure: Failure) => Promise<boolean>;

/**
 * Makes a change, with retries until the server has answered. Returns the failure if the change is
 * not done.
 */
export async function requestChange<Name extends Change>(
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

/**
 * Returns the notice for a change that is waiting, or `undefined` for messages, whose lines show
 * their state.
 */
export function waitingNotice({ event, state, attempts, failure }: Entry, isReady: boolean): string | undefined {
  if (event === "message" || event === "delete_message") return undefined;
  if (state === "queued" && attempts === 0 && !isReady) return "There is no connection. The change will be made after the reconnect.";
  // The notice is shown once, regardless of the number of attempts.
  if (attempts !== 1 || failure === undefined) return undefined;
  return state === "sending" ? "The change is not confirmed yet, trying again…" : "You are sending too fast. The change will be made soon.";
}
