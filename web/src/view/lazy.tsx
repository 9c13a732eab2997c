import type { ComponentChildren, ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { App } from "../app.ts";
import dialogStyle from "../style/dialog.css?url";

/** A component whose code is loaded on first use, or before by `prepare`. */
export type Lazy<Props> = ComponentType<Props> & { prepare: () => void };

/** The loaded style sheets, in cascade order. */
const styles = new Map<string, Promise<void>>();

/** Loads a style sheet once. After a failure, the next call tries again. */
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

/** Creates a component that is loaded on first use, or when `prepare` is called. */
function lazy<Props extends object>(
  load: () => Promise<ComponentType<Props>>,
  hrefs: readonly string[],
  waiting: ComponentChildren,
  missing: (props: Props, again: ComponentChildren) => ComponentChildren,
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
      // A call of `prepare` may have finished between rendering and this effect.
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
    return missing(props, again);
  }
  // The first use tries again.
  return Object.assign(Part, { prepare: () => void take().catch(() => {}) });
}

const WORDS = "This part of the page could not be loaded.";

/** Creates a lazy component within the page, such as one that replaces the conversation. */
export function lazyPage<Props extends object>(load: () => Promise<ComponentType<Props>>, ...styles: readonly string[]): Lazy<Props> {
  return lazy(load, styles, <p class="absent">Loading…</p>, (_, again) => (
    <p class="absent" role="alert">
      {WORDS} {again}
    </p>
  ));
}

/** Creates a lazy component within the page. Until it is loaded, and without the network, `place` is in its place. */
export function lazyPart<Props extends object>(load: () => Promise<ComponentType<Props>>, styles: readonly string[], place: ComponentChildren = null): Lazy<Props> {
  return lazy(load, styles, place, () => place);
}

/** Creates a lazy component that is a window over the page. */
export function lazyWindow<Props extends { app: App }>(load: () => Promise<ComponentType<Props>>, ...own: readonly string[]): Lazy<Props> {
  return lazy(load, [dialogStyle, ...own], null, ({ app }) => <Missing app={app} />);
}

/**
 * Replaces a window that could not be loaded: shows a notice and closes it. Opening it again tries
 * again.
 */
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
