import type { People } from "../model/people.ts";
import { Avatar, Spoken, Tags } from "../view/parts.tsx";
import type { Person } from "./mentions.ts";

/** The suggested people. The focus stays in the text field. */
export function Completion({ people, found, index, choose }: { people: People; found: readonly Person[]; index: number; choose: (person: Person) => void }) {
  return (
    <div class="completion" hidden={found.length === 0}>
      <Spoken>
        <span role="status">{found.length === 0 ? "" : `${found.length} people to mention. Arrow keys choose, Enter accepts.`}</span>
      </Spoken>
      <ul id="completion" role="listbox" aria-label="People to mention">
        {found.map((person, at) => (
          <li
            key={person.userId}
            id={`completion-${at}`}
            role="option"
            aria-selected={at === index}
            onMouseDown={(event) => {
              // The field keeps the focus.
              event.preventDefault();
              choose(person);
            }}
          >
            <Avatar id={person.userId} name={person.name} />
            <bdi class="person-name">{person.name}</bdi>
            <Tags people={people} userId={person.userId} name={person.name} />
          </li>
        ))}
      </ul>
    </div>
  );
}
