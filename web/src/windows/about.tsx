import { useRef, useState } from "preact/hooks";
import { type App, addressOf } from "../app.ts";
import { isGuest } from "../model/account.ts";
import type { Conversation, Level } from "../model/conversation.ts";
import { scalarCount } from "../words/text.ts";
import { begin, change } from "./change.ts";
import { copyText } from "./copy.ts";
import { FilteredPeople } from "./filter.tsx";
import { InviteLinks } from "./invite.tsx";
import { Avatar, IconButton, PersonName, Tags } from "../view/parts.tsx";
import { Window } from "./window.tsx";

// One part of the page, which needs one request.
export { InviteDialog } from "./invite.tsx";
export { PersonDialog } from "./person.tsx";

const MAX_TITLE = 200;
const MAX_FOUND = 8;

/** What a user without conversations can do. */
export function First({ app }: { app: App }) {
  const { session } = app;
  return (
    <div class="absent first">
      <h2>You have no conversations yet</h2>
      {session?.guest ? (
        <p>Guests cannot start conversations. Open an invitation link that a member has sent to you.</p>
      ) : (
        <p>
          <button class="button button-primary" type="button" onClick={() => app.show("new")}>
            Start a conversation
          </button>
        </p>
      )}
      <p>
        The owner of a conversation can also add you by your id: <code>{session?.userId}</code>
      </p>
    </div>
  );
}

/** The window to create a conversation. */
export function NewDialog({ app }: { app: App }) {
  const [title, setTitle] = useState("");
  const [members, setMembers] = useState<readonly string[]>([]);
  const [isPending, setIsPending] = useState(false);
  // Enter may be pressed again before the button is redrawn.
  const isLocked = useRef(false);
  const commit = useRef<Commit>(() => []);
  const create = async () => {
    if (isLocked.current) return;
    const typed = commit.current();
    if (typed === undefined) return;
    const lock = (isOn: boolean) => setIsPending((isLocked.current = isOn));
    lock(true);
    const trimmed = title.trim();
    await begin(app, { memberIds: [...members, ...typed], ...(trimmed !== "" && { title: trimmed }) });
    lock(false);
  };
  return (
    <Window app={app} title="New conversation" onClose={() => app.show(undefined)}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          void create();
        }}
      >
        <TitleField value={title} onInput={setTitle} />
        <p class="help">Without a title, the names of its members are shown.</p>
        <Picker app={app} commit={commit} chosen={members} without={[]} add={(userId) => setMembers([...members, userId])} />
        <ul class="chosen" aria-label="Chosen people">
          {members.map((userId) => (
            <Member key={userId} app={app} userId={userId} word="Remove" remove={() => setMembers(members.filter((other) => other !== userId))} />
          ))}
        </ul>
        <div class="dialog-actions">
          <button class="button button-primary" type="submit" disabled={isPending || scalarCount(title) > MAX_TITLE}>
            Create
          </button>
        </div>
      </form>
    </Window>
  );
}

/** The window with the title and the members of a conversation, which its owner can change. */
export function AboutDialog({ app }: { app: App }) {
  return app.current ? <About key={app.current.id} app={app} conversation={app.current} /> : null;
}

function About({ app, conversation }: { app: App; conversation: Conversation }) {
  const { id, info, ownId } = conversation;
  const [title, setTitle] = useState(info?.title ?? "");
  const [confirming, setConfirming] = useState<"remove_member" | "delete_conversation">();
  if (info === undefined) return null;
  const isOwner = info.ownerId === ownId;
  // A guest becomes the owner if all others leave, and still may not change the conversation.
  const mayManage = isOwner && app.mayManage;
  const nameOf = (userId: string) => app.people.nameOf(userId) ?? userId;
  const take = async (changing: ReturnType<typeof change>) => {
    const changed = await changing;
    if (changed !== undefined) app.inbox?.update(changed);
  };
  const leave = async (event: "remove_member" | "delete_conversation") => {
    if (confirming !== event) return setConfirming(event);
    const answer = event === "delete_conversation" ? await app.request(event, { conversationId: id }) : await change(app, event, { conversationId: id, userId: ownId });
    if (answer === undefined) return;
    app.inbox?.forget(id);
    app.go({});
  };
  const copy = async () => {
    const isCopied = await copyText(location.origin + location.pathname + addressOf(id));
    if (!isCopied) app.notice("Your browser does not let this page copy. Copy the address of the page instead.");
    else app.confirm(`The link was copied. It opens this conversation for ${conversation.isOpen ? "all users of this server" : "its members"}.`);
  };
  return (
    <Window app={app} title="About this conversation" onClose={() => app.show(undefined)}>
      {mayManage ? (
        <form
          class="form"
          onSubmit={(event) => {
            event.preventDefault();
            void take(change(app, "rename_conversation", { conversationId: id, title: title.trim() }));
          }}
        >
          <TitleField value={title} onInput={setTitle} />
          <button class="button" type="submit" disabled={title.trim() === "" || title.trim() === info.title}>
            Rename
          </button>
        </form>
      ) : (
        <p class="about-title">
          <bdi>{app.inbox?.titleOf(id)}</bdi>
        </p>
      )}
      {conversation.isOpen ? (
        <p class="help">All users of this server can read and write here. To invite people, share the link of this conversation.</p>
      ) : (
        <>
          <h3 id="members">Members · {info.memberIds.length}</h3>
          <FilteredPeople people={info.memberIds.map((userId) => ({ userId, name: app.people.nameOf(userId) ?? userId }))} labelledBy="members" class="chosen">
            {({ userId }) => (
              <Member
                key={userId}
                app={app}
                userId={userId}
                word={userId === ownId ? "you" : userId === info.ownerId ? "owner" : "Remove"}
                show={() => app.showPerson(userId)}
                remove={mayManage && userId !== ownId ? () => void take(change(app, "remove_member", { conversationId: id, userId })) : undefined}
              />
            )}
          </FilteredPeople>
          {mayManage && <Picker app={app} chosen={[]} without={info.memberIds} add={(userId) => void take(change(app, "add_member", { conversationId: id, userId }))} />}
          {mayManage && <InviteLinks app={app} conversationId={id} />}
          {!mayManage && (
            <p class="help">
              {isOwner ? "Guests cannot invite people. Sign in to do that." : <>Only the owner can invite people: <bdi>{nameOf(info.ownerId ?? "")}</bdi>.</>}
            </p>
          )}
        </>
      )}
      <div class="form level">
        <label for="level">Notify me of</label>
        <select id="level" value={conversation.level} onChange={(event) => void conversation.setLevel(event.currentTarget.value as Level)}>
          <option value="all">all messages</option>
          <option value="mentions">messages that mention me</option>
          <option value="none">nothing</option>
        </select>
      </div>
      <div class="dialog-actions">
        <button class="button" type="button" onClick={() => void copy()}>
          Copy link
        </button>
        {!conversation.isOpen && (!isOwner || info.memberIds.length > 1) && (
          <button class="button button-bad" type="button" onClick={() => void leave("remove_member")}>
            {confirming === "remove_member" ? "Really leave" : "Leave"}
          </button>
        )}
        {!conversation.isOpen && mayManage && (
          <button class="button button-bad" type="button" onClick={() => void leave("delete_conversation")}>
            {confirming === "delete_conversation" ? "Really delete for all members" : "Delete"}
          </button>
        )}
      </div>
    </Window>
  );
}

function TitleField({ value, onInput }: { value: string; onInput: (value: string) => void }) {
  return (
    <>
      <label for="title">Title</label>
      <input id="title" type="text" dir="auto" value={value} autocomplete="off" maxLength={MAX_TITLE} onInput={(event) => onInput(event.currentTarget.value)} />
    </>
  );
}

/** Returns the typed user if it is not added yet, or `undefined` after refusing the text. */
type Commit = () => readonly string[] | undefined;

interface PickerProps {
  app: App;
  /** Receives the function to call before the form is submitted. */
  commit?: { current: Commit };
  chosen: readonly string[];
  without: readonly string[];
  add: (userId: string) => void;
}

/** Finds known people, and accepts the id of any other user. */
function Picker({ app, commit, chosen, without, add }: PickerProps) {
  const [query, setQuery] = useState("");
  /** The text that is added as a user id after a confirmation. */
  const [unknownId, setUnknownId] = useState("");
  /** The text that was refused because it is no user yet. */
  const [refused, setRefused] = useState("");
  const field = useRef<HTMLInputElement>(null);
  const trimmed = query.trim();
  const isTaken = (userId: string) => chosen.includes(userId) || without.includes(userId) || userId === app.session?.userId;
  const found = app.people.find(trimmed, MAX_FOUND * 4).filter(({ userId }) => !isTaken(userId));
  const isId = trimmed !== "" && scalarCount(trimmed) <= 128 && !isTaken(trimmed) && !found.some(({ userId, name }) => userId === trimmed || name === trimmed);
  const choose = (userId: string) => {
    add(userId);
    setQuery("");
    setUnknownId("");
  };
  if (commit) {
    commit.current = () => {
      const text = (field.current?.value ?? "").trim();
      if (text === "" || isTaken(text)) return [];
      const exact = app.people.find(text, Infinity).filter(({ userId, name }) => userId === text || name.toLowerCase() === text.toLowerCase());
      const [only, other] = exact;
      if (only !== undefined && other === undefined && isCertain(app, only, text)) return isTaken(only.userId) ? [] : [only.userId];
      if (exact.length === 0 && found.length === 0) setUnknownId(text);
      else setRefused(text);
      field.current?.focus();
      return undefined;
    };
  }
  const isRefused = refused !== "" && refused === trimmed;
  return (
    <div class="form">
      <label for="picker">Add people</label>
      <input
        id="picker"
        ref={field}
        type="text"
        aria-invalid={isRefused}
        aria-describedby="picker-help"
        dir="auto"
        value={query}
        placeholder="A name, or the id of a user"
        autocomplete="off"
        onInput={(event) => setQuery(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter") return;
          event.preventDefault();
          const first = found[0]?.userId;
          if (trimmed !== "" && first !== undefined) choose(first);
          else if (isId) setUnknownId(trimmed);
        }}
      />
      <p id="picker-help" class="help is-wrong" role="alert" hidden={!isRefused}>
        {isRefused && (
          <>
            <bdi>{trimmed}</bdi> is not added yet. Choose a person, or empty this field.
          </>
        )}
      </p>
      <ul class="picker" aria-label="People to add">
        {found.slice(0, MAX_FOUND).map(({ userId, name }) => (
          <li key={userId}>
            <button type="button" onClick={() => choose(userId)}>
              <Avatar id={userId} name={name} />
              <bdi class="person-name">{name}</bdi>
              <Tags people={app.people} userId={userId} name={name} />
            </button>
          </li>
        ))}
        {isId && unknownId !== trimmed && (
          <li>
            <button type="button" onClick={() => setUnknownId(trimmed)}>
              <Avatar id={trimmed} name={trimmed} />
              <span class="person-name">
                The user with the id <bdi>{trimmed}</bdi>
              </span>
            </button>
          </li>
        )}
      </ul>
      {trimmed === "" && found.length === 0 && <p class="help">Enter the id of a user, or invite people by a link after the conversation is created.</p>}
      {isId && unknownId === trimmed && (
        <div role="alert">
          <p class="help">
            This page does not know a user named <bdi>{trimmed}</bdi>. If this is a user id, you can add that user as a member.
          </p>
          <div class="dialog-actions">
            <button class="button" type="button" onClick={() => setUnknownId("")}>
              Cancel
            </button>
            <button class="button button-primary" type="button" onClick={() => choose(trimmed)}>
              Add this id
            </button>
          </div>
        </div>
      )}
    </div>
  );
}

/**
 * Whether a typed text means this user without a doubt: it is the id, or the name of a user who is
 * not a guest and whom no other known user resembles.
 */
function isCertain(app: App, { userId, name }: { userId: string; name: string }, text: string): boolean {
  return userId === text || (!isGuest(userId) && app.people.markOf(userId, name) === undefined);
}

interface MemberProps {
  app: App;
  userId: string;
  word: string;
  /** Opens the card of the user. Absent if that would discard what was entered. */
  show?: () => void;
  remove: (() => void) | undefined;
}

function Member({ app, userId, word, show, remove }: MemberProps) {
  const name = app.people.nameOf(userId) ?? userId;
  return (
    <li class="person">
      <Avatar id={userId} name={name} />
      {show ? <PersonName userId={userId} name={name} class="person-name" show={show} /> : <bdi class="person-name">{name}</bdi>}
      <Tags people={app.people} userId={userId} name={name} />
      {remove ? <IconButton icon="close" label={`${word} ${name}`} onClick={remove} /> : word !== "Remove" && <span class="tag">{word}</span>}
    </li>
  );
}
