import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

/** Number of people from which on a list has a filter. */
const MIN_FILTERED = 20;
/** Maximum number of people in the document at a time. */
const MAX_SHOWN = 100;

interface Person {
  userId: string;
  name: string;
}

interface FilteredPeopleProps<One> {
  people: readonly One[];
  /** The id of the heading that labels the list. */
  labelledBy: string;
  class: string;
  children: (person: One) => ComponentChildren;
}

/** A list of people, with a field to find one of many by name or id. */
export function FilteredPeople<One extends Person>({ people, labelledBy, class: name, children }: FilteredPeopleProps<One>) {
  const [query, setQuery] = useState("");
  const needle = query.trim().toLowerCase();
  const found = needle === "" ? people : people.filter(({ userId, name }) => name.toLowerCase().includes(needle) || userId.toLowerCase().includes(needle));
  const rest = found.length - MAX_SHOWN;
  return (
    <>
      {people.length >= MIN_FILTERED && (
        <div class="form">
          <label class="spoken" for="filter">
            Find by name or id
          </label>
          <input
            id="filter"
            type="search"
            dir="auto"
            value={query}
            placeholder="Find by name or id"
            autocomplete="off"
            // Enter would submit the form around it.
            onKeyDown={(event) => event.key === "Enter" && event.preventDefault()}
            onInput={(event) => setQuery(event.currentTarget.value)}
          />
        </div>
      )}
      <ul class={name} aria-labelledby={labelledBy} tabIndex={0}>
        {found.slice(0, MAX_SHOWN).map(children)}
      </ul>
      {people.length >= MIN_FILTERED && (
        <p class="help" role="status">
          {found.length === 0 ? "No name or id contains this. Try a part of it." : rest > 0 ? `and ${rest} more: type a part of the name to find them` : needle === "" ? "" : `${found.length} found`}
        </p>
      )}
    </>
  );
}
