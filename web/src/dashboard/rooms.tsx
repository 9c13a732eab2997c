import { type Desk, SHOWN_ROOMS, unansweredText } from "./desk.ts";
import { topOf } from "./diagnosis.ts";
import { Card, Denied, Table } from "./lists.tsx";
import { useSorted } from "./sorted.ts";
import type { Room } from "./types.ts";
import { bytes, count, many, rate } from "./words.ts";

/** Rooms that follow from memberships and subscriptions, which only the server changes. */
export const MANAGED = /^(conversation|user|trades|portfolio|signals|prices|notifications|channel|admin)([:#]|$)/;
export const OF_CONVERSATION = "conversation:";

/** Returns whether a room is of a user or a subscription. */
function isInternal({ room }: Room): boolean {
  return MANAGED.test(room) && !room.startsWith(OF_CONVERSATION);
}

interface Row extends Room {
  title: string | undefined;
  events: number | undefined;
  queued: number | undefined;
}

const columns = [
  { name: "Room", valueOf: ({ title, room }: Row) => title ?? room },
  { name: "Sockets", valueOf: ({ sockets }: Row) => sockets },
  { name: "Events/s", valueOf: ({ events }: Row) => events },
  { name: "Waiting", valueOf: ({ queued }: Row) => queued },
];

/** The largest rooms. Those of users and subscriptions are a group of their own. */
export function LargestRooms({ desk, title, onChoose }: { desk: Desk; title: string; onChoose: (room: string) => void }) {
  const { rooms } = desk;
  if (desk.denied.has("rooms")) return <Denied title={title} permission="api:rooms" />;
  const all = rooms?.rooms ?? [];
  const shown = all.filter((room) => !isInternal(room)).slice(0, SHOWN_ROOMS);
  const internal = all.filter(isInternal);
  return (
    <Card title={title} old={desk.oldness("rooms")}>
      {rooms === undefined ? (
        <p class="nothing">Loading…</p>
      ) : all.length === 0 ? (
        <p class="nothing">No socket is in a room.</p>
      ) : shown.length === 0 ? (
        <p class="nothing">No socket is in a conversation or in a room of an application.</p>
      ) : (
        <RoomTable desk={desk} name="Conversations and other rooms" rooms={shown} onChoose={onChoose} />
      )}
      {internal.length > 0 && (
        <details class="group">
          <summary>
            {rooms?.hasMore ? "The largest " : ""}
            {many(internal.length, "room")} of users and subscriptions
          </summary>
          <RoomTable desk={desk} name="Rooms of users and subscriptions" rooms={internal} onChoose={onChoose} />
        </details>
      )}
      {rooms?.hasMore && <p class="nothing">Only the largest rooms of all servers are listed.</p>}
      {rooms !== undefined && rooms.missing > 0 && <p class="nothing">{unansweredText(rooms.missing)}</p>}
    </Card>
  );
}

function RoomTable({ desk, name, rooms, onChoose }: { desk: Desk; name: string; rooms: readonly Room[]; onChoose: (room: string) => void }) {
  const [events, queued] = (["events", "queuedBytes"] as const).map((measure) => new Map(topOf(desk.diagnosis, measure, "room")?.map(({ name, value }) => [name, value])));
  const known = rooms.map(({ room, sockets }): Row => ({ room, sockets, title: desk.titles.get(room), events: events?.get(room), queued: queued?.get(room) }));
  const { rows, heads } = useSorted(known, columns, 1);
  return (
    <Table name={name} heads={heads} isTall>
      {rows.map(({ room, sockets, title, events, queued }) => (
        <tr key={room} data-room={room}>
          <th scope="row" class="long">
            <button class="link-button" type="button" disabled={!desk.isOnline} aria-label={`Show the members of ${title ?? room}`} onClick={() => onChoose(room)}>
              <bdi>{title ?? room}</bdi>
            </button>{" "}
            {title !== undefined && <bdi class="faint" title={room}>{room}</bdi>}
          </th>
          <td>{count(sockets)}</td>
          <td>{events === undefined ? "–" : rate(events)}</td>
          <td>{queued === undefined ? "–" : bytes(queued)}</td>
        </tr>
      ))}
    </Table>
  );
}
