// Saved views: names for addresses, kept in this browser. An address is all of a view, so it can also
// be shared; names stay here. Invariant: only addresses of this site's own pages are followed.

import { fill, h } from "./dom.js";
import { store, stored } from "./state.js";

const NAME_CHARS_MAX = 60;
const VIEWS_MAX = 50;

function kept() {
  try {
    const found = JSON.parse(stored("views") ?? "[]");
    return Array.isArray(found) ? found.filter((one) => typeof one?.name === "string" && /^\/(?!\/)/.test(one?.address ?? "")) : [];
  } catch {
    return [];
  }
}

/** The menu: saved views to follow or to delete, and a field to save the present one. */
export function viewsMenu() {
  const list = h("ul", { class: "views-list" });
  const name = h("input", { id: "view-name", required: true, maxlength: NAME_CHARS_MAX, placeholder: "Name of this view", "aria-label": "Name of this view" });
  const said = h("p", { class: "sub", role: "status" });
  const keep = (views) => {
    store("views", JSON.stringify(views.slice(0, VIEWS_MAX)));
    draw();
  };
  const form = h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      const title = name.value.trim();
      if (!title) return;
      keep([{ name: title, address: location.pathname + location.search }, ...kept().filter((one) => one.name !== title)]);
      name.value = "";
      said.textContent = kept().some((one) => one.name === title) ? `Saved as «${title}».` : "This browser keeps nothing for this page; copy the address instead.";
    },
  }, name, h("button", {}, "Save"));
  const draw = () => fill(list, kept().map((one) => h("li", {}, h("a", { href: one.address }, one.name),
    h("button", { type: "button", class: "plain", "aria-label": `Delete the view ${one.name}`, onclick: () => keep(kept().filter((other) => other.name !== one.name)) }, "Delete"))));
  draw();
  const menu = h("details", { class: "views" }, h("summary", {}, "Views"), h("div", { class: "views-menu" }, list, form, said,
    h("p", { class: "note" }, "Kept in this browser. The address of a page is all of its view: copy it to share.")));
  document.addEventListener("click", (event) => {
    if (menu.open && !menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    menu.firstElementChild.focus();
  });
  return menu;
}
