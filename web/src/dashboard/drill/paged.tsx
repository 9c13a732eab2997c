import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type Desk, explain, isDenied } from "../desk.ts";
import { clock } from "../words.ts";

/** A list of which one page is shown at a time. */
export interface Pages<Page> {
  page: Page | undefined;
  /** Why the last request failed. */
  trouble: string;
  isDenied: boolean;
  isBusy: boolean;
  /** The number of the shown page, from 1. */
  number: number;
  asOf: Date | undefined;
  next: () => void;
  previous: () => void;
  refresh: () => void;
}

/** Requests the first page of a list, and again whenever `key` changes. */
export function usePages<Page extends { cursor?: string }>(key: string, load: (cursor: string | undefined) => Promise<Page>): Pages<Page> {
  const [page, setPage] = useState<Page>();
  const [cursors, setCursors] = useState<(string | undefined)[]>([undefined]);
  const [trouble, setTrouble] = useState("");
  const [denied, setDenied] = useState(false);
  const [isBusy, setIsBusy] = useState(false);
  const [asOf, setAsOf] = useState<Date>();
  // Identifies the newest request: the result of an earlier one, or after the end, is ignored.
  const newest = useRef(0);
  const go = async (path: (string | undefined)[]) => {
    const own = (newest.current += 1);
    setIsBusy(true);
    try {
      const page = await load(path.at(-1));
      if (own !== newest.current) return;
      setPage(page);
      setCursors(path);
      setAsOf(new Date());
      setTrouble("");
    } catch (error) {
      if (own !== newest.current) return;
      if (isDenied(error)) setDenied(true);
      else setTrouble(explain(error));
    }
    setIsBusy(false);
  };
  useEffect(() => {
    void go([undefined]);
    return () => {
      newest.current += 1;
    };
  }, [key]);
  return {
    page,
    trouble,
    isDenied: denied,
    isBusy,
    number: cursors.length,
    asOf,
    next: () => void go([...cursors, page?.cursor]),
    previous: () => void go(cursors.slice(0, -1)),
    refresh: () => void go(cursors),
  };
}

/**
 * Returns the reference of an element that takes the focus when it appears, above the list with the
 * button that opened it. The focus returns to that button.
 */
export function useOpened<Opened extends HTMLElement>(): RefObject<Opened | null> {
  const opened = useRef<Opened>(null);
  useLayoutEffect(() => {
    const before = document.activeElement;
    opened.current?.focus({ preventScroll: true });
    opened.current?.scrollIntoView({ block: "start" });
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return opened;
}

/** Returns the age of a page in milliseconds while the server is not connected. */
export function ageOf(desk: Desk, asOf: Date | undefined): number | undefined {
  return desk.isOnline || asOf === undefined ? undefined : Date.now() - asOf.getTime();
}

/** The buttons of a list, and the time of its page. */
export function Pager({ pages, desk, name }: { pages: Pages<{ cursor?: string; hasMore?: boolean }>; desk: Desk; name: string }) {
  const isIdle = desk.isOnline && !pages.isBusy;
  return (
    <div class="pager">
      <p>{pages.asOf === undefined ? (pages.trouble === "" ? "Loading…" : "") : `As of ${clock.format(pages.asOf)}${pages.number > 1 || pages.page?.hasMore === true ? `, page ${pages.number}` : ""}`}</p>
      <button class="button" type="button" aria-label={`Refresh ${name}`} disabled={!isIdle} onClick={pages.refresh}>
        Refresh
      </button>
      {(pages.number > 1 || pages.page?.hasMore === true) && (
        <>
          <button class="button" type="button" aria-label={`Previous page of ${name}`} disabled={!isIdle || pages.number === 1} onClick={pages.previous}>
            Previous
          </button>
          <button class="button" type="button" aria-label={`Next page of ${name}`} disabled={!isIdle || pages.page?.hasMore !== true} onClick={pages.next}>
            Next
          </button>
        </>
      )}
    </div>
  );
}

/** An action whose outcome is announced. Only one runs at a time. */
export function useOutcome(): { outcome: string; isBusy: boolean; attempt: (act: () => Promise<string>) => Promise<void> } {
  const [outcome, setOutcome] = useState("");
  const [isBusy, setIsBusy] = useState(false);
  const isMounted = useRef(true);
  useEffect(
    () => () => {
      isMounted.current = false;
    },
    [],
  );
  const attempt = async (act: () => Promise<string>) => {
    if (isBusy) return;
    setIsBusy(true);
    setOutcome("");
    let text: string;
    try {
      text = await act();
    } catch (error) {
      text = explain(error);
    }
    // The admin may have signed out in the meantime.
    if (!isMounted.current) return;
    setOutcome(text);
    setIsBusy(false);
  };
  return { outcome, isBusy, attempt };
}

/** The outcome of an action. */
export function Outcome({ text }: { text: string }) {
  return (
    <p class="outcome-line" role="status">
      <bdi>{text}</bdi>
    </p>
  );
}

/** A field with a button that starts a search. */
export function SearchForm({ label, hint, initial = "", onSearch }: { label: string; hint?: string; initial?: string; onSearch: (text: string) => void }) {
  const [input, setInput] = useState(initial);
  const id = `search-${label.toLowerCase().replaceAll(" ", "-")}`;
  return (
    <form
      class="find"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        onSearch(input.trim());
      }}
    >
      <label for={id}>{label}</label>
      <input id={id} type="text" dir="auto" value={input} autocomplete="off" spellcheck={false} maxLength={200} aria-describedby={hint === undefined ? undefined : `${id}-hint`} onInput={(event) => setInput(event.currentTarget.value)} />
      <button class="button button-primary" type="submit">
        Search
      </button>
      {hint !== undefined && (
        <p class="nothing" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </form>
  );
}
