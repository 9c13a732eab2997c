import { exactTime } from "../../words/time.ts";
import type { Desk } from "../desk.ts";
import { Card, Denied, Table } from "../lists.tsx";
import { lasting } from "../words.ts";
import { Pager, ageOf, usePages } from "./paged.tsx";

/** The stored alerts of all servers, also of processes that have ended. */
export function AlertHistory({ desk }: { desk: Desk }) {
  const pages = usePages("alerts", (cursor) => desk.apiOrThrow.alerts(cursor));
  if (pages.isDenied) return <Denied title="Alerts of seven days" permission="api:metrics" size="wide" />;
  const alerts = pages.page?.alerts ?? [];
  return (
    <Card title="Alerts of seven days" size="wide" old={ageOf(desk, pages.asOf)}>
      {pages.trouble !== "" && (
        <p class="trouble" role="alert">
          {pages.trouble}
        </p>
      )}
      {pages.page !== undefined && alerts.length === 0 && <p class="nothing">Nothing has failed in the last seven days.</p>}
      {alerts.length > 0 && (
        <Table name="Stored alerts" texts={6} heads={["What", "State", "Server", "Began", "Lasted", "Rule"]}>
          {alerts.map(({ id, node, alert, part, task, state, beganAt, endedAt }) => (
            <tr key={id} data-alert={alert}>
              <th scope="row">{task === undefined ? part : `${part} ${task}`}</th>
              <td class={state === "ok" ? "text" : "text is-bad"}>{state === "ok" ? "works again" : "does not work"}</td>
              <td class="text">
                <bdi>{node}</bdi>
              </td>
              <td class="text">{beganAt === undefined ? "–" : <time datetime={beganAt}>{exactTime(beganAt)}</time>}</td>
              <td class="text">{beganAt === undefined ? "–" : lasting((endedAt === undefined ? Date.now() : Date.parse(endedAt)) - Date.parse(beganAt))}</td>
              <td class="text">{alert}</td>
            </tr>
          ))}
        </Table>
      )}
      <Pager pages={pages} desk={desk} name="alerts" />
    </Card>
  );
}
