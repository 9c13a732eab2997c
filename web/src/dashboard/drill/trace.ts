/** A line of a trace, for people. */
export interface Happening {
  number: number;
  at: string;
  /** What happened, such as `received`. */
  step: string;
  /** The further fields. */
  more: string;
}

/** Fields that all lines of a socket or channel have in common, or that are shown otherwise. */
const HIDDEN = new Set(["at", "node", "step", "socket", "user", "channel"]);
/** Maximum characters of the further fields. */
const MAX_CHARS = 300;

/** Returns a line of a trace as a text. */
export function eventOf(number: number, line: Record<string, unknown>): Happening {
  const fields = Object.entries(line).flatMap(([name, value]) => {
    if (HIDDEN.has(name) || value === null || value === undefined) return [];
    return [`${name} ${typeof value === "string" ? value : JSON.stringify(value)}`];
  });
  const more = fields.join(", ");
  return {
    number,
    at: typeof line["at"] === "string" ? line["at"] : "",
    step: (typeof line["step"] === "string" ? line["step"] : "unknown").replaceAll("_", " "),
    more: more.length > MAX_CHARS ? `${more.slice(0, MAX_CHARS)}…` : more,
  };
}
