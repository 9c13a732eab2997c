import { useState } from "preact/hooks";
import { type Desk, unansweredText } from "../desk.ts";
import { Card, Denied, Table } from "../lists.tsx";
import type { SortHead } from "../sorted.ts";
import type { Channel, ChannelOrder } from "../types.ts";
import { bytes, count, rate } from "../words.ts";
import type { TakeLine } from "./api.ts";
import { Pager, ageOf, useOpened, usePages } from "./paged.tsx";
import { SocketsInRoom } from "./rooms.tsx";
import { SocketCard } from "./socket.tsx";
import { Watch } from "./watched.tsx";

const orders: [order: ChannelOrder, head: string][] = [
  ["followers", "Followers"],
  ["rate", "Events/s"],
  ["bytes", "History"],
];

/** The channels of all servers, and one of them with its followers and events. */
export function ChannelsView({ desk }: { desk: Desk }) {
  const [channel, setChannel] = useState<Channel>();
  const [socket, setSocket] = useState<string>();
  return (
    <>
      {socket !== undefined && <SocketCard key={socket} id={socket} desk={desk} onClose={() => setSocket(undefined)} />}
      {channel !== undefined && <ChannelCard key={channel.room} channel={channel} desk={desk} onChoose={setSocket} onClose={() => setChannel(undefined)} />}
      <ChannelList desk={desk} onChoose={setChannel} />
    </>
  );
}

function ChannelList({ desk, onChoose }: { desk: Desk; onChoose: (channel: Channel) => void }) {
  const [order, setOrder] = useState<ChannelOrder>("followers");
  const pages = usePages(order, () => desk.apiOrThrow.channels(order));
  if (pages.isDenied) return <Denied title="Channels" permission="channels:read" size="wide" />;
  const { page } = pages;
  // The servers sort, because the list has only the first channels.
  const sorted = orders.map(([own, name]): SortHead => ({ name, sorted: own === order ? "descending" : undefined, onSort: () => setOrder(own) }));
  return (
    <Card title="Channels" size="wide" old={ageOf(desk, pages.asOf)}>
      {pages.trouble !== "" && (
        <p class="trouble" role="alert">
          {pages.trouble}
        </p>
      )}
      {page !== undefined && page.channels.length === 0 && <p class="nothing">No channel has followers, or events in the last minute.</p>}
      {page !== undefined && page.channels.length > 0 && (
        <Table name="Listed channels" heads={["Channel", ...sorted, "Stored events"]}>
          {page.channels.map((channel) => (
            <tr key={channel.room} data-channel={channel.channel}>
              <th scope="row" class="long">
                <button class="link-button" type="button" disabled={!desk.isOnline} aria-label={`Show the followers of ${channel.channel}`} onClick={() => onChoose(channel)}>
                  <bdi>{channel.channel}</bdi>
                </button>{" "}
                <span class="faint">{channel.kind}</span>
              </th>
              <td>{count(channel.followers)}</td>
              <td>{rate(channel.eventsPerSecond)}</td>
              <td>{stored(channel, ({ bytes: all }) => bytes(all))}</td>
              <td>{stored(channel, ({ events }) => count(events))}</td>
            </tr>
          ))}
        </Table>
      )}
      {page !== undefined && page.missing > 0 && <p class="nothing">{unansweredText(page.missing)}</p>}
      {page?.hasMore && <p class="nothing">Only the first channels are listed.</p>}
      {/* There is one page, so there is no button for the next one. */}
      <Pager pages={{ ...pages, page: undefined }} desk={desk} name="channels" />
    </Card>
  );
}

/** Returns a figure of what is stored, which may be more. */
function stored({ history }: Channel, inWords: (history: NonNullable<Channel["history"]>) => string): string {
  if (history === undefined) return "–";
  return `${history.hasMore ? "at least " : ""}${inWords(history)}`;
}

/** A channel: its followers, and its events as they are published. */
function ChannelCard({ channel: { channel, room }, desk, onChoose, onClose }: { channel: Channel; desk: Desk; onChoose: (id: string) => void; onClose: () => void }) {
  const pages = usePages(room, (cursor) => desk.apiOrThrow.sockets({ room, cursor }));
  const card = useOpened<HTMLDivElement>();
  // The event and its data come first.
  const watch = (take: TakeLine, signal: AbortSignal) => desk.apiOrThrow.live(channel, ({ event, data, ...others }) => take({ event, data, ...others }), signal);
  return (
    <Card title="Channel" size="wide" old={ageOf(desk, pages.asOf)}>
      <div class="opened" data-channel-details={channel} ref={card} tabIndex={-1}>
        <p class="long">
          <bdi class="strong">{channel}</bdi>
        </p>
        <h3>Followers</h3>
        <SocketsInRoom pages={pages} desk={desk} name="followers" none="No socket follows the channel." onChoose={onChoose} />
        <Watch of="channel" desk={desk} permission="channels:read" note="Fields that hold secrets are not shown." watch={watch} />
        <button class="button" type="button" onClick={onClose}>
          Back to the list
        </button>
      </div>
    </Card>
  );
}
