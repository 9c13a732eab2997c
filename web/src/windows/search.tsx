import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { App } from "../app.ts";
import type { Message } from "../types.ts";
import { type Piece, excerptAround, wordsOf } from "../words/excerpt.ts";
import { asFailure, explain } from "../words/failure.ts";
import { shortMoment } from "../words/time.ts";
import { Avatar, Tags } from "../view/parts.tsx";
import { Window } from "./window.tsx";

/** Delay after the last key press before the server is queried, in milliseconds. */
const TYPING_DELAY = 200;
/** Number of conversations that are shown before the messages, until the user requests all. */
const FIRST_CONVERSATIONS = 5;
/** Number of messages that one request returns. */
const PAGE = 30;

/** A found message, and the part of it that the query matches. */
interface Hit {
  message: Message;
  excerpt: readonly Piece[];
}

/** The messages found for a query, newest first. */
interface Answer {
  query: string;
  hits: readonly Hit[];
  /** Whether the server has older messages. */
  hasMore: boolean;
  /** Why the last request failed; empty if it succeeded. */
  failure: string;
}

const NOTHING: Answer = { query: "", hits: [], hasMore: false, failure: "" };

/** The window that finds conversations by title and messages by words. */
export function Search({ app }: { app: App }) {
  const [query, setQuery] = useState("");
  const [answer, setAnswer] = useState(NOTHING);
  /** The query whose conversations are all shown. */
  const [expanded, setExpanded] = useState("");
  const newest = useRef(0);
  /** The button that gets the focus when it is drawn. */
  const next = useRef("");
  const body = useRef<HTMLDivElement>(null);
  const trimmed = query.trim().slice(0, 200);
  const hasWords = wordsOf(trimmed).length > 0;
  // Results of another query are ignored, so that Enter does not open them.
  const isAnswered = answer.query === trimmed || !hasWords;
  const { hits, hasMore, failure } = answer.query === trimmed ? answer : NOTHING;
  const load = async (earlier: readonly Hit[]) => {
    const request = (newest.current += 1);
    let result: Answer;
    try {
      const beforeId = earlier.at(-1)?.message.id;
      const page = await app.connection?.request("message_search", { query: trimmed, limit: PAGE, ...(beforeId !== undefined && { beforeId }) });
      const found = (page?.messages ?? []).map((message) => ({ message, excerpt: excerptAround(message.content, trimmed) })).reverse();
      result = { query: trimmed, hits: [...earlier, ...found], hasMore: page?.hasMore ?? false, failure: "" };
    } catch (error) {
      result = { query: trimmed, hits: earlier, hasMore: earlier.length > 0, failure: explain(asFailure(error)) };
    }
    // Answers to outdated requests are ignored.
    if (request === newest.current) setAnswer(result);
  };
  useEffect(() => {
    newest.current += 1;
    if (!hasWords) return;
    const timer = setTimeout(() => void load([]), TYPING_DELAY);
    return () => clearTimeout(timer);
  }, [trimmed]);
  useLayoutEffect(() => {
    const button = next.current === "" ? null : body.current?.querySelector<HTMLElement>(next.current);
    if (!button) return;
    next.current = "";
    // A user who has moved on in the meantime keeps the focus.
    if (document.activeElement === document.body || document.activeElement?.matches(".found-more")) button.focus();
  });
  const matching = trimmed === "" ? [] : (app.inbox?.items ?? []).filter(({ title }) => title.toLowerCase().includes(trimmed.toLowerCase()));
  const shown = expanded === trimmed ? matching : matching.slice(0, FIRST_CONVERSATIONS);
  const focusFirst = () => body.current?.querySelector<HTMLElement>("button");
  return (
    <Window app={app} title="Search" onClose={() => app.show(undefined)} class="search">
      <form
        class="form"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          focusFirst()?.click();
        }}
        onKeyDown={(event) => {
          if (event.key !== "ArrowDown") return;
          // Otherwise the key would also scroll the results.
          event.preventDefault();
          focusFirst()?.focus();
        }}
      >
        <label class="spoken" for="search">
          Search words
        </label>
        <input id="search" type="search" dir="auto" value={query} placeholder="Words of a message, or a title" autocomplete="off" maxLength={200} onInput={(event) => setQuery(event.currentTarget.value)} />
      </form>
      <p class="help found-count" role="status">
        {trimmed === ""
          ? "Finds conversations by title and messages by their words. The last word can be incomplete."
          : !isAnswered
            ? "Searching…"
            : failure !== ""
              ? `Messages could not be searched. ${failure}`
              : summary(matching.length, hits.length, hasMore)}
      </p>
      <div class="found" ref={body} onKeyDown={walk}>
        {shown.length > 0 && (
          <section>
            <h3 id="found-conversations">Conversations</h3>
            <ul aria-labelledby="found-conversations">
              {shown.map(({ id, title }) => (
                <li key={id} class="found-conversation">
                  <button type="button" onClick={() => app.go({ id })}>
                    <Avatar id={id} name={title} />
                    <bdi class="found-title">{title}</bdi>
                  </button>
                </li>
              ))}
            </ul>
            {shown.length < matching.length && (
              <button
                class="found-more"
                type="button"
                onClick={() => {
                  next.current = `.found-conversation:nth-child(${shown.length + 1}) button`;
                  setExpanded(trimmed);
                }}
              >
                Show all {matching.length} conversations
              </button>
            )}
          </section>
        )}
        {hits.length > 0 && (
          <section>
            <h3 id="found-messages">Messages</h3>
            <ul aria-labelledby="found-messages">
              {hits.map((hit) => (
                <Found key={hit.message.id} app={app} hit={hit} />
              ))}
            </ul>
            {hasMore && (
              <button
                class="found-more"
                type="button"
                onClick={() => {
                  next.current = `.found-message:nth-child(${hits.length + 1}) button`;
                  void load(hits);
                }}
              >
                Show older messages
              </button>
            )}
          </section>
        )}
      </div>
    </Window>
  );
}

/** A found message with its author, conversation, time and the text around the matches. */
function Found({ app, hit: { message, excerpt } }: { app: App; hit: Hit }) {
  const { conversationId, seq, userId, userName, type, createdAt } = message;
  return (
    <li class="found-message">
      <button type="button" onClick={() => app.go({ id: conversationId, seq })}>
        <Avatar id={userId} name={userName} />
        <span class="found-text">
          <span class="found-head">
            <bdi class="found-title">{userName}</bdi>
            <Tags people={app.people} userId={userId} name={userName} type={type} />
            <span class="found-place">
              in <bdi>{app.inbox?.titleOf(conversationId)}</bdi>
            </span>
            <time datetime={createdAt}>{shortMoment(createdAt, new Date())}</time>
          </span>
          <bdi class="found-content">{excerpt.map(({ text, isMatch }, index) => (isMatch ? <mark key={index}>{text}</mark> : text))}</bdi>
        </span>
      </button>
    </li>
  );
}

/** Returns how much was found, or what to do if nothing was. */
function summary(conversations: number, messages: number, hasMore: boolean): string {
  if (conversations + messages === 0) return "No conversation and no message matches. Check the spelling, or search for fewer words.";
  const counts = [];
  if (conversations > 0) counts.push(conversations === 1 ? "1 conversation" : `${conversations} conversations`);
  if (messages > 0) counts.push(hasMore ? `the newest ${messages} messages` : messages === 1 ? "1 message" : `${messages} messages`);
  return counts.join(", ");
}

/** Arrow keys move through the results. */
function walk(event: preact.TargetedKeyboardEvent<HTMLDivElement>): void {
  const step = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
  if (step === 0) return;
  event.preventDefault();
  const buttons = [...event.currentTarget.querySelectorAll("button")];
  const index = buttons.findIndex((button) => button === document.activeElement) + step;
  if (index < 0) event.currentTarget.closest("dialog")?.querySelector("input")?.focus();
  else buttons[index]?.focus();
}
