// Generates values of a JSON Schema, at its limits and at random, and values that it forbids.
import fc from "fast-check";

const SEED = 27;
/**
 * Texts for patterns: of all planes, with spaces, control and invisible characters, and some that
 * look like ids or addresses.
 */
const TEXTS = [
  "", " ", "x", "ada", "Zoë", "7", "\u{1f600}", "a\u{301}", "a b", "a\tb", "a\nb", "a\u0000b", "a\u0085b", "a\u200bb", "a\ufeffb", "a\u{e0041}b", "\u00a0", "\u3000",
  "mention:x", "guest:x", "conversation:x", "👍", "👍🏽", "🇩🇪", "1️⃣", "👩‍👩‍👧", "👍👍", "https://example.org/a?b#c", "https://exa mple.org", "http://[::1]:80/", "http://127.1/",
  "192.0.2.1", "192.0.2.0/24", "2001:db8::/32", "192.0.2.0/33", "2025-01-31T12:00:00Z", "2025-02-30T12:00:00Z", "2024-02-29T00:00:00.5+01:00", "2016-12-31T23:59:60Z",
  "0f8fad5b-d9cb-469f-a165-70867728950e", "0F8FAD5B-D9CB-469F-A165-70867728950E", "0f8fad5bd9cb469fa16570867728950e", "7.0a1b2c3d", "7.x",
  Array(16).fill("w").join(" "), Array(17).fill("w").join(" "), "/path", "//host", "BTC/USD",
];
const FILLERS = ["x", "é", "\u{1f600}"];
const NUMBERS = [0, 1, 7, 0.5, 0.8, 50, -1, 1.5, 100, 1e15, 1e15 + 1, -1e15, 2 ** 53, 2 ** 63, 2 ** 64, 1e300];
const OTHERS = [null, true, 7, "x", [], {}, [[]], { a: null }];

/** Returns the values of a list without duplicates. */
const unique = (values) => [...new Map(values.map((value) => [JSON.stringify(value), value])).values()];

/**
 * Generates values for the schemas of a document; `check(schema)` decides whether a value matches.
 */
export function maker(document, check) {
  const resolve = (schema) => (schema.$ref === undefined ? schema : document.$defs[schema.$ref.split("/").at(-1)]);
  const typesOf = ({ type }) => [type].flat().filter((type) => type !== undefined);

  function texts({ pattern, minLength = 0, maxLength = 20_000 }) {
    const lengths = [minLength - 1, minLength, maxLength, maxLength + 1].filter((length) => length >= 0);
    const filled = FILLERS.flatMap((filler) => lengths.map((length) => filler.repeat(length)));
    return [...TEXTS, ...filled, ...matching(pattern)];
  }

  function matching(pattern) {
    // Unicode properties cannot be generated; the texts above contain words.
    if (pattern === undefined || pattern.includes("\\p{")) return [];
    return fc.sample(fc.stringMatching(new RegExp(pattern, "u")), { seed: SEED, numRuns: 12 });
  }

  function numbers({ minimum, maximum, exclusiveMinimum, exclusiveMaximum }) {
    const bounds = [minimum, maximum, exclusiveMinimum, exclusiveMaximum].filter((bound) => bound !== undefined);
    return [...NUMBERS, ...bounds.flatMap((bound) => [bound - 1, bound, bound + 1])];
  }

  function arrays({ items, minItems = 0, maxItems = 3 }) {
    const good = valid(items).slice(0, 40);
    const wrong = invalid(items).slice(0, 10);
    // The schema may require unique items.
    const many = (length) => Array.from({ length }, (_, n) => (good.includes("x") ? `x${n}` : good[n % good.length]));
    const lengths = [minItems - 1, minItems, maxItems, maxItems + 1].filter((length) => length >= 0);
    return [...lengths.map(many), ...good.map((item) => [item]), ...wrong.map((item) => [item]), [good[0], good[0]]];
  }

  function objects(schema) {
    const { properties = {}, required = [] } = schema;
    const names = Object.keys(properties);
    const first = (name) => valid(properties[name]).find((value) => value !== null) ?? null;
    const least = Object.fromEntries(required.map((name) => [name, first(name)]));
    const made = [least, Object.fromEntries(names.map((name) => [name, first(name)])), {}];
    // An object whose fields exclude each other has a base for each of them.
    const bases = [least, ...names.filter((name) => !required.includes(name)).map((name) => ({ ...least, [name]: first(name) }))].filter(check(schema));
    for (const base of bases.length > 0 ? bases : [least]) {
      for (const name of names) {
        const values = [...valid(properties[name]), ...invalid(properties[name])];
        made.push(...values.map((value) => ({ ...base, [name]: value })));
        const { [name]: _, ...without } = base;
        made.push(without);
      }
    }
    return [...made, { ...least, another: 1 }, [least], Object.values(least)];
  }

  /** Returns values that a schema may or may not allow. */
  function candidates(schema) {
    const plain = resolve(schema);
    if (plain.const !== undefined) return [plain.const, ...OTHERS];
    if (plain.enum !== undefined) return [...plain.enum, ...plain.enum.map((word) => ({ [word]: null })), "another", ...OTHERS];
    const choices = (plain.properties ? undefined : (plain.anyOf ?? plain.oneOf)) ?? [];
    const made = choices.flatMap(candidates);
    for (const type of typesOf(plain)) {
      if (type === "string") made.push(...texts(plain));
      if (type === "integer" || type === "number") made.push(...numbers(plain));
      if (type === "array") made.push(...arrays(plain));
      if (type === "object") made.push(...objects(plain));
    }
    return unique([...made, true, false, ...OTHERS]);
  }

  const known = new Map();
  function made(schema) {
    const key = JSON.stringify(schema);
    if (!known.has(key)) {
      const values = candidates(schema);
      const isValid = check(schema);
      known.set(key, { valid: values.filter((value) => isValid(value)), invalid: values.filter((value) => !isValid(value)) });
    }
    return known.get(key);
  }
  function valid(schema) {
    return made(schema).valid;
  }
  function invalid(schema) {
    return made(schema).invalid;
  }
  return { valid, invalid };
}
