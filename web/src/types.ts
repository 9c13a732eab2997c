/** The shapes on the wire are those of the client package, whose sources are part of the page. */
export type { Failure } from "../packages/client/src/failure.ts";
export type * from "../packages/client/src/types.ts";
