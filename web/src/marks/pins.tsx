import type { App } from "../app.ts";
import { Avatar, IconButton } from "../view/parts.tsx";
import { Window } from "../windows/window.tsx";
import { excerptOf } from "../words/markdown.ts";
import { exactTime } from "../words/time.ts";

/** The window with the pinned messages of the current conversation. */
export function Pins({ app }: { app: App }) {
  const { current } = app;
  if (current === undefined) return null;
  const { all } = current.pins;
  return (
    <Window app={app} title="Pinned messages" onClose={() => app.show(undefined)}>
      {all.length === 0 && <p class="help">No message is pinned. {current.mayPin ? "Pin one with its pin button, or with the key P." : "The owner of the conversation can pin messages."}</p>}
      <ul class="found pins">
        {all.map(({ message, pinnedAt }) => (
          <li key={message.id} class="pin">
            <button type="button" onClick={() => app.go({ id: current.id, seq: message.seq })}>
              <Avatar id={message.userId} name={message.userName} />
              <span class="found-text">
                <bdi class="found-title">{message.userName}</bdi>
                <bdi class="found-content">{excerptOf(message.excerpt, 200)}</bdi>
                <time datetime={pinnedAt}>pinned {exactTime(pinnedAt)}</time>
              </span>
            </button>
            {current.mayPin && <IconButton icon="close" label={`Unpin the message of ${message.userName}`} onClick={() => void current.unpin(message.id)} />}
          </li>
        ))}
      </ul>
    </Window>
  );
}
