type Attributes = Record<string, string | boolean | undefined>;
type Child = Node | string | undefined;

/** Creates an element. Text only ever becomes a text node, so nothing in it is interpreted. */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Tag] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, value);
  node.append(...children.filter((child) => child !== undefined));
  return node;
}

/** Sets an attribute; `false` and `undefined` take it away. */
export function setAttribute(node: Element, name: string, value: string | boolean | undefined): void {
  if (value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}

/** Changes a text only if it differs, so that screen readers are not told twice. */
export function setText(node: Element, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

/** Text for screen readers alone. */
export function spoken(text: string): HTMLElement {
  return element("span", { class: "spoken" }, text);
}
