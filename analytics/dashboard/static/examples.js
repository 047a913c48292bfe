// Examples of one verdict, in a dialog that is loaded when it is opened.

import { fill, h } from "./dom.js";
import { reason } from "./figures.js";
import { moment } from "./format.js";
import { serverQuery } from "./state.js";

const WAIT_MS = 20000;
const COLUMNS = ["When", "After the delivery", "Recipient", "From", "With"];

let dialog = null;
let content = null;

function shownDialog() {
  if (dialog === null) {
    content = h("div", { class: "examples" });
    dialog = h("dialog", { id: "examples", "aria-labelledby": "examples-title" },
      content, h("form", { method: "dialog" }, h("button", {}, "Close")));
    document.body.append(dialog);
  }
  dialog.showModal();
}

const since = (seconds) => (seconds === null ? "no delivery known" : `${seconds.toLocaleString("en", { maximumFractionDigits: 1 })} s`);

const line = (one, withLink) => h("tr", {},
  h("th", { scope: "row" }, moment(one.at_ms)), h("td", {}, since(one.seconds_since_delivery)),
  h("td", {}, one.recipient || "not kept"), h("td", {}, one.network || "–"),
  h("td", {}, h("span", { class: "url" }, one.user_agent || "–")),
  withLink ? h("td", {}, h("span", { class: "url" }, one.link || "–")) : null);

async function load(row) {
  const query = new URLSearchParams(serverQuery("campaign"));
  query.delete("zone");
  query.set("event_type", row.event_type);
  query.set("actor", row.actor);
  query.set("reason", row.actor_reason);
  query.set("certainty", row.actor_certainty);
  const answer = await fetch(`/api/examples?${query}`, { signal: AbortSignal.timeout(WAIT_MS) });
  if (!answer.ok) throw new Error(`the answer is ${answer.status}`);
  return (await answer.json()).examples;
}

async function open(row) {
  shownDialog();
  const title = h("h2", { id: "examples-title" }, `${row.event_type} by ${row.actor}, ${row.actor_certainty}`);
  const why = h("p", { class: "note" }, reason(row.actor_reason));
  fill(content, title, why, h("p", { role: "status" }, "Loading …"));
  const withLink = row.event_type === "clicked";
  const columns = withLink ? [...COLUMNS, "Link"] : COLUMNS;
  let below;
  try {
    const examples = await load(row);
    below = examples.length === 0 ? h("p", {}, "None is left in this period.")
      : h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Examples" }, h("table", {},
        h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, examples.map((one) => line(one, withLink)))));
  } catch {
    below = h("p", { role: "alert" }, "The examples could not be loaded. Close this and try again.");
  }
  if (content.firstChild === title) fill(content, title, why, below);
}

/** A button that shows examples of a verdict. */
export const examplesButton = (row) => h("button", {
  type: "button", class: "small", "aria-haspopup": "dialog",
  "aria-label": `Examples: ${row.event_type} by ${row.actor}, ${reason(row.actor_reason)}`, onclick: () => open(row),
}, "Show");
