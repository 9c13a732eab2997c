import { TokenForm } from "../view/token.tsx";
import { ThemeToggle } from "../view/theme.tsx";
import { Activity, Connects, Incidents, MostActive } from "./activity.tsx";
import { type Desk, type Part, VIEWS, type View } from "./desk.ts";
import { AlertHistory } from "./drill/alerts.tsx";
import { Blocks } from "./drill/blocks.tsx";
import { ChannelsView } from "./drill/channels.tsx";
import { RoomsView } from "./drill/rooms.tsx";
import { Sockets } from "./drill/sockets.tsx";
import { Alerts, ChartCard, Parts, Refusals, Servers, Times } from "./lists.tsx";
import { LargestRooms } from "./rooms.tsx";
import { Figures } from "./totals.tsx";
import { clock, count, many, nodeId, rate } from "./words.ts";

export function Page({ desk }: { desk: Desk }) {
  switch (desk.phase) {
    case "out":
      return <SignIn desk={desk} />;
    case "forbidden":
      return <Forbidden desk={desk} />;
    case "in":
      // Shows nothing, not even the headings, before the server has accepted the token.
      return desk.asOf === undefined && !desk.isOnline ? <Waiting desk={desk} /> : <Live desk={desk} />;
  }
}

function SignIn({ desk }: { desk: Desk }) {
  return (
    <main class="entry">
      <div class="entry-card">
        <img src="/favicon.svg" alt="" width="56" height="56" />
        <h1>Dashboard</h1>
        <p class="entry-lead">For admins of this server.</p>
        {desk.reason !== "" && (
          <p class="entry-reason" role="alert">
            {desk.reason}
          </p>
        )}
        <TokenForm submit={(token) => desk.signIn(token)} />
      </div>
    </main>
  );
}

function Forbidden({ desk }: { desk: Desk }) {
  return (
    <main class="alone">
      <h1 class="spoken">Dashboard</h1>
      <p role="alert">This page is for admins, and your role does not permit access.</p>
      <button class="link-button" type="button" onClick={() => desk.signInAgain()}>
        Use another token
      </button>
    </main>
  );
}

function Waiting({ desk }: { desk: Desk }) {
  return (
    <main class="alone">
      <h1 class="spoken">Dashboard</h1>
      <p role="status">{desk.status.state === "offline" ? "The server is unreachable. Trying again…" : "Connecting…"}</p>
      <button class="link-button" type="button" onClick={() => desk.signOut()}>
        Sign out
      </button>
    </main>
  );
}

function Live({ desk }: { desk: Desk }) {
  const { cluster } = desk;
  return (
    <div class="desk">
      <header class="desk-head">
        <img class="logo" src="/favicon.svg" alt="" width="32" height="32" />
        <div class="desk-title">
          <h1>Dashboard</h1>
          {cluster !== undefined && <p>Figures of {cluster.servers.length === 1 && cluster.missing.length === 0 ? <bdi>{nodeId(cluster.servers[0]?.name ?? "")}</bdi> : many(cluster.servers.length, "server")}</p>}
        </div>
        <ThemeToggle />
        <button class="button" type="button" onClick={() => desk.signOut()}>
          Sign out
        </button>
      </header>
      <Views desk={desk} />
      <State desk={desk} />
      <main class="desk-main">
        <Content desk={desk} />
      </main>
    </div>
  );
}

const viewNames: Record<View, string> = { overview: "Overview", activity: "Activity", sockets: "Sockets", rooms: "Rooms", channels: "Channels", blocks: "Blocks", alerts: "Alerts" };

function Views({ desk }: { desk: Desk }) {
  return (
    <nav class="views" aria-label="Views">
      <ul>
        {VIEWS.map((view) => (
          <li key={view}>
            <button type="button" aria-current={view === desk.view ? "page" : undefined} onClick={() => desk.show(view)}>
              {viewNames[view]}
            </button>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function Content({ desk }: { desk: Desk }) {
  switch (desk.view) {
    case "overview":
      return <Overview desk={desk} />;
    case "activity":
      return <Activity desk={desk} />;
    case "sockets":
      return <Sockets desk={desk} />;
    case "rooms":
      return <RoomsView desk={desk} />;
    case "channels":
      return <ChannelsView desk={desk} />;
    case "blocks":
      return <Blocks desk={desk} />;
    case "alerts":
      return <AlertHistory desk={desk} />;
  }
}

function Overview({ desk }: { desk: Desk }) {
  const points = desk.points.items;
  const old = desk.oldness("figures");
  return (
    <>
      {desk.denied.has("figures") ? (
        <p class="card wide">Your role does not permit figures (api:metrics).</p>
      ) : (
        <>
          <Figures desk={desk} />
          <ChartCard label="Connections in the last minutes" old={old} title="Connections" points={points} inWords={count} lines={[{ name: "open", valueOf: ({ connections }) => connections }]} />
          <ChartCard
            label="Events in the last minutes"
            old={old}
            title="Events a second"
            points={points}
            inWords={rate}
            lines={[
              { name: "in", valueOf: ({ rates }) => rates?.received },
              { name: "out", valueOf: ({ rates }) => rates?.sent },
            ]}
          />
        </>
      )}
      <Connects desk={desk} />
      <MostActive desk={desk} />
      <Incidents desk={desk} />
      <Servers desk={desk} />
      <Parts desk={desk} />
      <Times desk={desk} />
      <LargestRooms desk={desk} title="Rooms" onChoose={(room) => desk.openRoom(room)} />
      <Alerts desk={desk} />
      <Refusals desk={desk} />
    </>
  );
}

const partNames: Record<Part, string> = { figures: "Figures", servers: "Servers", rooms: "Rooms", diagnosis: "Activity" };

/** Whether the figures are current and complete, otherwise their time and what is missing. */
function State({ desk }: { desk: Desk }) {
  const { asOf, lostAt, troubles, isOnline } = desk;
  const [trouble] = troubles;
  const of = asOf === undefined ? "" : ` The figures are from ${clock.format(asOf)}.`;
  const isSilent = isOnline && trouble === undefined && desk.oldness("figures") !== undefined;
  const isOld = !isOnline || isSilent || trouble !== undefined;
  const missing = desk.cluster?.missing.map(({ id }) => id) ?? [];
  const isPartial = !isOld && missing.length > 0;
  return (
    <section class={isOld || isPartial ? "state is-old" : "state"} data-state={isOld ? "old" : isPartial ? "partial" : "live"} aria-label="Connection">
      <p role="status">
        {!isOnline && `Not connected${lostAt === undefined ? "" : ` since ${clock.format(lostAt)}`}.${of} Trying again…`}
        {isOnline && trouble !== undefined && `${partNames[trouble[0]]}: ${trouble[1]}${of}`}
        {isSilent && `The server does not answer.${of}`}
        {isPartial && `No answer from ${missing.join(", ")}. The totals do not include ${missing.length === 1 ? "it" : "them"}.`}
        {!isOld && !isPartial && "Live"}
      </p>
      {!isOld && asOf !== undefined && <p>{clock.format(asOf)}</p>}
    </section>
  );
}
