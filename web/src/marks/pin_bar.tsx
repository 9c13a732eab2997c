import type { App } from "../app.ts";
import type { Conversation } from "../model/conversation.ts";
import { Icon } from "../view/icons.tsx";
import { excerptOf } from "../words/markdown.ts";

/** The newest pinned message, above the list of messages. The others are in a window. */
export function PinBar({ app, conversation }: { app: App; conversation: Conversation }) {
  const [newest] = conversation.pins.all;
  if (newest === undefined) return null;
  const { all } = conversation.pins;
  return (
    <div class="pin-bar">
      <Icon name="pin" />
      <button class="pin-newest" type="button" onClick={() => app.go({ id: conversation.id, seq: newest.message.seq })}>
        <span class="spoken">Pinned: </span>
        <bdi>
          {newest.message.userName}: {excerptOf(newest.message.excerpt)}
        </bdi>
      </button>
      <button class="link-button" type="button" onClick={() => app.show("pins")}>
        {all.length === 1 ? "Pinned" : `All ${all.length}`}
        {all.length > 1 && <span class="spoken"> pinned messages</span>}
      </button>
    </div>
  );
}
