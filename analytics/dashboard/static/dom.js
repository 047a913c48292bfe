// Creates DOM nodes. Invariant: text from documents becomes text nodes and attribute values, never
// markup; no function here accepts HTML.

const SVG = "http://www.w3.org/2000/svg";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else node.setAttribute(name, String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

/** An HTML element: h("td", {class: "number"}, "12"). */
export const h = (tag, attributes, ...children) =>
  build(document.createElement(tag), attributes, children);

/** An SVG element. */
export const s = (tag, attributes, ...children) =>
  build(document.createElementNS(SVG, tag), attributes, children);

/** Replaces the children of a node. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== false));
  return node;
}

// --- definitions ------------------------------------------------------------------------------

let tip = null;

/** Attributes that show a definition on hover and focus. */
export const explained = (text) => (text ? { "data-tip": text } : {});

function place(target) {
  if (tip === null) {
    tip = h("div", { class: "tip", id: "tip", role: "tooltip", hidden: true });
    document.body.append(tip);
  }
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  const box = target.getBoundingClientRect();
  const width = Math.min(320, window.innerWidth - 16);
  tip.style.width = `${width}px`;
  tip.style.left = `${Math.max(8, Math.min(box.left, window.innerWidth - width - 8))}px`;
  const below = box.bottom + 8;
  const fits = below + tip.offsetHeight < window.innerHeight;
  tip.style.top = `${fits ? below : Math.max(8, box.top - tip.offsetHeight - 8)}px`;
  target.setAttribute("aria-describedby", "tip");
}

function hide(target) {
  if (tip !== null) tip.hidden = true;
  target?.removeAttribute?.("aria-describedby");
}

/** Makes every element with a definition show it. Called once per page. */
export function watchTips() {
  const holder = (event) => event.target.closest?.("[data-tip]");
  for (const [type, act] of [["mouseover", place], ["focusin", place], ["mouseout", hide], ["focusout", hide]]) {
    document.addEventListener(type, (event) => {
      const target = holder(event);
      if (target) act(target);
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide(document.activeElement);
  });
}
