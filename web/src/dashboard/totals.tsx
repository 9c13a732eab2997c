import type { ComponentChildren } from "preact";
import type { Desk } from "./desk.ts";
import type { Server } from "./types.ts";
import { age, bytes, count, many, millis, nodeId, rate } from "./words.ts";

/** The totals and rates of all servers. */
export function Figures({ desk }: { desk: Desk }) {
  const { cluster } = desk;
  if (cluster === undefined) return <p class="card wide">Loading…</p>;
  const { servers, total } = cluster;
  const { sessions, sockets, users, rooms, queues } = total;
  const old = desk.oldness("figures");
  const rates = desk.points.items.at(-1)?.rates;
  const each = (value: number | undefined, inWords: (value: number) => string) => (value === undefined ? "–" : `${inWords(value)}/s`);
  const largest = Math.max(0, ...servers.map(({ statistics }) => statistics.rooms.largest));
  const stores = wordOf(servers, ({ statistics }) => statistics.store);
  const adapters = wordOf(servers, ({ statistics }) => statistics.adapter);
  const draining = servers.filter(({ statistics }) => statistics.draining).map(({ name }) => nodeId(name));
  return (
    <section class="wide" aria-label="Figures">
      <dl class="totals">
        <Total old={old} name="Connections" more={`WebSocket ${count(sessions.websocket)}, polling ${count(sessions.polling)}`}>
          {count(sessions.total)}
        </Total>
        <Total old={old} name="Users" more={`${many(sockets, "socket")} in all namespaces`}>
          {count(users)}
        </Total>
        <Total old={old} name="Rooms" more={`the largest has ${many(largest, "socket")}${servers.length > 1 ? " on a server" : ""}`}>
          {count(rooms)}
        </Total>
        <Total old={old} name="Events in" more={each(rates?.bytesReceived, bytes)}>
          {each(rates?.received, rate)}
        </Total>
        <Total old={old} name="Events out" more={each(rates?.bytesSent, bytes)}>
          {each(rates?.sent, rate)}
        </Total>
        <Total old={old} name="Waiting to be sent" more={`${many(queues.acksPending, "acknowledgement")}, ${many(queues.polls, "poll")}`}>
          {bytes(queues.bytes)}
        </Total>
        <Total old={old} name="Store" isState more={stores.more ?? (draining.length > 0 ? `${draining.join(", ")}: shutting down` : "stores messages")} isBad={stores.word !== "ok"}>
          {stores.word}
        </Total>
        <Total old={old} name="Adapter" isState more={adapters.more ?? adapterInWords(servers)} isBad={adapters.word !== "ok" && adapters.word !== "none"}>
          {adapters.word}
        </Total>
      </dl>
    </section>
  );
}

/** Returns the worst word of all servers, and for a failure the servers that have it. */
function wordOf(servers: readonly Server[], read: (server: Server) => string): { word: string; more?: string } {
  const failing = servers.filter((server) => !["ok", "none"].includes(read(server)));
  if (failing[0] === undefined) return { word: servers.map(read).find((word) => word === "ok") ?? "none" };
  return { word: read(failing[0]), ...(servers.length > 1 && { more: `on ${failing.map(({ name }) => nodeId(name)).join(", ")}` }) };
}

function adapterInWords(servers: readonly Server[]): string {
  const states = servers.flatMap(({ statistics }) => statistics.adapterState ?? []);
  if (states.length === 0) return "no other servers";
  const sum = (field: "queued" | "lost" | "gaps") => states.reduce((sum, state) => sum + state[field], 0);
  const lags = states.flatMap(({ lag }) => lag ?? []);
  const lag = lags.length === 0 ? undefined : Math.max(...lags);
  return `${many(sum("queued"), "message waits", "messages wait")}, ${count(sum("lost"))} lost, ${many(sum("gaps"), "gap", "gaps")}, lag ${millis(lag)}`;
}

interface TotalProps {
  name: string;
  more: string;
  /** The age of the value in milliseconds, if it is old. */
  old: number | undefined;
  isBad?: boolean;
  /** Whether the value is a state, which must not be taken for the current one. */
  isState?: boolean;
  children: ComponentChildren;
}

function Total({ name, more, old, isBad = false, isState = false, children }: TotalProps) {
  const isOld = old !== undefined;
  return (
    <div class={`card total${isBad ? " is-bad" : ""}${isOld ? " is-old" : ""}`} data-total={name}>
      <dt>{name}</dt>
      <dd class="total-value">
        {isOld && isState && "was "}
        {children}
      </dd>
      <dd class="total-more">{isOld ? age(old) : more}</dd>
    </div>
  );
}
