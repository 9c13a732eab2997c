import { useState } from "preact/hooks";
import { exactTime } from "../../words/time.ts";
import { type Desk, unansweredText } from "../desk.ts";
import { Card, Denied, Table } from "../lists.tsx";
import type { Socket } from "../types.ts";
import { nodeId } from "../words.ts";
import { Pager, SearchForm, ageOf, usePages } from "./paged.tsx";
import { SocketCard } from "./socket.tsx";

/** The sockets of all servers: a search, and one of them with its details. */
export function Sockets({ desk }: { desk: Desk }) {
  const [search, setSearch] = useState(desk.target.search ?? "");
  const [chosen, setChosen] = useState<string>();
  return (
    <>
      {chosen !== undefined && <SocketCard key={chosen} id={chosen} desk={desk} onClose={() => setChosen(undefined)} />}
      <SocketList desk={desk} search={search} onSearch={setSearch} onChoose={setChosen} />
      {search !== "" && <SeenEarlier key={search} desk={desk} search={search} />}
    </>
  );
}

function SocketList({ desk, search, onSearch, onChoose }: { desk: Desk; search: string; onSearch: (text: string) => void; onChoose: (id: string) => void }) {
  const [count, setCount] = useState(0);
  // The same text can be searched again.
  const pages = usePages(`${count} ${search}`, (cursor) => sockets(desk, search, cursor));
  const { page } = pages;
  if (pages.isDenied) return <Denied title="Sockets" permission="api:sockets" size="wide" />;
  const found = page?.sockets ?? [];
  return (
    <Card title="Sockets" size="wide" old={ageOf(desk, pages.asOf)}>
      <SearchForm
        label="Search sockets"
        initial={search}
        hint="The beginning of a name, user id, socket id, address, or of a word of the user agent."
        onSearch={(text) => {
          setCount(count + 1);
          onSearch(text);
        }}
      />
      {pages.trouble !== "" && (
        <p class="trouble" role="alert">
          {pages.trouble}
        </p>
      )}
      {page !== undefined && found.length === 0 && (
        <p class="nothing" role="status">
          {page.hasMore ? "None of the sockets checked so far. Continue with the next page." : search === "" ? "No socket is connected." : "No socket begins with that."}
          {unansweredText(page.missing)}
        </p>
      )}
      {found.length > 0 && <SocketTable sockets={found} isOnline={desk.isOnline} onChoose={onChoose} />}
      {page !== undefined && page.missing > 0 && found.length > 0 && <p class="nothing">{unansweredText(page.missing)}</p>}
      <Pager pages={pages} desk={desk} name="sockets" />
    </Card>
  );
}

/** Clients that match and disconnected or were refused in the last hour. */
function SeenEarlier({ desk, search }: { desk: Desk; search: string }) {
  const pages = usePages(search, () => desk.apiOrThrow.seen(search));
  // The sockets state the missing permission.
  if (pages.isDenied) return null;
  const clients = pages.page?.clients ?? [];
  return (
    <Card title="Disconnected or refused in the last hour" size="wide" old={ageOf(desk, pages.asOf)}>
      {pages.trouble !== "" && (
        <p class="trouble" role="alert">
          {pages.trouble}
        </p>
      )}
      {pages.page !== undefined && clients.length === 0 && <p class="nothing">No such client disconnected or was refused.{unansweredText(pages.page.missing)}</p>}
      {clients.length > 0 && (
        <Table name="Clients seen in the last hour" texts={5} heads={["User", "Address", "Last at", "What happened", "Server"]}>
          {clients.map(({ userId, name, address, at, what, node }) => (
            <tr key={`${userId} ${address}`} data-seen={userId ?? address}>
              <th scope="row" class="long">
                {userId === undefined ? "–" : <bdi>{name ?? userId}</bdi>} {name !== undefined && name !== userId && <bdi class="faint">{userId}</bdi>}
              </th>
              <td class="text">{address ?? "–"}</td>
              <td class="text">
                <time datetime={at}>{exactTime(at)}</time>
              </td>
              <td class="text long">{what}</td>
              <td class="text">
                <bdi>{nodeId(node)}</bdi>
              </td>
            </tr>
          ))}
        </Table>
      )}
      <Pager pages={pages} desk={desk} name="clients" />
    </Card>
  );
}

function sockets(desk: Desk, search: string, cursor: string | undefined) {
  return desk.apiOrThrow.sockets({ ...(search !== "" && { search }), cursor });
}

/** A table of sockets, each with a button for its details. */
export function SocketTable({ sockets, isOnline, onChoose }: { sockets: readonly Socket[]; isOnline: boolean; onChoose: (id: string) => void }) {
  return (
    <Table name="Listed sockets" texts={7} heads={["User", "Details", "Address", "Transport", "Client", "Connected since", "Server"]}>
      {sockets.map((socket) => (
        <tr key={socket.id} data-socket={socket.id}>
          <th scope="row" class="long">
            <bdi>{socket.name}</bdi> {socket.name !== socket.userId && <bdi class="faint">{socket.userId}</bdi>}
          </th>
          <td class="text">
            <button class="link-button" type="button" disabled={!isOnline} aria-label={`Details of socket ${socket.id} of ${socket.name}`} onClick={() => onChoose(socket.id)}>
              Details
            </button>
          </td>
          <td class="text">{socket.address}</td>
          <td class="text">{socket.transport === "websocket" ? "WebSocket" : socket.transport}</td>
          <td class="text clip" title={socket.agent}>
            <bdi>{socket.agent === "" ? "–" : socket.agent}</bdi>
          </td>
          <td class="text">
            <time datetime={socket.connectionTime}>{exactTime(socket.connectionTime)}</time>
          </td>
          <td class="text">
            <bdi>{nodeId(socket.node)}</bdi>
          </td>
        </tr>
      ))}
    </Table>
  );
}
