import { useEffect, useState } from "preact/hooks";
import { exactTime, shortDay } from "../../words/time.ts";
import { type Desk, explain, isDenied, unansweredText } from "../desk.ts";
import { Card, Denied, Table } from "../lists.tsx";
import { LargestRooms, OF_CONVERSATION } from "../rooms.tsx";
import type { Conversation, ConversationDetails, Socket, Sockets as SocketPage } from "../types.ts";
import { count, many, nodeId } from "../words.ts";
import { Pager, type Pages, SearchForm, ageOf, useOpened, usePages } from "./paged.tsx";
import { SocketCard } from "./socket.tsx";
import { SocketTable } from "./sockets.tsx";

/** Maximum number of shown members of a conversation. */
const SHOWN_MEMBERS = 200;

/** Rooms and conversations, and one of them with its members. */
export function RoomsView({ desk }: { desk: Desk }) {
  const [room, setRoom] = useState(desk.target.room);
  const [socket, setSocket] = useState<string>();
  return (
    <>
      {socket !== undefined && <SocketCard key={socket} id={socket} desk={desk} onClose={() => setSocket(undefined)} />}
      {room !== undefined && <RoomCard key={room} room={room} desk={desk} onChoose={setSocket} onClose={() => setRoom(undefined)} />}
      <LargestRooms desk={desk} title="Largest rooms" onChoose={setRoom} />
      <Conversations desk={desk} onChoose={(id) => setRoom(`${OF_CONVERSATION}${id}`)} />
    </>
  );
}

function Conversations({ desk, onChoose }: { desk: Desk; onChoose: (id: string) => void }) {
  const [title, setTitle] = useState("");
  const [times, setTimes] = useState(0);
  const pages = usePages(`${times} ${title}`, (cursor) => desk.apiOrThrow.conversations({ ...(title !== "" && { title }), cursor }));
  if (pages.isDenied) return <Denied title="Conversations" permission="api:conversations" />;
  const found = pages.page?.conversations ?? [];
  return (
    <Card title="Conversations" old={ageOf(desk, pages.asOf)}>
      <SearchForm
        label="Title of conversations"
        onSearch={(text) => {
          setTimes(times + 1);
          setTitle(text);
        }}
      />
      {pages.trouble !== "" && (
        <p class="trouble" role="alert">
          {pages.trouble}
        </p>
      )}
      {pages.page !== undefined && found.length === 0 && (
        <p class="nothing" role="status">
          {pages.page.hasMore ? "None of the conversations checked so far. Continue with the next page." : "No conversation has such a title."}
        </p>
      )}
      {found.length > 0 && (
        <Table name="Listed conversations" texts={2} heads={["Title", "Who", "Members", "Messages", "Changed"]}>
          {found.map((conversation) => (
            <ConversationRow key={conversation.id} conversation={conversation} isOnline={desk.isOnline} onChoose={onChoose} />
          ))}
        </Table>
      )}
      <Pager pages={pages} desk={desk} name="conversations" />
    </Card>
  );
}

function ConversationRow({ conversation: { id, title, members, open, lastSeq, updatedAt }, isOnline, onChoose }: { conversation: Conversation; isOnline: boolean; onChoose: (id: string) => void }) {
  return (
    <tr data-conversation={id}>
      <th scope="row" class="long">
        <bdi>{title ?? "untitled"}</bdi>
      </th>
      <td class="text">
        <button class="link-button" type="button" disabled={!isOnline} aria-label={`Show the members of ${title ?? id}`} onClick={() => onChoose(id)}>
          Show
        </button>
      </td>
      <td>{open ? "everyone" : count(members)}</td>
      <td>{count(lastSeq)}</td>
      <td>
        <time datetime={updatedAt} title={exactTime(updatedAt)}>
          {shortDay(updatedAt)}
        </time>
      </td>
    </tr>
  );
}

/** A room: its sockets, and the members if it is of a conversation. */
function RoomCard({ room, desk, onChoose, onClose }: { room: string; desk: Desk; onChoose: (id: string) => void; onClose: () => void }) {
  const pages = usePages(room, (cursor) => desk.apiOrThrow.sockets({ room, cursor }));
  const card = useOpened<HTMLDivElement>();
  const id = room.startsWith(OF_CONVERSATION) ? room.slice(OF_CONVERSATION.length) : undefined;
  return (
    <Card title="Room" size="wide" old={ageOf(desk, pages.asOf)}>
      <div class="opened" data-room-details={room} ref={card} tabIndex={-1}>
        <p class="long">
          <bdi class="strong">{room}</bdi>
        </p>
        {id !== undefined && <Members id={id} desk={desk} />}
        <h3>Sockets in the room</h3>
        <SocketsInRoom pages={pages} desk={desk} name="sockets of the room" none="No socket is in the room." onChoose={onChoose} />
        <button class="button" type="button" onClick={onClose}>
          Back to the lists
        </button>
      </div>
    </Card>
  );
}

/** The sockets in a room, a page at a time. */
export function SocketsInRoom({ pages, desk, name, none, onChoose }: { pages: Pages<SocketPage>; desk: Desk; name: string; none: string; onChoose: (id: string) => void }) {
  const sockets = pages.page?.sockets ?? [];
  return (
    <>
      {pages.isDenied && <p class="nothing">Your role does not permit this (api:sockets).</p>}
      {pages.trouble !== "" && (
        <p class="trouble" role="alert">
          {pages.trouble}
        </p>
      )}
      {pages.page !== undefined && sockets.length === 0 && (
        <p class="nothing">
          {none}
          {unansweredText(pages.page.missing)}
        </p>
      )}
      {sockets.length > 0 && <SocketTable sockets={sockets} isOnline={desk.isOnline} onChoose={onChoose} />}
      {sockets.length > 0 && <p class="nothing">{onServers(sockets)}</p>}
      <Pager pages={pages} desk={desk} name={name} />
    </>
  );
}

function onServers(sockets: readonly Socket[]): string {
  const nodes = new Set(sockets.map(({ node }) => nodeId(node)));
  return `${many(sockets.length, "socket")} shown, on ${[...nodes].sort().join(", ")}.`;
}

function Members({ id, desk }: { id: string; desk: Desk }) {
  const [found, setFound] = useState<ConversationDetails>();
  const [trouble, setTrouble] = useState("");
  useEffect(() => {
    let hasEnded = false;
    desk.apiOrThrow.conversation(id).then(
      (found) => !hasEnded && setFound(found),
      (error: unknown) => !hasEnded && setTrouble(isDenied(error) ? "Your role does not permit this (api:conversations)." : explain(error)),
    );
    return () => {
      hasEnded = true;
    };
  }, [id]);
  if (found === undefined) return <p class="nothing">{trouble === "" ? "Loading…" : trouble}</p>;
  const { title, ownerId, memberIds } = found.conversation;
  return (
    <>
      <p>
        Conversation <bdi class="strong">{title ?? "untitled"}</bdi>
        {ownerId !== null && (
          <>
            , owned by <bdi>{ownerId}</bdi>
          </>
        )}
      </p>
      <h3>{found.open ? "Every user counts as a member" : many(memberIds.length, "member")}</h3>
      <ul class="rooms" tabIndex={0} aria-label="Members">
        {memberIds.slice(0, SHOWN_MEMBERS).map((member) => (
          <li key={member}>
            <bdi>{member}</bdi>
          </li>
        ))}
        {memberIds.length > SHOWN_MEMBERS && <li>and {count(memberIds.length - SHOWN_MEMBERS)} more</li>}
      </ul>
    </>
  );
}
