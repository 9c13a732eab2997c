import { HOUR } from "./chart.tsx";
import type { Desk } from "./desk.ts";
import { type Incident, type Measure, type Step, type Subject, type TopEntry, reasonsOf, stepsOf, topOf } from "./diagnosis.ts";
import { typeInWords } from "./journal.ts";
import { Card, ChartCard, Denied, Table } from "./lists.tsx";
import { useSorted } from "./sorted.ts";
import { bytes, clock, count, nodeId, rate } from "./words.ts";

const measures: Record<Measure, { name: string; head: string; inWords: (value: number) => string }> = {
  events: { name: "Events a second", head: "Events/s", inWords: rate },
  queuedBytes: { name: "Waiting to be sent", head: "Waiting", inWords: bytes },
  connects: { name: "Connects in the last minute", head: "Connects/min", inWords: count },
  refusals: { name: "Refusals in the last hour", head: "Refusals/h", inWords: count },
};
const MEASURES = Object.keys(measures) as Measure[];
const subjects: Record<Subject, { one: string; many: string; permission: string }> = {
  user: { one: "User", many: "Users", permission: "api:sockets" },
  address: { one: "Address", many: "Addresses", permission: "api:sockets" },
  room: { one: "Room", many: "Rooms", permission: "api:rooms" },
};
const SUBJECTS = Object.keys(subjects) as Subject[];
/** Sockets have no room when they connect, and refusals name none. */
const HAS_ROOMS: readonly Measure[] = ["events", "queuedBytes"];
/** Reasons of disconnects with a line of their own. */
const SHOWN_REASONS = 3;

/** How many clients connect and disconnect a second, in the last hour. */
export function Connects({ desk }: { desk: Desk }) {
  const { diagnosis } = desk;
  if (diagnosis === undefined) return null;
  const old = desk.oldness("diagnosis");
  const points = stepsOf(diagnosis.history);
  const reasons = reasonsOf(diagnosis.history);
  const shown = reasons.length > SHOWN_REASONS + 1 ? reasons.slice(0, SHOWN_REASONS) : reasons;
  const others = reasons.slice(shown.length);
  const ofReasons = (names: readonly string[]) => (point: Step) => names.reduce((sum, name) => sum + (point.disconnected[name] ?? 0), 0);
  const lines = shown.map((reason) => ({ name: reason, valueOf: ofReasons([reason]) }));
  return (
    <>
      <ChartCard
        label="Connects in the last hour"
        old={old}
        title="Connects a second"
        points={points}
        span={HOUR}
        inWords={rate}
        lines={[
          { name: "accepted", valueOf: ({ connected }) => connected },
          { name: "refused", valueOf: ({ refused }) => refused },
        ]}
      />
      <ChartCard
        label="Disconnects in the last hour"
        old={old}
        title="Disconnects a second"
        points={points}
        span={HOUR}
        inWords={rate}
        lines={lines.length === 0 ? [{ name: "all reasons", valueOf: () => 0 }] : others.length === 0 ? lines : [...lines, { name: `${others.length} other reasons`, valueOf: ofReasons(others) }]}
      />
    </>
  );
}

/** The most active user, address and room of each measure. */
export function MostActive({ desk }: { desk: Desk }) {
  const { diagnosis } = desk;
  if (diagnosis === undefined) return null;
  return (
    <Card title="Most active" size="wide" old={desk.oldness("diagnosis")}>
      <Table name="The most active of each measure" texts={4} heads={["Measure", ...SUBJECTS.map((subject) => subjects[subject].one)]}>
        {MEASURES.map((measure) => (
          <tr key={measure} data-most={measure}>
            <th scope="row">{measures[measure].name}</th>
            {SUBJECTS.map((subject) => {
              const [first] = topOf(diagnosis, measure, subject) ?? [];
              return (
                <td key={subject} class="text long">
                  {first === undefined ? "–" : <Named desk={desk} subject={subject} name={first.name} />} {first !== undefined && <span class="faint">{measures[measure].inWords(first.value)}</span>}
                </td>
              );
            })}
          </tr>
        ))}
      </Table>
      <button class="link-button" type="button" onClick={() => desk.show("activity")}>
        The top ten of each
      </button>
    </Card>
  );
}

/** The top ten users, addresses and rooms of each measure. */
export function Activity({ desk }: { desk: Desk }) {
  const { diagnosis } = desk;
  if (desk.denied.has("figures") || desk.denied.has("diagnosis")) return <Denied title="Activity" permission="api:metrics" size="wide" />;
  if (diagnosis === undefined) return <p class="card wide">Loading…</p>;
  return (
    <>
      <Connects desk={desk} />
      {MEASURES.map((measure) => (
        <Card key={measure} title={measures[measure].name} size="wide" old={desk.oldness("diagnosis")}>
          <div class="trio">
            {SUBJECTS.filter((subject) => subject !== "room" || HAS_ROOMS.includes(measure)).map((subject) => (
              <Top key={subject} desk={desk} measure={measure} subject={subject} entries={topOf(diagnosis, measure, subject)} />
            ))}
          </div>
        </Card>
      ))}
      <Incidents desk={desk} />
    </>
  );
}

function Top({ desk, measure, subject, entries }: { desk: Desk; measure: Measure; subject: Subject; entries: readonly TopEntry[] | undefined }) {
  const { name, head, inWords } = measures[measure];
  const { one, many, permission } = subjects[subject];
  const columns = [
    { name: one, valueOf: (entry: TopEntry) => desk.titles.get(entry.name) ?? entry.name },
    { name: head, valueOf: ({ value }: TopEntry) => value },
  ];
  const { rows, heads } = useSorted(entries ?? [], columns, 1);
  if (entries === undefined)
    return (
      <p class="nothing">
        {many}: your role does not permit this ({permission}).
      </p>
    );
  if (entries.length === 0) return <p class="nothing">{many}: none.</p>;
  return (
    <Table name={`${many} by ${name.toLowerCase()}`} heads={heads}>
      {rows.map(({ name, value }) => (
        <tr key={name} data-top={`${measure} ${subject}`} data-name={name}>
          <th scope="row" class="long">
            <Named desk={desk} subject={subject} name={name} />
          </th>
          <td>{inWords(value)}</td>
        </tr>
      ))}
    </Table>
  );
}

/** A user, an address or a room, which leads to its sockets. */
export function Named({ desk, subject, name }: { desk: Desk; subject: Subject; name: string }) {
  const title = subject === "room" ? desk.titles.get(name) : undefined;
  return (
    <button class="link-button" type="button" aria-label={`Sockets of ${title ?? name}`} onClick={() => (subject === "room" ? desk.openRoom(name) : desk.find(name))}>
      <bdi>{title ?? name}</bdi>
    </button>
  );
}

const incidentColumns = [
  { name: "Last at", valueOf: ({ at }: Incident) => Date.parse(at) },
  { name: "What", valueOf: (incident: Incident) => whatOf(incident) },
  { name: "Reason", valueOf: ({ reason }: Incident) => reason },
  { name: "User", valueOf: ({ userId }: Incident) => userId },
  { name: "Address", valueOf: ({ address }: Incident) => address },
  { name: "Server", valueOf: ({ node }: Incident) => nodeId(node) },
  { name: "Times", valueOf: ({ count }: Incident) => count },
];

/** The latest refusals and cuts, which the servers remember. */
export function Incidents({ desk }: { desk: Desk }) {
  const { diagnosis } = desk;
  const { rows, heads } = useSorted(diagnosis?.incidents ?? [], incidentColumns, 0);
  if (diagnosis === undefined) return null;
  return (
    <Card title="Refused and cut off" size="wide" old={desk.oldness("diagnosis")}>
      {rows.length === 0 ? (
        <p class="nothing">No client was refused or cut off since the servers were started.</p>
      ) : (
        <Table name="The latest refusals and cuts" texts={6} heads={heads} isTall>
          {rows.map((incident) => (
            <tr key={`${incident.node} ${incident.at} ${incident.userId} ${incident.address} ${incident.reason}`} data-incident={incident.kind}>
              <th scope="row">
                <time datetime={incident.at}>{clock.format(new Date(incident.at))}</time>
              </th>
              <td class={incident.kind === "cut" ? "text is-bad" : "text"}>{whatOf(incident)}</td>
              <td class="text long">
                <bdi>{incident.reason}</bdi>
              </td>
              <td class="text">{incident.userId === undefined ? "–" : <Named desk={desk} subject="user" name={incident.userId} />}</td>
              <td class="text">{incident.address === undefined ? "–" : <Named desk={desk} subject="address" name={incident.address} />}</td>
              <td class="text">
                <bdi>{nodeId(incident.node)}</bdi>
              </td>
              <td>{count(incident.count)}</td>
            </tr>
          ))}
        </Table>
      )}
    </Card>
  );
}

function whatOf({ kind, type }: Incident): string {
  return kind === "cut" ? `cut off: ${typeInWords(type)}` : `refused: ${typeInWords(type)}`;
}
