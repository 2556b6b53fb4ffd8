/** What may stand in an element: text, which stays text whatever it holds, or another element. */
export type Child = Node | string | undefined;

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an element. Attributes are ours; all that is foreign comes as children, and a text among them becomes a text
 * node: nothing on this page is ever read as markup.
 */
export function element(name: string, attributes: Record<string, string>, ...children: Child[]): HTMLElement {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children.filter((child) => child !== undefined));
  return made;
}

/** A button. The press is noted by the element itself, so that `become` can hand it on. */
export function button(label: string, press: () => void, attributes: Record<string, string> = {}): HTMLElement {
  const made = element("button", { type: "button", ...attributes }, label);
  made.onclick = press;
  return made;
}

/** A small drawing beside a word that says the same. */
export function icon(path: string): SVGElement {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", "0 0 16 16");
  drawing.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  drawing.append(line);
  return drawing;
}

/**
 * Makes what is shown equal to what was made anew, by changing only what differs: a focused button stays focused, an
 * opened list stays open, selected text stays selected.
 */
export function become(shown: Element, wanted: Element): void {
  const pairs = Math.max(shown.childNodes.length, wanted.childNodes.length);
  const [old, fresh] = [[...shown.childNodes], [...wanted.childNodes]];
  for (let index = 0; index < pairs; index++) {
    const [was, is] = [old[index], fresh[index]];
    if (is === undefined) was?.remove();
    else if (was === undefined) shown.append(is);
    else if (was instanceof Element && is instanceof Element && isSame(was, is)) {
      takeAttributes(was, is);
      become(was, is);
    } else if (!(was instanceof Text && is instanceof Text)) was.replaceWith(is);
    else if (was.data !== is.data) was.data = is.data;
  }
}

function isSame(was: Element, is: Element): boolean {
  return was.tagName === is.tagName && was.getAttribute("data-key") === is.getAttribute("data-key");
}

function takeAttributes(was: Element, is: Element): void {
  for (const name of was.getAttributeNames()) {
    // Whoever opened it closes it.
    if (!is.hasAttribute(name) && name !== "open" && name !== "style") was.removeAttribute(name);
  }
  for (const name of is.getAttributeNames()) {
    const value = is.getAttribute(name) ?? "";
    if (name !== "style" && was.getAttribute(name) !== value) was.setAttribute(name, value);
  }
  if (was instanceof HTMLElement && is instanceof HTMLElement) {
    was.onclick = is.onclick;
    was.onsubmit = is.onsubmit;
    // By the object model: the policy of the page allows no style attribute that is parsed.
    if (was.style.flexGrow !== is.style.flexGrow) was.style.flexGrow = is.style.flexGrow;
  }
}
