import { Component } from "preact";
import { type Person, piecesOf } from "../marks/mentions.ts";
import { type Block, type Inline, InlineCache, areSame, closed, isSameBlock, parseMarkdown } from "../words/markdown.ts";
import { isPicture, webAddress } from "../words/text.ts";
import { Icon } from "./icons.tsx";
import { Spoken } from "./parts.tsx";

/** Renders a piece of plain text. */
type RenderText = (text: string) => preact.ComponentChildren;

/** Number of blocks in one part of a long text. */
const PART = 16;
/** Milliseconds without new text after which the caret blinks. */
const IDLE = 1_000;

interface ContentProps {
  text: string;
  mentioned?: readonly Person[];
  ownId?: string;
  /** Whether the text is still being written. Its end then has a caret. */
  isGrowing?: boolean | undefined;
}

/**
 * Renders the text of a message as nodes, so that none of it is interpreted as HTML. Mentions are
 * highlighted.
 *
 * The blocks of a long text are in parts, which browsers lay out and paint separately. Growing text
 * draws only its last part again.
 */
export class Content extends Component<ContentProps, { idle?: string }> {
  /** The text that has stopped growing, at least for now. */
  override state: { idle?: string } = {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  #cache: InlineCache | undefined;
  #people = "";
  #renderText: RenderText = (text) => text;

  override componentDidMount(): void {
    this.componentDidUpdate({ text: "" });
  }

  override componentDidUpdate({ text }: ContentProps): void {
    if (text === this.props.text) return;
    clearTimeout(this.#timer);
    // While text arrives, the caret is still: each start of an animation costs two frames.
    if (this.props.isGrowing) this.#timer = setTimeout(() => this.setState({ idle: this.props.text }), IDLE);
  }

  override componentWillUnmount(): void {
    clearTimeout(this.#timer);
  }

  override render({ text, mentioned = [], ownId = "", isGrowing = false }: ContentProps, { idle }: { idle?: string }) {
    const people = JSON.stringify([mentioned, ownId]);
    if (people !== this.#people) this.#renderText = renderMentions(mentioned, ownId);
    this.#people = people;
    this.#cache = isGrowing ? (this.#cache ?? new InlineCache()) : undefined;
    this.#cache?.advance();
    const blocks = parseMarkdown(isGrowing ? closed(text) : text, 0, this.#cache?.parse);
    const caret = !isGrowing ? "" : idle === text ? "caret is-idle" : "caret";
    const parts = [];
    for (let from = 0; from < blocks.length; from += PART) {
      const isLast = from + PART >= blocks.length;
      parts.push(<Part key={from} isFirst={from === 0} blocks={blocks.slice(from, from + PART)} caret={isLast ? caret : ""} renderText={this.#renderText} />);
    }
    return <>{parts}</>;
  }
}

function renderMentions(mentioned: readonly Person[], ownId: string): RenderText {
  return (plain) =>
    piecesOf(plain, mentioned).map((piece, key) => {
      if (piece.people.length === 0) return piece.text;
      const isOwn = piece.people.some(({ userId }) => userId === ownId);
      return (
        <bdi key={key} class={isOwn ? "mention is-own-name" : "mention"}>
          {piece.text}
        </bdi>
      );
    });
}

interface PartProps {
  /** Whether it begins the text. It then has no element of its own, as few texts have more parts. */
  isFirst: boolean;
  blocks: readonly Block[];
  /** The classes of the caret, if the text ends here and is still being written. */
  caret: string;
  renderText: RenderText;
}

/** A part of a text, which is drawn again only if it changes. */
class Part extends Component<PartProps> {
  override shouldComponentUpdate({ blocks, caret, renderText }: PartProps): boolean {
    const { props } = this;
    return caret !== props.caret || renderText !== props.renderText || !areSame(blocks, props.blocks, isSameBlock);
  }

  override render({ isFirst, blocks, caret, renderText }: PartProps) {
    const drawn = renderBlocks(blocks, caret, renderText);
    return isFirst ? <>{drawn}</> : <div class="passage">{drawn}</div>;
  }
}

interface ItemProps {
  pieces: Inline[];
  caret: string;
  renderText: RenderText;
}

/** An item of a list, which is drawn again only if it changes. */
class Item extends Component<ItemProps> {
  override shouldComponentUpdate({ pieces, caret, renderText }: ItemProps): boolean {
    const { props } = this;
    return pieces !== props.pieces || caret !== props.caret || renderText !== props.renderText;
  }

  override render({ pieces, caret, renderText }: ItemProps) {
    return (
      <li class={caret || undefined} dir="auto">
        {pieces.map(inline(renderText))}
      </li>
    );
  }
}

function renderBlocks(blocks: readonly Block[], caret: string, renderText: RenderText): preact.ComponentChildren {
  return blocks.map((piece, key) => block(piece, key, key === blocks.length - 1 ? caret : "", renderText));
}

function block(piece: Block, key: number, caret: string, renderText: RenderText): preact.ComponentChildren {
  switch (piece.kind) {
    case "text":
      return (
        <p key={key} class={`text${piece.isNext ? " is-next" : ""} ${caret}`.trimEnd()} dir="auto">
          {piece.children.map(inline(renderText))}
        </p>
      );
    case "code":
      return (
        <pre key={key} class="code" tabIndex={0} aria-label="Code">
          <code class={caret || undefined}>{piece.text}</code>
        </pre>
      );
    case "quote":
      return <blockquote key={key}>{renderBlocks(piece.children, caret, renderText)}</blockquote>;
    case "list": {
      const last = piece.items.length - 1;
      const items = piece.items.map((item, index) => <Item key={index} pieces={item} caret={index === last ? caret : ""} renderText={renderText} />);
      return piece.start === undefined ? (
        <ul key={key}>{items}</ul>
      ) : (
        <ol key={key} start={piece.start}>
          {items}
        </ol>
      );
    }
  }
}

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
