import type { People } from "../model/people.ts";
import type { Message } from "../types.ts";

/** The reactions to a message. The user's own are shown as pressed buttons. */
export function ReactionBar({ message, people, toggle }: { message: Message; people: People; toggle: (emoji: string) => void }) {
  const { reactions = [] } = message;
  if (reactions.length === 0) return null;
  return (
    <div class="reactions" role="group" aria-label="Reactions">
      {reactions.map(({ emoji, count, userIds, own = false }) => {
        const names = userIds.map((userId) => people.nameOf(userId) ?? userId);
        const rest = count - names.length;
        const who = rest > 0 ? `${names.join(", ")} and ${rest} more` : names.join(", ");
        return (
          <button key={emoji} class="reaction" type="button" aria-pressed={own} aria-label={`${emoji} ${count}`} title={who} onClick={() => toggle(emoji)}>
            <span class="reaction-emoji">{emoji}</span>
            <span>{count}</span>
          </button>
        );
      })}
    </div>
  );
}
