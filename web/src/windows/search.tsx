import { useEffect, useRef, useState } from "preact/hooks";
import type { App } from "../app.ts";
import type { Message } from "../types.ts";
import { asFailure, explain } from "../words/failure.ts";
import { excerptOf } from "../words/markdown.ts";
import { exactTime } from "../words/time.ts";
import { Avatar, Tags } from "../view/parts.tsx";
import { Window } from "./window.tsx";

/** Delay after the last key press before the server is queried, in milliseconds. */
const TYPING_DELAY = 200;

/** The messages found for a query, and a summary. */
interface Answer {
  query: string;
  messages: readonly Message[];
  words: string;
}

const NOTHING: Answer = { query: "", messages: [], words: "" };

/** The window that finds conversations by title and messages by words. */
export function Search({ app }: { app: App }) {
  const [query, setQuery] = useState("");
  const [answer, setAnswer] = useState(NOTHING);
  const newest = useRef(0);
  const close = () => app.show(undefined);
  const trimmed = query.trim().slice(0, 200);
  // Results of another query are ignored, so that Enter does not open them.
  const { messages: found, words } = answer.query === trimmed ? answer : NOTHING;
  useEffect(() => {
    const request = (newest.current += 1);
    // Answers to outdated queries are ignored.
    const isCurrent = () => request === newest.current;
    if (trimmed === "") return;
    const timer = setTimeout(async () => {
      try {
        const { messages } = await app.search(trimmed);
        if (!isCurrent()) return;
        const words = messages.length === 0 ? "No message contains these words." : `${messages.length} ${messages.length === 1 ? "message" : "messages"}`;
        setAnswer({ query: trimmed, messages: messages.toReversed(), words });
      } catch (error) {
        const words = explain(asFailure(error));
        if (isCurrent()) setAnswer({ query: trimmed, messages: [], words });
      }
    }, TYPING_DELAY);
    return () => clearTimeout(timer);
  }, [trimmed]);
  const titles = trimmed === "" ? [] : (app.inbox?.items ?? []).filter(({ title }) => title.toLowerCase().includes(trimmed.toLowerCase())).slice(0, 5);
  return (
    <Window app={app} title="Search" onClose={close} class="search">
      <form
        class="form"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          event.currentTarget.closest("dialog")?.querySelector<HTMLElement>(".found button")?.click();
        }}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown") event.currentTarget.closest("dialog")?.querySelector<HTMLElement>(".found button")?.focus();
        }}
      >
        <label class="spoken" for="search">
          Search words
        </label>
        <input id="search" type="search" dir="auto" value={query} placeholder="Words of a message, or a title" autocomplete="off" maxLength={200} onInput={(event) => setQuery(event.currentTarget.value)} />
      </form>
      <p class="help" role="status">
        {words}
      </p>
      <ul class="found" onKeyDown={walk}>
        {titles.map(({ id, title }) => (
          <li key={id}>
            <button type="button" onClick={() => app.go({ id })}>
              <Avatar id={id} name={title} />
              <bdi class="found-title">{title}</bdi>
            </button>
          </li>
        ))}
        {found.map((message) => (
          <li key={message.id}>
            <button type="button" onClick={() => app.go({ id: message.conversationId, seq: message.seq })}>
              <Avatar id={message.userId} name={message.userName} />
              <span class="found-text">
                <span class="found-head">
                  <bdi class="found-title">{message.userName}</bdi>
                  <Tags people={app.people} userId={message.userId} name={message.userName} />
                  <bdi>{app.inbox?.titleOf(message.conversationId)}</bdi>
                </span>
                <bdi class="found-content">{excerptOf(message.content, 160)}</bdi>
                <time datetime={message.createdAt}>{exactTime(message.createdAt)}</time>
              </span>
            </button>
          </li>
        ))}
      </ul>
    </Window>
  );
}

/** Arrow keys move through the results. */
function walk(event: preact.TargetedKeyboardEvent<HTMLUListElement>): void {
  const step = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
  if (step === 0) return;
  event.preventDefault();
  const buttons = [...event.currentTarget.querySelectorAll("button")];
  const index = buttons.findIndex((button) => button === document.activeElement) + step;
  if (index < 0) event.currentTarget.closest("dialog")?.querySelector("input")?.focus();
  else buttons[index]?.focus();
}
