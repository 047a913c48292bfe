// Parts that several pages share: period, switches, cells, what to do when there is nothing.

import { fill, h } from "./dom.js";
import { atClock, count, interval, moment, onClock, percent, points } from "./format.js";
import { rate } from "./figures.js";
import { get, onChange, set, zone } from "./state.js";

const PERIODS = [["1h", "1 hour"], ["24h", "24 hours"], ["7d", "7 days"], ["30d", "30 days"], ["90d", "90 days"], ["all", "All"]];

/** The display name of a campaign. */
export const titleOf = (row) => row.name || row.id || "(no campaign)";

/** A group of buttons of which one is pressed: it sets `name` of the view. */
export const buttons = (label, name, options) => {
  const list = options.map(([key, text, tip]) =>
    h("button", { type: "button", "data-key": key, "data-tip": tip ?? null, onclick: () => set({ [name]: key }) }, text));
  const mark = () => list.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.key === get(name))));
  onChange(mark);
  mark();
  return h("div", { class: "group", role: "group", "aria-label": label }, list);
};

const toField = (seconds) => new Date(onClock(seconds * 1000)).toISOString().slice(0, 16);
const fromField = (id) => Math.floor(atClock(Date.parse(`${document.getElementById(id).value}Z`)) / 1000);

/** Chooses the period: one that ends now by a button, or any other by its first and last minute. */
export function periodBar() {
  const field = (id, label) => [h("label", { for: id }, label), h("input", { id, type: "datetime-local", required: true })];
  const problem = h("p", { class: "problem", role: "alert", hidden: true }, "«From» must be before «to».");
  const form = h("form", {
    class: "range",
    onsubmit: (event) => {
      event.preventDefault();
      const [begin, end] = [fromField("from"), fromField("to")];
      problem.hidden = begin < end;
      if (begin < end) set({ period: `${begin}-${end}` });
    },
  }, field("from", "From"), field("to", "to"), h("button", {}, "Show"));
  const summary = h("summary", {}, "From – to");
  const said = h("p", { class: "note" });
  const mark = () => {
    const custom = /^(\d+)-(\d+)$/.exec(get("period"));
    const nowS = Math.floor(Date.now() / 1000);
    form.elements.from.value = toField(custom ? Number(custom[1]) : nowS - 86400);
    form.elements.to.value = toField(custom ? Number(custom[2]) : nowS);
    summary.classList.toggle("on", custom !== null);
    summary.textContent = custom ? `${moment(custom[1] * 1000)} – ${moment(custom[2] * 1000)}` : "From – to";
    said.textContent = `By the clock of ${zone().replaceAll("_", " ")}, the time zone chosen at the top.`;
  };
  onChange((changed) => (changed.has("period") || changed.has("zone")) && mark());
  mark();
  return h("div", { class: "bar" }, buttons("Period", "period", PERIODS),
    h("details", { class: "custom" }, summary, form, problem, said));
}

/** Cohort or flow, humans or everyone, compare; a page may leave out the first or the last. */
export function switches({ basis = true, compare: before = true } = {}) {
  const compare = h("input", { type: "checkbox", id: "compare", onchange: () => set({ compare: compare.checked ? "1" : "" }) });
  const mark = () => {
    compare.checked = Boolean(get("compare"));
  };
  onChange(mark);
  mark();
  return h("div", { class: "bar" },
    basis ? h("span", { class: "pair" }, h("span", { class: "lead" }, "Opens and clicks"), buttons("What opens and clicks are counted over", "basis", [
      ["cohort", "Of what was delivered", "Of the messages delivered in this period: how many were opened, clicked, complained about so far. Never above 100 %."],
      ["flow", "What happened", "Opens, clicks and complaints that happened in this period, over what was delivered in it. Mail delivered earlier counts too, so this can be above 100 %."],
    ])) : null,
    h("span", { class: "pair" }, h("span", { class: "lead" }, basis ? "by" : "Opens and clicks by"), buttons("Whose opens and clicks", "who", [
      ["human", "Humans", "Only opens and clicks by people. Machines open mail before people do: privacy proxies and security scanners."],
      ["unknown", "With unknown", "Humans, and what nobody can know: Apple's prefetch, which hides whether the mail is read, and lone clicks within minutes of the delivery."],
      ["any", "With machines", "Everything that was opened or clicked, by whoever or whatever."],
    ])),
    before ? h("label", { class: "check", for: "compare" }, compare, "Compare with the previous period") : null);
}

const DOUBT = "What the verdicts leave open: from what is a human's to what is not surely a machine's.";

/** The interval beside a rate, where its verdicts leave one. */
export function doubt(now) {
  const text = interval(now);
  return text ? h("span", { class: "sub doubt", "data-tip": DOUBT, tabindex: "0" }, text) : "";
}

/** A rate with its interval, its numerator and denominator, and how it changed. */
export function rateCell(counts, before, item) {
  const now = rate(counts, item);
  const was = before ? rate(before, item).ratio : null;
  return [
    h("span", { class: "figure" }, percent(now.ratio)),
    doubt(now),
    h("span", { class: "sub" }, `${count(now.above)} of ${count(now.below)}`),
    before ? h("span", { class: "sub" }, now.ratio !== null && was !== null ? points(now.ratio - was) : "–") : "",
  ];
}

const command = (text) => h("pre", { class: "command", tabindex: "0" }, h("code", {}, text));

/** What to do while there are no events, with the exact command for the configured sources. */
export function startHere(latest, what = "none") {
  const sources = Object.entries(latest.sources);
  const fresh = latest.freshness.newest_ms;
  const box = h("section", { class: "panel start" });
  if (fresh) {
    return fill(box, h("h2", {}, "Nothing in this period"),
      h("p", {}, `Events do arrive (the newest at ${moment(fresh)}), but ${what} belongs to this period. Choose a longer one above.`));
  }
  if (sources.length === 0) {
    return fill(box, h("h2", {}, "No events yet"),
      h("p", {}, "Connect a provider: this asks for what it needs and prints the address of the webhook."),
      command("mailpulse sources add sendgrid"),
      h("p", {}, "Or look at it all with made-up traffic first:"), command("mailpulse demo"));
  }
  return fill(box, h("h2", {}, "No events yet"),
    h("p", {}, "Send a correctly signed test event through the whole pipeline; it shows up here within seconds:"),
    sources.slice(0, 8).map(([name, provider]) => [h("p", { class: "sub" }, provider), command(`mailpulse send-test ${name}`)]),
    h("p", {}, "To see whether a provider reaches this machine at all (an unsigned request is answered 401, and that is right):"),
    command(`curl -i -X POST http://127.0.0.1:8080/hooks/${sources[0][0]} -H 'content-type: application/json' -d '[]'`));
}
