// A request with valid values for each operation of the OpenAPI document.

const UUID = "00000000-0000-4000-8000-000000000001";

/**
 * Values of parameters and fields by name, where any value of the type would tell a reader nothing.
 */
const examples = {
  userId: "ann", user: "ann", ownerId: "ann", id: UUID, room: "lobby", emoji: "👍", symbol: "BTC-USD", signalId: "signal-1", tradeId: "trade-1",
  notificationId: "note-1", providerId: "desk", providerName: "Desk", channelId: "crypto", title: "Order 4711", content: "hello", message: "It is on its way.",
  event: "order:shipped", args: [{ order: 4711 }], users: ["ann"], userIds: ["ann"], cidr: "192.0.2.0/24", reason: "floods", jti: "4711", level: "info",
  memberIds: ["ann", "bob"], ttlSeconds: 3600, timestamp: "2026-01-31T12:00:00.000Z", price: 64000.5, entryPrice: 64000, stopLoss: 63000, takeProfit: 66000,
  confidence: 80, quantity: 0.5, executedPrice: 64000, totalValue: 10000, cash: 1000, avgPrice: 60000, actionUrl: null, text: "in a meeting", status: "away",
  locale: "en", search: "ann", channel: "orders:7:42",
};

/** Returns a valid value of a schema. */
function sample(schema, document, name = "") {
  if (schema.$ref) return sample(document.components.schemas[schema.$ref.split("/").at(-1)], document, name);
  if (schema.const !== undefined) return schema.const;
  const types = [schema.type].flat();
  if (schema.enum) return schema.enum.includes(examples[name]) ? examples[name] : schema.enum[0];
  if (examples[name] !== undefined && !schema.properties) return examples[name];
  if (schema.examples?.length) return schema.examples[0];
  for (const list of ["oneOf", "anyOf"]) if (schema[list]) return sample(schema[list][0], document, name);
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map((part) => sample(part, document, name)));
  if (schema.properties || types.includes("object")) {
    const required = schema.required ?? [];
    return Object.fromEntries(required.map((field) => [field, sample(schema.properties[field] ?? {}, document, field)]));
  }
  if (types.includes("array")) return schema.minItems === 0 || !schema.items ? [] : [sample(schema.items, document, name.replace(/s$/, ""))];
  if (types.includes("integer") || types.includes("number")) return schema.minimum ?? 1;
  if (types.includes("boolean")) return true;
  if (schema.format === "date-time") return examples.timestamp;
  if (schema.format === "uuid") return UUID;
  return "text";
}

const note = { userId: "ann", notificationId: "note-1", type: "info", priority: "normal", title: "Order 4711", message: "It is on its way." };
const trade = { userId: "ann", tradeId: "trade-1", symbol: "BTC-USD", status: "pending", quantity: 0.5 };

const change = { event: "order:updated", data: { status: "shipped" }, id: "42-shipped" };

/** Bodies of schemas that give a choice, and of channels, whose ids are any text. */
const bodies = {
  publishToChannel: change,
  publishToChannels: { events: [{ channel: "orders:7:42", ...change }] },
  emit: { event: "order:shipped", users: ["ann"], args: [{ order: 4711 }] },
  notify: note,
  correctNotification: note,
  withdrawNotification: { userId: "ann", notificationId: "note-1" },
  publishTrade: trade,
  correctTrade: trade,
};

/** Fields that make a request meaningful although the schema does not require them. */
const added = {
  createConversation: { title: "Order 4711", memberIds: ["ann", "bob"] },
  sendMessage: { userId: "ann" },
  addBlock: { seconds: 3600 },
};

/** Returns the fields of an object, with `?` if they may be absent, or of each choice. */
function fieldsOf(schema, document) {
  if (schema?.$ref) return fieldsOf(document.components.schemas[schema.$ref.split("/").at(-1)], document);
  if (schema?.anyOf) return schema.anyOf.map((choice) => fieldsOf(choice, document)).filter(Boolean).join(" or ");
  const required = schema?.required ?? [];
  return Object.keys(schema?.properties ?? {}).map((field) => `\`${field}${required.includes(field) ? "" : "?"}\``).join(", ");
}

/** Paths with a user instead of a UUID or the id of an entry. */
function filled(path, parameters, document) {
  return path.replace(/\{(\w+)\}/g, (_, name) => {
    const { schema } = parameters.find((parameter) => parameter.name === name);
    const isUuid = JSON.stringify(schema).includes("[0-9a-f]{4}") || schema.format === "uuid";
    if (name === "id" && /\/(users|subscribers)\/\{id\}/.test(path)) return "ann";
    if (name === "id" && path.includes("/channels/")) return change.id;
    const value = name === "id" && !isUuid && path.includes("/signals/") ? "signal-1" : sample(schema, document, name);
    return encodeURIComponent(value).replaceAll("%3A", ":");
  });
}

/** Returns all operations with a valid request. */
export function requests(document) {
  const methods = ["get", "post", "put", "patch", "delete"];
  return Object.entries(document.paths).flatMap(([path, item]) =>
    methods.filter((method) => item[method]).map((method) => request(method, path, item, document)),
  );
}

function request(method, path, item, document) {
  const operation = item[method];
  const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])];
  const query = parameters.filter((parameter) => parameter.in === "query");
  const needed = query.filter(({ name, required }) => required || (path.endsWith("/trace") && name === "userId")).map(({ name, schema }) => `${name}=${encodeURIComponent(sample(schema, document, name))}`);
  const target = filled(path, parameters, document) + (needed.length ? `?${needed.join("&")}` : "");
  const content = operation.requestBody?.content["application/json"]?.schema;
  const id = operation.operationId;
  const body = content && (bodies[id] ?? { ...sample(content, document), ...added[id] });
  const isWrite = method !== "get";
  const lines = [`curl --fail-with-body -X ${method.toUpperCase()} -H "Authorization: Bearer $TOKEN"`];
  if (isWrite && JSON.stringify(parameters).includes("Idempotency-Key")) lines.push(`  -H 'Idempotency-Key: example-1'`);
  if (body) lines.push(`  -H 'Content-Type: application/json' -d '${JSON.stringify(body)}'`);
  if (operation.requestBody?.content["text/plain"]) lines.push(`  -H 'Content-Type: text/plain' -d 'hello'`);
  lines.push(`  "$URL${target}"`);
  if (method === "get") lines[0] = lines[0].replace("-X GET ", "");
  const status = Object.keys(operation.responses).find((code) => code < 300);
  const errors = Object.keys(operation.responses).filter((code) => code >= 400);
  const answered = operation.responses[status].content;
  const media = answered && Object.keys(answered)[0];
  const name = answered?.[media].schema?.$ref?.split("/").at(-1);
  const fields = fieldsOf(document.components.schemas[name], document);
  const answer = `Answer: ${status}${fields ? ` with ${fields}` : ""}${media && media !== "application/json" ? ` (${media})` : ""}. Errors: ${errors.join(", ")}.`;
  return { method: method.toUpperCase(), path, target, body, operation, query, curl: lines.join(" \\\n"), answer };
}
