import { useEffect, useState } from "preact/hooks";
import type { App } from "../app.ts";
import type { Conversation } from "../model/conversation.ts";
import type { PresentUser } from "../types.ts";
import { Person, sorted } from "../view/people.tsx";
import { FilteredPeople } from "./filter.tsx";
import { Window } from "./window.tsx";

/** The window with all users who are present in a conversation. */
export function PeopleDialog({ app }: { app: App }) {
  return app.current ? <Present key={app.current.id} app={app} conversation={app.current} /> : null;
}

function Present({ app, conversation }: { app: App; conversation: Conversation }) {
  const { id, ownId, users, present } = conversation;
  const [all, setAll] = useState<readonly PresentUser[]>([]);
  useEffect(() => {
    // The conversation knows the first of many only.
    if (present > users.length) void app.request("presence", { conversationId: id }).then((answer) => setAll((answer as { users: PresentUser[] } | undefined)?.users ?? []));
  }, []);
  const shown = sorted(users.length >= all.length ? users : all, ownId);
  return (
    <Window app={app} title="Who is here" onClose={() => app.show(undefined)}>
      <h3 id="present">Here now · {present}</h3>
      <FilteredPeople people={shown} labelledBy="present" class="chosen">
        {(user) => <Person key={user.userId} app={app} user={user} isSelf={user.userId === ownId} show={(userId) => app.showPerson(userId)} />}
      </FilteredPeople>
    </Window>
  );
}
