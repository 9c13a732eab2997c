import { TokenForm } from "../view/token.tsx";
import { ThemeToggle } from "../view/theme.tsx";
import { Chart } from "./chart.tsx";
import type { Desk, Part } from "./desk.ts";
import { Figures } from "./totals.tsx";
import { Find } from "./find.tsx";
import { Alerts, Refusals, Rooms, Servers, Times } from "./lists.tsx";
import { count, rate } from "./words.ts";

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
  const { reading } = desk;
  const points = desk.points.items;
  return (
    <div class="desk">
      <header class="desk-head">
        <img class="logo" src="/favicon.svg" alt="" width="32" height="32" />
        <div class="desk-title">
          <h1>Dashboard</h1>
          {reading !== undefined && (
            <p>
              Figures of <bdi>{reading.statistics.node}</bdi>
              {reading.statistics.nodes > 1 && `, one of ${reading.statistics.nodes} servers`}
            </p>
          )}
        </div>
        <ThemeToggle />
        <button class="button" type="button" onClick={() => desk.signOut()}>
          Sign out
        </button>
      </header>
      <State desk={desk} />
      <main class="desk-main">
        {desk.denied.has("figures") ? (
          <p class="card wide">Your role does not permit figures (api:metrics).</p>
        ) : (
          <>
            <Figures desk={desk} />
            <section class="card half" aria-label="Connections in the last minutes">
              <Chart title="Connections" points={points} inWords={count} lines={[{ name: "open", valueOf: ({ connections }) => connections }]} />
            </section>
            <section class="card half" aria-label="Events in the last minutes">
              <Chart
                title="Events a second"
                points={points}
                inWords={rate}
                lines={[
                  { name: "in", valueOf: ({ rates }) => rates?.received },
                  { name: "out", valueOf: ({ rates }) => rates?.sent },
                ]}
              />
            </section>
          </>
        )}
        <Servers desk={desk} />
        <Find desk={desk} />
        <Times desk={desk} />
        <Rooms desk={desk} />
        <Alerts desk={desk} />
        <Refusals desk={desk} />
      </main>
    </div>
  );
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const partNames: Record<Part, string> = { figures: "Figures", servers: "Servers", rooms: "Rooms" };

/** Whether the figures are current, otherwise their time. */
function State({ desk }: { desk: Desk }) {
  const { asOf, lostAt, troubles, isOnline } = desk;
  const [trouble] = troubles;
  const of = asOf === undefined ? "" : ` The figures are from ${clock.format(asOf)}.`;
  const isOld = !isOnline || trouble !== undefined;
  return (
    <section class={isOld ? "state is-old" : "state"} data-state={isOld ? "old" : "live"} aria-label="Connection">
      <p role="status">
        {!isOnline && `Not connected${lostAt === undefined ? "" : ` since ${clock.format(lostAt)}`}.${of} Trying again…`}
        {isOnline && trouble !== undefined && `${partNames[trouble[0]]}: ${trouble[1]}${of}`}
        {!isOld && "Live"}
      </p>
      {!isOld && asOf !== undefined && <p>{clock.format(asOf)}</p>}
    </section>
  );
}
