// Finds the lines that sources in Rust write to the log.

/** Returns the end of a string literal that starts at `at`. */
function endOfString(text, at) {
  for (let n = at + 1; n < text.length; n++) {
    if (text[n] === "\\") n++;
    else if (text[n] === '"') return n + 1;
  }
  throw new Error(`a string does not end: ${text.slice(at, at + 40)}`);
}

/** Splits the arguments of a macro whose parenthesis opens before `at`. */
function argumentsFrom(text, at) {
  const parts = [];
  let depth = 0;
  let start = at;
  for (let n = at; n < text.length; n++) {
    if (text[n] === '"') n = endOfString(text, n) - 1;
    else if (text.startsWith("//", n)) n = text.indexOf("\n", n);
    else if ("([{".includes(text[n])) depth++;
    else if (text[n] === ")" && depth === 0) return [...parts, text.slice(start, n)].map((part) => part.trim()).filter(Boolean);
    else if (")]}".includes(text[n])) depth--;
    else if (text[n] === "," && depth === 0) {
      parts.push(text.slice(start, n));
      start = n + 1;
    }
  }
  throw new Error("a macro does not end");
}

/** Returns the text of a literal, whose lines may be continued. */
const unquoted = (literal) => literal.slice(1, -1).replace(/\\\n\s*/g, "").replaceAll('\\"', '"').replaceAll("\\\\", "\\");

/** Returns each line of the log that a source writes: level, message and fields. */
export function logEvents(path, source) {
  if (/(^|\/)(tests|testing|fixtures)(\.rs$|\/)/.test(path) || path.startsWith("server/src/cli/connect")) return [];
  const text = source.split("\n#[cfg(test)]\nmod ")[0];
  const constants = new Map([...text.matchAll(/const ([A-Z_]+): &str =\s*("(?:[^"\\]|\\[\s\S])*");/g)].map(([, name, literal]) => [name, unquoted(literal)]));
  // The rest of a joined constant is a remedy.
  for (const [, name, literal] of text.matchAll(/const ([A-Z_]+): &str = concat!\(\s*("(?:[^"\\]|\\[\s\S])*"),/g)) constants.set(name, `${unquoted(literal).replace(/, and $/, "")} …`);
  const events = [];
  for (const found of text.matchAll(/\b(error|warn|info|debug|connection_log|throttled_log)!\(/g)) {
    const line = text.slice(text.lastIndexOf("\n", found.index) + 1, found.index);
    if (/^\s*\/\//.test(line)) continue;
    const parts = argumentsFrom(text, found.index + found[0].length);
    const at = parts.findIndex((part) => part.startsWith('"'));
    if (at < 0) continue;
    // The first argument of `connection_log` is the server, whose log it is, and that of
    // `throttled_log` the level. The latter counts what it has left out.
    const isThrottled = found[1] === "throttled_log";
    const hasFirst = isThrottled || found[1] === "connection_log";
    const level = isThrottled ? parts[0] : hasFirst ? "info" : found[1];
    const more = isThrottled ? ["more"] : [];
    const fields = [...more, ...parts.slice(hasFirst ? 1 : 0, at)].filter((part) => !/^(target|parent|name):/.test(part));
    const names = fields.map((part) => part.split("=")[0].trim().replace(/^[%?]/, ""));
    const message = unquoted(parts[at]).replace(/\{([A-Z_]+)\}/g, (braces, name) => constants.get(name) ?? braces);
    // A message of another place.
    if (/^\{\w+\}$/.test(message)) continue;
    events.push({ level, message, fields: names.map((name) => name.split(".").at(-1)) });
  }
  return events;
}
