import type { ComponentChildren } from "preact";
import type { Desk } from "./desk.ts";
import type { Statistics } from "./types.ts";
import { bytes, count, many, millis, rate } from "./words.ts";

/** The totals and rates of the server. */
export function Figures({ desk }: { desk: Desk }) {
  const { reading } = desk;
  if (reading === undefined) return <p class="card wide">Loading…</p>;
  const { sessions, sockets, users, rooms, queues, store, adapter, adapterState, draining } = reading.statistics;
  const rates = desk.points.items.at(-1)?.rates;
  const each = (value: number | undefined, inWords: (value: number) => string) => (value === undefined ? "–" : `${inWords(value)}/s`);
  return (
    <section class="wide" aria-label="Figures">
      <dl class="totals">
        <Total name="Connections" more={`WebSocket ${count(sessions.websocket)}, polling ${count(sessions.polling)}`}>
          {count(sessions.total)}
        </Total>
        <Total name="Users" more={`${many(sockets, "socket")} in all namespaces`}>
          {count(users)}
        </Total>
        <Total name="Rooms" more={`the largest has ${many(rooms.largest, "socket")}`}>
          {count(rooms.count)}
        </Total>
        <Total name="Events in" more={each(rates?.bytesReceived, bytes)}>
          {each(rates?.received, rate)}
        </Total>
        <Total name="Events out" more={each(rates?.bytesSent, bytes)}>
          {each(rates?.sent, rate)}
        </Total>
        <Total name="Waiting to be sent" more={`${many(queues.acksPending, "acknowledgement")}, ${many(queues.polls, "poll")}`}>
          {bytes(queues.bytes)}
        </Total>
        <Total name="Store" more={draining ? "this server is shutting down" : "stores messages"} isBad={store !== "ok"}>
          {store}
        </Total>
        <Total name="Adapter" more={adapterInWords(adapter, adapterState)} isBad={adapter !== "ok" && adapter !== "none"}>
          {adapter}
        </Total>
      </dl>
    </section>
  );
}

function adapterInWords(adapter: string, state: Statistics["adapterState"]): string {
  if (state === undefined) return adapter === "none" ? "no other servers" : "connects servers";
  return `${many(state.queued, "message waits", "messages wait")}, ${count(state.lost)} lost, ${many(state.gaps, "gap", "gaps")}, lag ${millis(state.lag)}`;
}

function Total({ name, more, isBad = false, children }: { name: string; more: string; isBad?: boolean; children: ComponentChildren }) {
  return (
    <div class={isBad ? "card total is-bad" : "card total"} data-total={name}>
      <dt>{name}</dt>
      <dd class="total-value">{children}</dd>
      <dd class="total-more">{more}</dd>
    </div>
  );
}
