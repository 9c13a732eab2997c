import type { App } from "../app.ts";
import { partsOf } from "../words/text.ts";
import { Icon } from "./icons.tsx";
import { IconButton, Isolated } from "./parts.tsx";

/** Short notes. They have their own space in the page, so that they cover no text. */
export function Notices({ app, isWindow = false }: { app: App; isWindow?: boolean }) {
  // A window would cover the notices of the page.
  const shown = app.hasWindow === isWindow ? app.notices : [];
  return (
    <div class="notices" role="alert">
      {shown.map((notice) => (
        <p key={notice.key} class={notice.isBad ? "notice is-bad" : "notice"}>
          <Icon name={notice.isBad ? "alert" : "info"} />
          {notice.href ? (
            <a href={notice.href} dir="auto" aria-label={partsOf(notice.text).join("")} onClick={() => app.dismiss(notice)}>
              <Isolated text={notice.text} />
            </a>
          ) : (
            <span dir="auto">
              <Isolated text={notice.text} />
            </span>
          )}
          <IconButton icon="close" label="Dismiss" onClick={() => app.dismiss(notice)} />
        </p>
      ))}
    </div>
  );
}
