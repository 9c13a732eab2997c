import { useEffect, useState } from "preact/hooks";
import { exactTime } from "../../words/time.ts";
import { type Desk, explain, isDenied } from "../desk.ts";
import { Ring } from "../figures.ts";
import type { TakeLine } from "./api.ts";
import { type Happening, eventOf } from "./trace.ts";

/** Maximum number of shown events. */
const SHOWN_EVENTS = 100;

interface WatchProps {
  /** The subject, such as `socket`, for the id of the heading. */
  of: string;
  desk: Desk;
  permission: string;
  note: string;
  /** Passes on each event until `signal` is aborted or the server ends the stream. */
  watch: (take: TakeLine, signal: AbortSignal) => Promise<void>;
}

/** Live events, requested only while they are shown. */
export function Watch({ of, desk, note, ...watched }: WatchProps) {
  const [isOpen, setIsOpen] = useState(false);
  const heading = `events-of-${of}`;
  useEffect(() => {
    // A trace costs every server, so it ends when the page is hidden.
    const handleVisibility = () => document.visibilityState === "hidden" && setIsOpen(false);
    document.addEventListener("visibilitychange", handleVisibility);
    return () => document.removeEventListener("visibilitychange", handleVisibility);
  }, []);
  return (
    <section class="part" aria-labelledby={heading}>
      <h3 id={heading}>Events</h3>
      <button class="button" type="button" aria-expanded={isOpen} disabled={!isOpen && !desk.isOnline} onClick={() => setIsOpen(!isOpen)}>
        {isOpen ? "Stop watching" : "Watch events"}
      </button>
      {isOpen ? <Watched {...watched} /> : <p class="nothing">Watching is recorded in the audit log. {note}</p>}
    </section>
  );
}

function Watched({ permission, watch }: Pick<WatchProps, "permission" | "watch">) {
  const [events, setEvents] = useState<readonly Happening[]>([]);
  const [ended, setEnded] = useState("");
  const [denied, setDenied] = useState(false);
  useEffect(() => {
    const ring = new Ring<Happening>(SHOWN_EVENTS);
    const stop = new AbortController();
    let number = 0;
    let isScheduled = false;
    const take = (line: Record<string, unknown>) => {
      ring.push(eventOf((number += 1), line));
      // A busy socket is drawn a few times a second.
      if (isScheduled) return;
      isScheduled = true;
      setTimeout(() => {
        isScheduled = false;
        if (!stop.signal.aborted) setEvents(ring.items);
      }, 200);
    };
    const run = async () => {
      try {
        await watch(take, stop.signal);
        if (!stop.signal.aborted) setEnded("The server has ended this.");
      } catch (error) {
        if (stop.signal.aborted) return;
        if (isDenied(error)) setDenied(true);
        else setEnded(explain(error));
      }
    };
    void run();
    return () => stop.abort();
  }, []);
  if (denied) return <p class="nothing">Your role does not permit this ({permission}).</p>;
  return (
    <>
      <ul class="entries" tabIndex={0} aria-label={`The latest, ${SHOWN_EVENTS} at most`}>
        {events.toReversed().map(({ number, at, step, more }) => (
          <li key={number}>
            <span class="entry-text">
              <span class="strong">{step}</span> <bdi class="faint">{more}</bdi>
            </span>
            <time class="entry-at" datetime={at}>
              {exactTime(at)}
            </time>
          </li>
        ))}
      </ul>
      {events.length === 0 && ended === "" && <p class="nothing">Waiting for events…</p>}
      <p class="nothing" role="status">
        {ended}
      </p>
    </>
  );
}
