import { useState } from "preact/hooks";
import { exactTime } from "../../words/time.ts";
import type { Desk } from "../desk.ts";
import { Card, Denied, Table } from "../lists.tsx";
import type { BlockedNetwork } from "../types.ts";
import { BlockDialog, Confirm } from "./dialogs.tsx";
import { Outcome, Pager, ageOf, useOutcome, usePages } from "./paged.tsx";

/** The blocked networks, which can be lifted, and new ones. */
export function Blocks({ desk }: { desk: Desk }) {
  const pages = usePages("blocks", (cursor) => desk.apiOrThrow.blocks(cursor));
  const { outcome, isBusy, attempt } = useOutcome();
  const [lifted, setLifted] = useState<BlockedNetwork>();
  const [isNew, setIsNew] = useState(false);
  if (pages.isDenied) return <Denied title="Blocks" permission="api:blocks" size="wide" />;
  const act = (what: () => Promise<string>) =>
    attempt(async () => {
      const text = await what();
      pages.refresh();
      return text;
    });
  const isIdle = desk.isOnline && !isBusy;
  const blocks = pages.page?.blocks ?? [];
  return (
    <Card title="Blocks" size="wide" old={ageOf(desk, pages.asOf)}>
      <div class="actions">
        <button class="button" type="button" disabled={!isIdle} onClick={() => setIsNew(true)}>
          Block an address
        </button>
      </div>
      <Outcome text={outcome} />
      {pages.trouble !== "" && (
        <p class="trouble" role="alert">
          {pages.trouble}
        </p>
      )}
      {pages.page !== undefined && blocks.length === 0 && <p class="nothing">No address is blocked.</p>}
      {blocks.length > 0 && (
        <Table name="Blocked networks" texts={6} heads={["Network", "Action", "Reason", "By", "Since", "Until"]}>
          {blocks.map((block) => (
            <tr key={block.id} data-block={block.cidr}>
              <th scope="row">{block.cidr}</th>
              <td class="text">
                {block.source === "configuration" ? (
                  "fixed"
                ) : (
                  <button class="link-button" type="button" disabled={!isIdle} aria-label={`Lift the block of ${block.cidr}`} onClick={() => setLifted(block)}>
                    Lift
                  </button>
                )}
              </td>
              <td class="text long">
                <bdi>{block.reason}</bdi>
              </td>
              <td class="text">{sources[block.source] ?? block.source}</td>
              <td class="text">
                <time datetime={block.createdAt}>{exactTime(block.createdAt)}</time>
              </td>
              <td class="text">{block.expiresAt === undefined ? "permanent" : <time datetime={block.expiresAt}>{exactTime(block.expiresAt)}</time>}</td>
            </tr>
          ))}
        </Table>
      )}
      <Pager pages={pages} desk={desk} name="blocks" />
      {lifted !== undefined && (
        <Confirm
          title="Lift a block"
          act="Lift"
          onClose={() => setLifted(undefined)}
          onConfirm={() =>
            void act(async () => {
              await desk.apiOrThrow.lift(lifted.id);
              return `${lifted.cidr} is no longer blocked.`;
            })
          }
        >
          <p>
            Clients from <bdi class="strong">{lifted.cidr}</bdi> can connect again, to all servers.
          </p>
        </Confirm>
      )}
      {isNew && <BlockDialog address={undefined} onClose={() => setIsNew(false)} onConfirm={(cidr, reason, seconds) => void act(() => desk.block(cidr, reason, seconds))} />}
    </Card>
  );
}

const sources: Record<string, string> = { admin: "an admin", automatic: "the server", configuration: "the configuration" };
