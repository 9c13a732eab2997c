import type { ComponentChildren } from "preact";
import { Spoken, Time } from "../view/parts.tsx";
import { type Desk, SHOWN_ROOMS, unansweredText } from "./desk.ts";
import { type Entry, MAX_LISTED, typeInWords } from "./journal.ts";
import type { Node, Percentiles } from "./types.ts";
import { bytes, count, lasting, many, millis, percent } from "./words.ts";

/** Maximum number of shown servers. */
const SHOWN_SERVERS = 64;
/**
 * Age of the last heartbeat in milliseconds after which a server is shown as silent. Heartbeats
 * arrive about once a second.
 */
const SILENT_AFTER = 4_000;

/** A part of the page with its heading. */
export function Card({ title, size = "half", children }: { title: string; size?: "half" | "wide"; children: ComponentChildren }) {
  const id = `card-${title.toLowerCase().replaceAll(" ", "-")}`;
  return (
    <section class={`card ${size}`} aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {children}
    </section>
  );
}

/**
 * A table that scrolls horizontally if it is too wide, also by keyboard. Its first columns are
 * texts, the others numbers.
 */
export function Table({ name, heads, texts = 1, children }: { name: string; heads: readonly string[]; texts?: number; children: ComponentChildren }) {
  return (
    <div class="table" role="region" aria-label={name} tabIndex={0}>
      <table>
        <caption class="spoken">{name}</caption>
        <thead>
          <tr>
            {heads.map((head, index) => (
              <th key={head} scope="col" class={index < texts ? "text" : ""}>
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

export function Servers({ desk }: { desk: Desk }) {
  const { nodes } = desk;
  const own = desk.reading?.statistics.node;
  if (desk.denied.has("servers")) return <Denied title="Servers" permission="api:metrics" size="wide" />;
  return (
    <Card title="Servers" size="wide">
      {nodes.length === 0 ? (
        <p class="nothing">Loading…</p>
      ) : (
        <Table name="All servers" texts={3} heads={["Server", "State", "Version", "Up for", "Connections", "Sessions", "Rooms", "Waiting", "Lag", "Busy"]}>
          {nodes.slice(0, SHOWN_SERVERS).map((node) => (
            <tr key={node.name} data-node={node.id}>
              <th scope="row">
                <bdi>{node.id}</bdi>
                {node.id === own && <span class="tag">shown</span>}
              </th>
              <td class="text">{stateOf(node, desk)}</td>
              <td class="text">{node.version}</td>
              <td>{lasting(Date.now() - Date.parse(node.startedAt))}</td>
              <td>{count(node.load.connections)}</td>
              <td>{count(node.load.sessions)}</td>
              <td>{count(node.load.rooms)}</td>
              <td>{bytes(node.load.queuedBytes)}</td>
              <td>{millis(node.load.lag)}</td>
              <td>{percent(node.load.busy)}</td>
            </tr>
          ))}
        </Table>
      )}
      {nodes.length > SHOWN_SERVERS && <p class="nothing">{many(nodes.length - SHOWN_SERVERS, "more server")} not shown.</p>}
    </Card>
  );
}

function stateOf({ id, heartbeatAgeMs }: Node, desk: Desk): string {
  const statistics = desk.reading?.statistics;
  if (desk.journal.isDraining(id) || (statistics?.node === id && statistics.draining)) return "shutting down";
  return heartbeatAgeMs > SILENT_AFTER ? `silent for ${lasting(heartbeatAgeMs)}` : "up";
}

const times = [
  ["delivery", "Delivery"],
  ["processing", "Processing"],
  ["ping", "Ping round trip"],
] as const;

export function Times({ desk }: { desk: Desk }) {
  const statistics = desk.reading?.statistics;
  if (statistics === undefined) return null;
  const cells = ({ count: all, p50, p95, p99 }: Percentiles) => [millis(p50), millis(p95), millis(p99), count(all)];
  return (
    <Card title="Times">
      <Table name="Times since the start" heads={["What", "50 %", "95 %", "99 %", "Count"]}>
        {times.map(([field, name]) => (
          <tr key={field} data-time={field}>
            <th scope="row">{name}</th>
            {cells(statistics.times[field]).map((cell, index) => (
              <td key={index}>{cell}</td>
            ))}
          </tr>
        ))}
      </Table>
      <p class="nothing">Percentiles since the server was started.</p>
    </Card>
  );
}

export function Rooms({ desk }: { desk: Desk }) {
  const { rooms } = desk;
  if (desk.denied.has("rooms")) return <Denied title="Rooms" permission="api:rooms" />;
  return (
    <Card title="Rooms">
      {rooms === undefined ? (
        <p class="nothing">Loading…</p>
      ) : rooms.rooms.length === 0 ? (
        <p class="nothing">No socket is in a room.</p>
      ) : (
        <Table name="The largest rooms" heads={["Room", "Sockets"]}>
          {rooms.rooms.map(({ room, sockets }) => (
            <tr key={room}>
              <th scope="row" class="long">
                <bdi>{room}</bdi>
              </th>
              <td>{count(sockets)}</td>
            </tr>
          ))}
        </Table>
      )}
      {rooms?.hasMore && <p class="nothing">The {SHOWN_ROOMS} largest of all servers.</p>}
      {rooms !== undefined && rooms.missing > 0 && <p class="nothing">{unansweredText(rooms.missing)}</p>}
    </Card>
  );
}

export function Alerts({ desk }: { desk: Desk }) {
  const { alerts } = desk.journal;
  const [newest] = alerts;
  return (
    <Card title="Alerts">
      {/* Only the newest alert is announced, without the list. */}
      <Spoken>
        <span role="status">{newest === undefined ? "" : `${newest.node}: ${newest.text}`}</span>
      </Spoken>
      {alerts.length === 0 ? <p class="nothing">Nothing has failed in the last seven days.</p> : <Entries entries={alerts} />}
    </Card>
  );
}

export function Refusals({ desk }: { desk: Desk }) {
  const { reasons, refusals } = desk.journal;
  return (
    <Card title="Refusals">
      {refusals.length === 0 ? (
        <p class="nothing">Nothing was refused since this page was opened.</p>
      ) : (
        <>
          <Table name="Refusals by reason" texts={2} heads={["What", "Reason", "Times"]}>
            {reasons.map(({ type, reason, count: often }) => (
              <tr key={`${type} ${reason}`}>
                <th scope="row">{typeInWords(type)}</th>
                <td class="text">{reason}</td>
                <td>{count(often)}</td>
              </tr>
            ))}
          </Table>
          <h3>The latest</h3>
          <Entries entries={refusals} />
        </>
      )}
    </Card>
  );
}

/** A list of events, the newest first. A long list scrolls, also by keyboard. */
function Entries({ entries }: { entries: readonly Entry[] }) {
  return (
    <ul class="entries" tabIndex={0} aria-label={`The latest, ${MAX_LISTED} at most`}>
      {entries.map(({ id, text, node, at, isBad }) => (
        <li key={id} class={isBad ? "is-bad" : ""}>
          <span class="entry-text">
            <bdi>{text}</bdi>
          </span>
          <span class="entry-at">
            <bdi>{node}</bdi> <Time at={at} />
          </span>
        </li>
      ))}
    </ul>
  );
}

function Denied({ title, permission, size = "half" }: { title: string; permission: string; size?: "half" | "wide" }) {
  return (
    <Card title={title} size={size}>
      <p class="nothing">Your role does not permit this ({permission}).</p>
    </Card>
  );
}
