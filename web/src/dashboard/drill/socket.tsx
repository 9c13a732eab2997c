import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { exactTime } from "../../words/time.ts";
import { type Desk, explain } from "../desk.ts";
import { Card } from "../lists.tsx";
import { MANAGED } from "../rooms.tsx";
import type { Socket } from "../types.ts";
import { bytes, count, lasting, nodeId } from "../words.ts";
import { BlockDialog, Confirm } from "./dialogs.tsx";
import { Outcome, ageOf, useOpened, useOutcome } from "./paged.tsx";
import { Watch } from "./watched.tsx";

/** Delay between the last answer and the next request for a socket, in milliseconds. */
const REFRESH_INTERVAL = 3_000;

type Pending = "close" | "kick" | "block" | undefined;

/** One socket: its details, rooms and events, and what an admin can do with it. */
export function SocketCard({ id, desk, onClose }: { id: string; desk: Desk; onClose: () => void }) {
  const { socket, asOf, trouble, refresh } = useSocket(id, desk);
  const [pending, setPending] = useState<Pending>();
  const { outcome, isBusy, attempt } = useOutcome();
  const card = useOpened<HTMLDivElement>();
  const act = (what: () => Promise<string>) =>
    attempt(async () => {
      const text = await what();
      refresh();
      return text;
    });
  const isIdle = desk.isOnline && !isBusy && socket !== undefined;
  return (
    <Card title="Socket" size="wide" old={ageOf(desk, asOf)}>
      <div class="opened" data-details={id} ref={card} tabIndex={-1}>
        {trouble !== "" && (
          <p class="trouble" role="status">
            {trouble}
          </p>
        )}
        {socket === undefined ? trouble === "" && <p class="nothing">Loading…</p> : <Details socket={socket} />}
        <Outcome text={outcome} />
        <div class="actions">
          <button class="button button-bad" type="button" disabled={!isIdle} onClick={() => setPending("close")}>
            Close this connection
          </button>
          <button class="button button-bad" type="button" disabled={!isIdle} onClick={() => setPending("kick")}>
            Disconnect this user
          </button>
          <button class="button button-bad" type="button" disabled={!isIdle} onClick={() => setPending("block")}>
            Block {socket?.address ?? "the address"}
          </button>
          <button class="button" type="button" onClick={onClose}>
            Back to the list
          </button>
        </div>
        {socket !== undefined && (
          <Rooms
            socket={socket}
            isIdle={isIdle}
            onJoin={(room) =>
              void act(async () => {
                if (MANAGED.test(room)) return `The room ${room} follows from memberships or subscriptions, and cannot be joined here.`;
                return (await desk.apiOrThrow.join(id, room)) ? `The socket is now in the room ${room}.` : `The socket was already in the room ${room}.`;
              })
            }
            onLeave={(room) => void act(async () => ((await desk.apiOrThrow.leave(id, room)) ? `The socket has left the room ${room}.` : `The socket was not in the room ${room}.`))}
          />
        )}
        <Watch of="socket" desk={desk} permission="api:trace" note="Texts are not shown." watch={(take, signal) => desk.apiOrThrow.trace(id, take, signal)} />
      </div>
      {pending === "close" && (
        <Confirm
          title="Close a connection"
          act="Close"
          onClose={() => setPending(undefined)}
          onConfirm={() =>
            void act(async () => {
              await desk.apiOrThrow.close(id);
              return "The connection is closed.";
            })
          }
        >
          <p>The connection of this socket will be closed. Stock clients reconnect automatically, with another socket.</p>
        </Confirm>
      )}
      {pending === "kick" && socket !== undefined && (
        <Confirm title="Disconnect a user" act="Disconnect" onClose={() => setPending(undefined)} onConfirm={() => void act(() => desk.kick(socket.userId))}>
          <p>
            All connections of <bdi class="strong">{socket.userId}</bdi> to the chat will be closed. Stock clients reconnect automatically: to keep this user out, revoke the session or block the address.
          </p>
        </Confirm>
      )}
      {pending === "block" && socket !== undefined && <BlockDialog address={socket.address} onClose={() => setPending(undefined)} onConfirm={(cidr, reason, seconds) => void act(() => desk.block(cidr, reason, seconds))} />}
    </Card>
  );
}

/** Requests a socket repeatedly while it is shown, the page is visible, and the socket exists. */
function useSocket(id: string, desk: Desk): { socket: Socket | undefined; asOf: Date | undefined; trouble: string; refresh: () => void } {
  const [socket, setSocket] = useState<Socket>();
  const [asOf, setAsOf] = useState<Date>();
  const [trouble, setTrouble] = useState("");
  const [asked, setAsked] = useState(0);
  useEffect(() => {
    let hasEnded = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const load = async () => {
      if (document.visibilityState === "visible" && desk.isOnline) {
        try {
          const found = await desk.apiOrThrow.socket(id);
          if (hasEnded) return;
          setSocket(found);
          setAsOf(new Date());
          setTrouble("");
        } catch (error) {
          if (hasEnded) return;
          if ((error as { code?: unknown }).code === "NOT_FOUND") {
            setSocket(undefined);
            return setTrouble("This socket is no longer connected.");
          }
          setTrouble(explain(error));
        }
      }
      timer = setTimeout(() => void load(), REFRESH_INTERVAL);
    };
    void load();
    return () => {
      hasEnded = true;
      clearTimeout(timer);
    };
  }, [id, asked]);
  return { socket, asOf, trouble, refresh: () => setAsked((times) => times + 1) };
}

function Details({ socket }: { socket: Socket }) {
  const since = Date.now() - Date.parse(socket.connectionTime);
  const idle = Date.now() - Date.parse(socket.lastActivity);
  return (
    <dl class="facts">
      <Fact name="User">
        <bdi>{socket.name}</bdi> <bdi class="faint">{socket.userId}</bdi>
      </Fact>
      <Fact name="Socket id">{socket.id}</Fact>
      <Fact name="Address">{socket.address}</Fact>
      <Fact name="Client">
        <bdi>{socket.agent === "" ? "not stated" : socket.agent}</bdi>
      </Fact>
      <Fact name="Server">
        <bdi>{nodeId(socket.node)}</bdi>
      </Fact>
      <Fact name="Transport">
        {socket.transport === "websocket" ? "WebSocket" : socket.transport}
        {socket.recovered && ", recovered"}
      </Fact>
      <Fact name="Connected">
        {lasting(since)}, since <time datetime={socket.connectionTime}>{exactTime(socket.connectionTime)}</time>
      </Fact>
      <Fact name="Last event">{lasting(idle)} ago</Fact>
      <Fact name="Queue">{bytes(socket.queuedBytes)}</Fact>
    </dl>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div data-fact={name}>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Rooms({ socket: { rooms, roomCount }, isIdle, onJoin, onLeave }: { socket: Socket; isIdle: boolean; onJoin: (room: string) => void; onLeave: (room: string) => void }) {
  const [room, setRoom] = useState("");
  return (
    <section class="part" aria-labelledby="rooms-of-socket">
      <h3 id="rooms-of-socket">Rooms ({count(roomCount)})</h3>
      <ul class="rooms" tabIndex={0} aria-labelledby="rooms-of-socket">
        {rooms.map((room) => (
          <li key={room}>
            <bdi>{room}</bdi>
            {!MANAGED.test(room) && (
              <button class="link-button" type="button" disabled={!isIdle} aria-label={`Leave the room ${room}`} onClick={() => onLeave(room)}>
                Leave
              </button>
            )}
          </li>
        ))}
        {roomCount > rooms.length && <li>and {count(roomCount - rooms.length)} more</li>}
      </ul>
      <form
        class="find"
        onSubmit={(event) => {
          event.preventDefault();
          if (room.trim() === "") return;
          onJoin(room.trim());
          setRoom("");
        }}
      >
        <label for="join-room">Room to join</label>
        <input id="join-room" type="text" dir="auto" value={room} maxLength={256} autocomplete="off" spellcheck={false} onInput={(event) => setRoom(event.currentTarget.value)} />
        <button class="button" type="submit" disabled={!isIdle}>
          Join
        </button>
      </form>
      <p class="nothing">Rooms of users, conversations and subscriptions follow from memberships, and cannot be joined or left here.</p>
    </section>
  );
}
