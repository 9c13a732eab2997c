import type { ComponentChildren, ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { App } from "../app.ts";
import dialogStyle from "../style/dialog.css?url";

type Lazy<Props> = ComponentType<Props> & { prepare: () => void };

/** The style sheets of parts that are loaded, in the order in which they count. */
const styles = new Map<string, Promise<void>>();

/** Loads a style sheet, once; one that could not be loaded is asked for again. */
function loadStyle(href: string): Promise<void> {
  const loading = styles.get(href);
  if (loading !== undefined) return loading;
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href });
  const loaded = new Promise<void>((done, fail) => {
    link.onload = () => done();
    link.onerror = () => {
      link.remove();
      styles.delete(href);
      fail(new Error(`no ${href}`));
    };
  });
  document.head.append(link);
  styles.set(href, loaded);
  return loaded;
}

/** A part of the page that is loaded when it is wanted first, or when somebody prepares for that. */
function lazy<Props extends { app: App }>(
  load: () => Promise<ComponentType<Props>>,
  hrefs: readonly string[],
  waiting: ComponentChildren,
  missing: (app: App, again: ComponentChildren) => ComponentChildren,
): Lazy<Props> {
  let loaded: ComponentType<Props> | undefined;
  const take = async () => {
    const [part] = await Promise.all([load(), ...hrefs.map(loadStyle)]);
    loaded ??= part;
  };
  function Part(props: Props) {
    const [attempt, setAttempt] = useState(0);
    const [isMissing, setIsMissing] = useState(false);
    const [, setIsThere] = useState(loaded !== undefined);
    useEffect(() => {
      // It may have come between the drawing and this, for somebody who prepared it.
      if (loaded !== undefined) return setIsThere(true);
      setIsMissing(false);
      take().then(
        () => setIsThere(true),
        () => setIsMissing(true),
      );
    }, [attempt]);
    const Loaded = loaded;
    if (Loaded !== undefined) return <Loaded {...props} />;
    if (!isMissing) return waiting;
    const again = (
      <button class="link-button" type="button" onClick={() => setAttempt(attempt + 1)}>
        Try again
      </button>
    );
    return missing(props.app, again);
  }
  // Whoever wants it later tries again.
  return Object.assign(Part, { prepare: () => void take().catch(() => {}) });
}

const WORDS = "This part of the page could not be loaded.";

/** One that stands in the place of a conversation. */
export function lazyPage<Props extends { app: App }>(load: () => Promise<ComponentType<Props>>, style: string): Lazy<Props> {
  return lazy(load, [style], <p class="absent">Loading…</p>, (_, again) => (
    <p class="absent" role="alert">
      {WORDS} {again}
    </p>
  ));
}

/** One that is a window over the page. */
export function lazyWindow<Props extends { app: App }>(load: () => Promise<ComponentType<Props>>, ...own: readonly string[]): Lazy<Props> {
  return lazy(load, [dialogStyle, ...own], null, (app) => <Missing app={app} />);
}

/** A window that could not be loaded: it is closed, and who opens it again tries again. */
function Missing({ app }: { app: App }) {
  useEffect(() => {
    if (app.invitation === undefined) {
      app.notice(WORDS);
      app.show(undefined);
    } else {
      app.notice(WORDS, { href: location.hash });
      app.go({});
    }
  }, []);
  return null;
}
