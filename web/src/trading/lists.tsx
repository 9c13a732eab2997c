import { useEffect, useState } from "preact/hooks";
import { Spoken } from "../view/parts.tsx";
import { exactTime, listTime } from "../words/time.ts";

/** Number of lines of a list that are shown until the user expands it. */
const SHOWN = 50;

/** The time of day, or the day if it is not today. */
export function When({ at }: { at: string }) {
  return (
    <time datetime={at} title={exactTime(at)}>
      {listTime(at)}
    </time>
  );
}

/** The beginning of a list, and the whole list after the user expands it. */
export function Some<Item>({ all, hasMore = false, children }: { all: readonly Item[]; hasMore?: boolean; children: (shown: readonly Item[]) => preact.ComponentChildren }) {
  const [isWhole, setIsWhole] = useState(false);
  const isCut = all.length > SHOWN && !isWhole;
  // Collapses the list again after it was short.
  useEffect(() => {
    if (all.length <= SHOWN) setIsWhole(false);
  }, [all.length <= SHOWN]);
  return (
    <>
      {children(isCut ? all.slice(0, SHOWN) : all)}
      {isCut ? (
        <button class="link-button" type="button" onClick={() => setIsWhole(true)}>
          Show all {all.length}
          <Spoken> lines</Spoken>
        </button>
      ) : (
        hasMore && <p class="nothing">Older entries are not shown.</p>
      )}
    </>
  );
}
