import type { ComponentChildren } from "preact";
import { Spoken, Time } from "../view/parts.tsx";
import { shortDay } from "../words/time.ts";
import { Chart, type ChartProps } from "./chart.tsx";
import type { Desk } from "./desk.ts";
import { type Entry, MAX_LISTED, typeInWords } from "./journal.ts";
import type { SortHead } from "./sorted.ts";
import type { Node, Percentiles, Server, Times as AllTimes } from "./types.ts";
import { age, bytes, count, lasting, many, millis, nodeId, percent } from "./words.ts";

/** Maximum number of shown servers. */
const SHOWN_SERVERS = 64;
/**
 * Age of the last heartbeat in milliseconds after which a server is shown as silent. Heartbeats
 * arrive about once a second.
 */
const SILENT_AFTER = 4_000;

/** A part of the page with its heading. Old data is grey, with its age in milliseconds. */
export function Card({ title, size = "half", old, children }: { title: string; size?: "half" | "wide"; old?: number | undefined; children: ComponentChildren }) {
  const id = `card-${title.toLowerCase().replaceAll(" ", "-")}`;
  return (
    <section class={`card ${size} ${old === undefined ? "" : "is-old"}`} aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      <Age old={old} />
      {children}
    </section>
  );
}

/** The age of old data. */
export function Age({ old }: { old: number | undefined }) {
  return old === undefined ? null : <p class="age">{age(old)}</p>;
}

/** A card with a chart. */
export function ChartCard<Point extends { at: number }>({ label, old, ...chart }: { label: string; old: number | undefined } & ChartProps<Point>) {
  return (
    <section class={`card half${old === undefined ? "" : " is-old"}`} aria-label={label}>
      <Age old={old} />
      <Chart {...chart} />
    </section>
  );
}

interface TableProps {
  name: string;
  heads: readonly (string | SortHead)[];
  texts?: number;
  /** Whether a long table scrolls vertically. */
  isTall?: boolean;
  foot?: ComponentChildren;
  children: ComponentChildren;
}

/**
 * A table that scrolls horizontally if it is too wide, also by keyboard. Its first columns are
 * texts, the others numbers.
 */
export function Table({ name, heads, texts = 1, isTall = false, foot, children }: TableProps) {
  return (
    <div class={isTall ? "table is-tall" : "table"} role="region" aria-label={name} tabIndex={0}>
      <table>
        <caption class="spoken">{name}</caption>
        <thead>
          <tr>
            {heads.map((head, index) => (
              <th key={typeof head === "string" ? head : head.name} scope="col" class={index < texts ? "text" : ""} aria-sort={typeof head === "string" ? undefined : head.sorted}>
                {typeof head === "string" ? head : <SortButton head={head} />}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
        {foot !== undefined && <tfoot>{foot}</tfoot>}
      </table>
    </div>
  );
}

/** Sorts a table by one of its columns. */
function SortButton({ head: { name, sorted, onSort } }: { head: SortHead }) {
  return (
    <button class="sort" type="button" onClick={onSort}>
      {name}
      <span aria-hidden="true">{sorted === undefined ? "" : sorted === "ascending" ? " ↑" : " ↓"}</span>
    </button>
  );
}

export function Servers({ desk }: { desk: Desk }) {
  const { nodes, cluster } = desk;
  if (desk.denied.has("servers")) return <Denied title="Servers" permission="api:metrics" size="wide" />;
  const byName = new Map(cluster?.servers.map((server) => [server.name, server]));
  const total = cluster?.total;
  return (
    <Card title="Servers" size="wide" old={desk.oldness("servers")}>
      {nodes.length === 0 ? (
        <p class="nothing">Loading…</p>
      ) : (
        <Table
          name="All servers"
          texts={3}
          heads={["Server", "State", "Version", "Up for", "Connections", "Users", "Sockets", "Rooms", "Waiting", "Lag", "Busy"]}
          foot={
            nodes.length > 1 &&
            total !== undefined && (
              <tr data-node-total>
                <th scope="row" colSpan={4}>
                  Total of {many(cluster?.servers.length ?? 0, "server")}
                </th>
                <td>{count(total.sessions.total)}</td>
                <td>{count(total.users)}</td>
                <td>{count(total.sockets)}</td>
                <td>{count(total.rooms)}</td>
                <td>{bytes(total.queues.bytes)}</td>
                <td colSpan={2}></td>
              </tr>
            )
          }
        >
          {nodes.slice(0, SHOWN_SERVERS).map((node) => (
            <ServerRow key={node.name} node={node} server={byName.get(node.name)} desk={desk} />
          ))}
        </Table>
      )}
      {nodes.length > SHOWN_SERVERS && <p class="nothing">{many(nodes.length - SHOWN_SERVERS, "more server")} not shown.</p>}
      {nodes.length > 1 && <p class="nothing">Users and rooms of several servers count at each of them.</p>}
    </Card>
  );
}

function ServerRow({ node, server, desk }: { node: Node; server: Server | undefined; desk: Desk }) {
  const { load } = node;
  const isSilent = server === undefined && desk.cluster?.missing.some(({ name }) => name === node.name) === true;
  const statistics = server?.statistics;
  return (
    <tr data-node={node.id} class={isSilent ? "is-bad" : ""}>
      <th scope="row">
        <bdi>{node.id}</bdi>
      </th>
      <td class="text">{isSilent ? "does not answer" : stateOf(node, server, desk)}</td>
      <td class="text">{node.version}</td>
      <td>{lasting(Date.now() - Date.parse(node.startedAt))}</td>
      {/* Without an answer, the figures are those of its last heartbeat. */}
      <td>{count(statistics?.sessions.total ?? load.sessions)}</td>
      <td>{statistics === undefined ? "–" : count(statistics.users)}</td>
      <td>{count(statistics?.sockets ?? load.sockets)}</td>
      <td>{count(statistics?.rooms.count ?? load.rooms)}</td>
      <td>{bytes(statistics?.queues.bytes ?? load.queuedBytes)}</td>
      <td>{millis(load.lag)}</td>
      <td>{percent(load.busy)}</td>
    </tr>
  );
}

function stateOf({ id, heartbeatAgeMs }: Node, server: Server | undefined, desk: Desk): string {
  if (desk.journal.isDraining(id) || server?.statistics.draining === true) return "shutting down";
  return heartbeatAgeMs > SILENT_AFTER ? `silent for ${lasting(heartbeatAgeMs)}` : "up";
}

const times = [
  ["delivery", "Delivery"],
  ["processing", "Processing"],
  ["ping", "Ping round trip"],
] as const;

export function Times({ desk }: { desk: Desk }) {
  const { cluster } = desk;
  if (cluster === undefined) return null;
  const windows: [name: string, times: AllTimes][] = [
    ...cluster.recent.map(({ minutes, times }): [string, AllTimes] => [`${minutes} min`, times]),
    ["since the start", cluster.times],
  ];
  const cells = ({ count: all, p50, p95, p99 }: Percentiles) => [millis(p50), millis(p95), millis(p99), count(all)];
  return (
    <Card title="Times" old={desk.oldness("figures")}>
      <Table name="Times of all servers" texts={2} heads={["What", "In the last", "50 %", "95 %", "99 %", "Count"]}>
        {times.flatMap(([field, name]) =>
          windows.map(([window, values], index) => (
            <tr key={`${field} ${window}`} data-time={field} data-window={window}>
              {index === 0 && (
                <th scope="rowgroup" rowSpan={windows.length}>
                  {name}
                </th>
              )}
              <td class="text in-group">{window}</td>
              {cells(values[field]).map((cell, column) => (
                <td key={column}>{cell}</td>
              ))}
            </tr>
          )),
        )}
      </Table>
      <p class="nothing">Percentiles of all servers together.</p>
    </Card>
  );
}

/** The parts of each server that can fail. */
export function Parts({ desk }: { desk: Desk }) {
  const { cluster } = desk;
  if (cluster === undefined) return null;
  return (
    <Card title="Parts of the servers" size="wide" old={desk.oldness("figures")}>
      <Table name="Parts" texts={7} heads={["Server", "Store", "Adapter", "Publications", "Followers", "Tasks", "Certificate until"]}>
        {cluster.servers.map((server) => (
          <PartsRow key={server.name} server={server} />
        ))}
      </Table>
    </Card>
  );
}

function PartsRow({ server: { name, statistics, parts } }: { server: Server }) {
  const { store, adapter, adapterState } = statistics;
  const slowest = parts.followers.toSorted((one, other) => other.lagS - one.lagS)[0];
  const expiry = parts.certificateExpiresAt;
  return (
    <tr data-parts={nodeId(name)}>
      <th scope="row">
        <bdi>{nodeId(name)}</bdi>
      </th>
      <Cell isBad={store !== "ok"}>
        {store}, {count(parts.storeChanges)} of {count(parts.storeChangesMax)} changes wait
      </Cell>
      <Cell isBad={adapter !== "ok" && adapter !== "none"}>
        {adapter}
        {adapterState !== undefined && `, ${count(adapterState.queued)} waiting, ${count(adapterState.lost)} lost, lag ${millis(adapterState.lag)}`}
      </Cell>
      <Cell isBad={parts.publications === "unavailable"}>{parts.publications}</Cell>
      <Cell isBad={slowest !== undefined && slowest.lagS > SLOW_FOLLOWER}>{slowest === undefined ? "none" : `${parts.followers.length}, at most ${millis(slowest.lagS * 1_000)} behind (${slowest.name})`}</Cell>
      <Cell isBad={parts.endedTasks.length > 0}>{parts.endedTasks.length === 0 ? "all run" : `${parts.endedTasks.join(", ")} ended`}</Cell>
      <Cell isBad={expiry !== undefined && Date.parse(expiry) - Date.now() < EXPIRES_SOON}>{expiry === undefined ? "none" : shortDay(expiry)}</Cell>
    </tr>
  );
}

function Cell({ isBad, children }: { isBad: boolean; children: ComponentChildren }) {
  return <td class={isBad ? "text is-bad" : "text"}>{children}</td>;
}

/** The lag in seconds from which on a follower is marked. Idle followers read every few seconds. */
const SLOW_FOLLOWER = 30;
/** The time before its end from which on a certificate is marked: two weeks. */
const EXPIRES_SOON = 14 * 86_400_000;

export function Alerts({ desk }: { desk: Desk }) {
  const { alerts } = desk.journal;
  const [newest] = alerts;
  return (
    <Card title="Alerts" old={desk.silence}>
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
    <Card title="Refusals" old={desk.silence}>
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

/** A part that the role does not permit. */
export function Denied({ title, permission, size = "half" }: { title: string; permission: string; size?: "half" | "wide" }) {
  return (
    <Card title={title} size={size}>
      <p class="nothing">Your role does not permit this ({permission}).</p>
    </Card>
  );
}
