import { Component } from "preact";
import { type Person, piecesOf } from "../marks/mentions.ts";
import { type Block, type Inline, parseMarkdown } from "../words/markdown.ts";
import { isPicture, webAddress } from "../words/text.ts";
import { Icon } from "./icons.tsx";
import { Spoken } from "./parts.tsx";

/** Renders a piece of plain text. */
type RenderText = (text: string) => preact.ComponentChildren;

/**
 * Renders the text of a message as nodes, so that none of it is interpreted as HTML. Mentions are
 * highlighted.
 */
export function Content({ text, mentioned = [], ownId = "" }: { text: string; mentioned?: readonly Person[]; ownId?: string }) {
  const renderText: RenderText = (plain) =>
    piecesOf(plain, mentioned).map((piece, key) => {
      if (piece.people.length === 0) return piece.text;
      const isOwn = piece.people.some(({ userId }) => userId === ownId);
      return (
        <bdi key={key} class={isOwn ? "mention is-own-name" : "mention"}>
          {piece.text}
        </bdi>
      );
    });
  return <>{parseMarkdown(text).map(block(renderText))}</>;
}

const block = (renderText: RenderText) => (piece: Block, key: number): preact.ComponentChildren => {
  switch (piece.kind) {
    case "text":
      return (
        <p key={key} class="text" dir="auto">
          {piece.children.map(inline(renderText))}
        </p>
      );
    case "code":
      return (
        <pre key={key} class="code" tabIndex={0} aria-label="Code">
          <code>{piece.text}</code>
        </pre>
      );
    case "quote":
      return <blockquote key={key}>{piece.children.map(block(renderText))}</blockquote>;
    case "list": {
      const items = piece.items.map((item, index) => (
        <li key={index} dir="auto">
          {item.map(inline(renderText))}
        </li>
      ));
      return piece.start === undefined ? (
        <ul key={key}>{items}</ul>
      ) : (
        <ol key={key} start={piece.start}>
          {items}
        </ol>
      );
    }
  }
};

const inline = (renderText: RenderText) => (piece: Inline, key: number): preact.ComponentChildren => {
  switch (piece.kind) {
    case "text":
      return renderText(piece.text);
    case "code":
      return <code key={key}>{piece.text}</code>;
    case "strong":
      return <strong key={key}>{piece.children.map(inline(renderText))}</strong>;
    case "emphasis":
      return <em key={key}>{piece.children.map(inline(renderText))}</em>;
    case "link":
      return (
        <Link key={key} href={piece.href} host={piece.host}>
          {piece.children.map(inline(renderText))}
        </Link>
      );
  }
};

/**
 * A link. If its label looks like another host, the real host follows, isolated so that the label
 * cannot reorder it.
 */
function Link({ href, host, children }: { href: string; host: string | undefined; children: preact.ComponentChildren }) {
  return (
    <a href={href} title={href} target="_blank" rel="noopener noreferrer nofollow">
      <bdi>{children}</bdi>
      {host !== undefined && (
        <span class="link-host">
          <Spoken> leads to </Spoken>
          <bdi dir="ltr">{host}</bdi>
        </span>
      )}
    </a>
  );
}

/**
 * The picture of a message. By default it is a link, because loading it would reveal the reader to
 * its host. Pictures from origins that the server allows are shown, in a box whose size does not
 * change when the picture loads or fails.
 */
export class Picture extends Component<{ url: unknown; origins: readonly string[] }, { broken?: string }> {
  override state: { broken?: string } = {};

  override render() {
    const { url, origins } = this.props;
    const href = webAddress(url);
    if (href === undefined) return null;
    const words = `Image on ${new URL(href).host}`;
    const attributes = { href, target: "_blank", rel: "noopener noreferrer nofollow" };
    const isShown = isPicture(url, origins);
    return (
      <a class={isShown ? "image-link has-picture" : "image-link"} {...attributes}>
        {isShown && this.state.broken !== href ? (
          <img loading="lazy" decoding="async" referrerpolicy="no-referrer" src={href} alt={words} onError={() => this.setState({ broken: href })} />
        ) : (
          <>
            <Icon name="link" />
            {words}
          </>
        )}
        <Spoken> (opens in a new tab)</Spoken>
      </a>
    );
  }
}
