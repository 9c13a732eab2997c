import { useState } from "preact/hooks";
import { Window } from "../windows/window.tsx";
import { exactTime } from "../words/time.ts";
import { type Desk, type Found, explain, unansweredText } from "./desk.ts";
import { Card, Table } from "./lists.tsx";
import type { Socket } from "./types.ts";
import { count, many } from "./words.ts";

/** The action that waits for a confirmation. */
type PendingAction = { kick: string } | { block: string } | undefined;

/** Finds a user, whose connections can be closed and whose addresses can be blocked. */
export function Find({ desk }: { desk: Desk }) {
  const [input, setInput] = useState("");
  const [found, setFound] = useState<Found>();
  const [outcome, setOutcome] = useState("");
  const [isBusy, setIsBusy] = useState(false);
  const [pending, setPending] = useState<PendingAction>();
  const attempt = async (act: () => Promise<string>) => {
    if (isBusy) return;
    setIsBusy(true);
    setOutcome("");
    try {
      setOutcome(await act());
    } catch (error) {
      setOutcome(explain(error));
    }
    setIsBusy(false);
  };
  const find = async (userId: string) => {
    setFound(undefined);
    const user = await desk.find(userId);
    setFound(user);
    return user.sockets.length === 0 ? `No user with the id ${userId} is connected.${unansweredText(user.missing)}` : "";
  };
  const kick = (userId: string) =>
    attempt(async () => {
      const done = await desk.kick(userId);
      setFound(await desk.find(userId));
      return done;
    });
  return (
    <Card title="Find a user" size="wide">
      <form
        class="find"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          const userId = input.trim();
          if (userId !== "") void attempt(() => find(userId));
        }}
      >
        <label for="user">Id of the user</label>
        <input id="user" type="text" dir="auto" value={input} autocomplete="off" spellcheck={false} maxLength={128} onInput={(event) => setInput(event.currentTarget.value)} />
        <button class="button button-primary" type="submit" disabled={isBusy || !desk.isOnline}>
          Find
        </button>
      </form>
      <p class="outcome-line" role="status">
        <bdi>{outcome}</bdi>
      </p>
      {found !== undefined && found.sockets.length > 0 && <User found={found} isOnline={desk.isOnline && !isBusy} onAction={setPending} />}
      {pending !== undefined && "kick" in pending && (
        <Confirm title="Disconnect a user" act="Disconnect" onClose={() => setPending(undefined)} onConfirm={() => void kick(pending.kick)}>
          <p>
            All connections of <bdi class="strong">{pending.kick}</bdi> to the chat will be closed. Stock clients reconnect automatically: to keep this user out, revoke the session or block the address.
          </p>
        </Confirm>
      )}
      {pending !== undefined && "block" in pending && (
        <Block address={pending.block} onClose={() => setPending(undefined)} onConfirm={(reason, seconds) => void attempt(() => desk.block(pending.block, reason, seconds))} />
      )}
    </Card>
  );
}

function User({ found, isOnline, onAction }: { found: Found; isOnline: boolean; onAction: (action: PendingAction) => void }) {
  const { userId, sockets, hasMore, missing } = found;
  const names = [...new Set(sockets.map(({ name }) => name))];
  return (
    <div class="user" data-user={userId}>
      <div class="user-head">
        <p>
          {names.map((name) => (
            <bdi key={name} class="strong">
              {name}
            </bdi>
          ))}{" "}
          <bdi>{userId}</bdi>, {many(sockets.length, "socket")}
          {hasMore && " shown, and there are more"}.{unansweredText(missing)}
        </p>
        <button class="button button-bad" type="button" disabled={!isOnline} onClick={() => onAction({ kick: userId })}>
          Disconnect this user
        </button>
      </div>
      <Table name="Sockets of the user" texts={6} heads={["Address", "Transport", "Connected since", "Server", "Rooms", "Action"]}>
        {sockets.map((socket) => (
          <tr key={socket.id} data-socket={socket.id}>
            <th scope="row">{socket.address}</th>
            <td class="text">{socket.transport === "websocket" ? "WebSocket" : socket.transport}</td>
            <td class="text">
              <time datetime={socket.connectionTime}>{exactTime(socket.connectionTime)}</time>
            </td>
            <td class="text">
              {/* A server name consists of a random part and its id. */}
              <bdi>{socket.node.slice(socket.node.indexOf("~") + 1)}</bdi>
            </td>
            <td class="text">
              <RoomsOf socket={socket} />
            </td>
            <td class="text">
              <button class="link-button" type="button" disabled={!isOnline} aria-label={`Block ${socket.address}`} onClick={() => onAction({ block: socket.address })}>
                Block
              </button>
            </td>
          </tr>
        ))}
      </Table>
    </div>
  );
}

function RoomsOf({ socket: { rooms, roomCount } }: { socket: Socket }) {
  if (roomCount === 0) return <>none</>;
  return (
    <details>
      <summary>{many(roomCount, "room")}</summary>
      <ul>
        {rooms.map((room) => (
          <li key={room}>
            <bdi>{room}</bdi>
          </li>
        ))}
        {roomCount > rooms.length && <li>and {count(roomCount - rooms.length)} more</li>}
      </ul>
    </details>
  );
}

function Confirm({ title, act, onClose, onConfirm, children }: { title: string; act: string; onClose: () => void; onConfirm: () => void; children: preact.ComponentChildren }) {
  return (
    <Window title={title} onClose={onClose}>
      {children}
      <div class="dialog-actions">
        <button class="button" type="button" onClick={onClose}>
          Cancel
        </button>
        <button
          class="button button-bad"
          type="button"
          onClick={() => {
            onClose();
            onConfirm();
          }}
        >
          {act}
        </button>
      </div>
    </Window>
  );
}

/** The durations of a block, in seconds. */
const LASTING = [
  ["1 hour", 3_600],
  ["1 day", 86_400],
  ["30 days", 2_592_000],
  ["permanently", undefined],
] as const;

function Block({ address, onClose, onConfirm }: { address: string; onClose: () => void; onConfirm: (reason: string, seconds: number | undefined) => void }) {
  const [reason, setReason] = useState("");
  const [choice, setChoice] = useState(0);
  const [isWrong, setIsWrong] = useState(false);
  return (
    <Window title="Block an address" onClose={onClose}>
      <form
        class="form"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          if (reason.trim() === "") return setIsWrong(true);
          onClose();
          onConfirm(reason.trim(), LASTING[choice]?.[1]);
        }}
      >
        <p>
          <bdi class="strong">{address}</bdi> will be blocked on all servers, for all users behind this address. That may include you.
        </p>
        <label for="block-reason">Reason</label>
        <input id="block-reason" type="text" dir="auto" value={reason} maxLength={200} autocomplete="off" aria-describedby="block-help" aria-invalid={isWrong} onInput={(event) => setReason(event.currentTarget.value)} />
        <p id="block-help" class={isWrong ? "help is-wrong" : "help"} aria-live="polite">
          {isWrong ? "Enter a reason. Other admins see it." : "Shown to other admins."}
        </p>
        <label for="block-lasting">For how long</label>
        <select id="block-lasting" value={String(choice)} onChange={(event) => setChoice(Number(event.currentTarget.value))}>
          {LASTING.map(([name], index) => (
            <option key={name} value={String(index)}>
              {name}
            </option>
          ))}
        </select>
        <div class="dialog-actions">
          <button class="button" type="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button button-bad" type="submit">
            Block
          </button>
        </div>
      </form>
    </Window>
  );
}
