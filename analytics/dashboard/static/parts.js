// Parts that several pages share: period, switches, cells, incidents, what to do when there is nothing.

import { fill, h } from "./dom.js";
import { atClock, count, interval, moment, onClock, percent, points } from "./format.js";
import { metric, rate } from "./figures.js";
import { get, link, onChange, set } from "./state.js";
import { Table } from "./table.js";

const PERIODS = [["1h", "1 hour"], ["24h", "24 hours"], ["7d", "7 days"], ["30d", "30 days"], ["90d", "90 days"], ["all", "All"]];
const RATE_NAMES = { hard_bounce_rate: "hard bounces", late_bounce_rate: "late bounces", complaint_rate: "complaints" };
const LEVELS = ["", "watch", "warning", "critical"];
const WINDOW_NAMES = { "24h": "of the mail sent in 24 hours", "7d": "of the mail delivered in 7 days" };

/** The display name of a campaign. */
export const titleOf = (row) => row.name || row.id || "(no campaign)";

/** An incident's rate in words. */
export const incidentName = (name) => RATE_NAMES[name] ?? metric(name)?.label ?? name;

/** The present rate of an incident. */
export const presentRate = (row) => percent(row.denominator ? row.numerator / row.denominator : null);

/** How grave an incident is: by its level, then by how far the rate is above the line. */
export const gravity = (row) =>
  LEVELS.indexOf(row.level) * 1e6 + (row.line && row.denominator ? row.numerator / row.denominator / row.line : 0);

/** Where an incident is: mailbox providers, or all of them. */
export const places = (row) => {
  const named = row.places.length ? row.places : [row.mailbox_provider];
  return named.includes("") ? "all" : named.join(", ");
};

const buttons = (label, name, options) => {
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
  const custom = /^(\d+)-(\d+)$/.exec(get("period"));
  const nowS = Math.floor(Date.now() / 1000);
  const [from, to] = [custom ? Number(custom[1]) : nowS - 86400, custom ? Number(custom[2]) : nowS];
  const field = (id, label, seconds) => [
    h("label", { for: id }, label), h("input", { id, type: "datetime-local", value: toField(seconds), required: true }),
  ];
  const form = h("form", {
    class: "range",
    onsubmit: (event) => {
      event.preventDefault();
      const [begin, end] = [fromField("from"), fromField("to")];
      if (begin < end) set({ period: `${begin}-${end}` });
    },
  }, field("from", "From", from), field("to", "to", to), h("button", {}, "Show"));
  const summary = h("summary", {}, "From – to");
  const mark = () => summary.classList.toggle("on", /-/.test(get("period")));
  onChange(mark);
  mark();
  return h("div", { class: "bar" }, buttons("Period", "period", PERIODS),
    h("details", { class: "custom" }, summary, form, h("p", { class: "note" }, "In the time zone chosen at the top.")));
}

/** Cohort or flow, humans or everyone, compare. */
export function switches() {
  const compare = h("input", { type: "checkbox", id: "compare", onchange: () => set({ compare: compare.checked ? "1" : "" }) });
  compare.checked = Boolean(get("compare"));
  return h("div", { class: "bar" },
    h("span", { class: "lead" }, "Opens and clicks"),
    buttons("What opens and clicks are counted over", "basis", [
      ["cohort", "Of what was delivered", "Of the messages delivered in this period: how many were opened, clicked, complained about so far. Never above 100 %."],
      ["flow", "What happened", "Opens, clicks and complaints that happened in this period, over what was delivered in it. Mail delivered earlier counts too, so this can be above 100 %."],
    ]),
    h("span", { class: "lead" }, "by"),
    buttons("Whose opens and clicks", "who", [
      ["human", "Humans", "Only opens and clicks by people. Machines open mail before people do: privacy proxies and security scanners."],
      ["unknown", "With unknown", "Humans, and what nobody can know: Apple's prefetch, which hides whether the mail is read, and lone clicks within minutes of the delivery."],
      ["any", "With machines", "Everything that was opened or clicked, by whoever or whatever."],
    ]),
    h("label", { class: "check", for: "compare" }, compare, "Compare with the previous period"));
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

const ratio = (above, below) => [
  h("span", { class: "figure" }, percent(below ? above / below : null)),
  h("span", { class: "sub" }, `${count(above)} of ${count(below)}`),
];

/** Incidents, newest first: one row each. */
export function incidentsTable(page, withCampaign) {
  let names = new Map();
  const table = new Table({
    id: "incidents", title: "Incidents", page, key: (row) => row.id, initial: ["opened", "down"],
    empty: "No incident in this period.",
    note: "A rate is above its line beyond chance: of a thousand campaigns that stay below a line, at most one ever gets an incident for it. Closed below 80 % of the line.",
    columns: [
      withCampaign ? {
        key: "campaign", label: "Campaign", sort: (row) => row.campaign_id,
        value: (row) => [row.campaign_id, names.get(row.campaign_id)],
        cell: (row) => h("a", { href: link("/campaign", { campaign: row.campaign_id }) }, names.get(row.campaign_id) ?? titleOf({ id: row.campaign_id })),
      } : null,
      { key: "rate", label: "Rate", sort: (row) => row.rate, value: (row) => incidentName(row.rate) },
      { key: "level", label: "Level", sort: gravity, value: (row) => [row.level, row.closed_ms],
        cell: (row) => h("span", { class: `badge ${row.closed_ms ? "closed" : row.level}` }, row.closed_ms ? `${row.level}, closed` : row.level) },
      { key: "mailbox", label: "Mailboxes", tip: "Mailbox providers that are above a line; all: the campaign as a whole.", sort: places, value: places },
      { key: "value", number: true, label: "Now", tip: "Of the messages that are judged now; of a closed incident when it was closed.",
        sort: (row) => row.numerator / row.denominator, value: (row) => [row.numerator, row.denominator],
        cell: (row) => [...ratio(row.numerator, row.denominator), h("span", { class: "sub" }, WINDOW_NAMES[row.window] ?? "")] },
      { key: "before", number: true, label: "When opened", sort: (row) => row.opened_numerator / row.opened_denominator,
        value: (row) => [row.opened_numerator, row.opened_denominator], cell: (row) => ratio(row.opened_numerator, row.opened_denominator) },
      { key: "line", number: true, label: "Line", sort: (row) => row.line, value: (row) => percent(row.line) },
      { key: "cause", label: "Likely cause, and what to do", sort: (row) => row.cause, value: (row) => row.advice, cell: (row) => h("span", { class: "advice" }, row.advice) },
      { key: "opened", number: true, label: "Opened", sort: (row) => row.opened_ms, value: (row) => [row.opened_ms, get("zone")], cell: (row) => moment(row.opened_ms) },
      { key: "closed", number: true, label: "Closed", sort: (row) => row.closed_ms, value: (row) => [row.closed_ms, get("zone")], cell: (row) => (row.closed_ms ? moment(row.closed_ms) : "not yet") },
    ].filter(Boolean),
  });
  return {
    node: table.node,
    show(rows, campaigns = []) {
      names = new Map(campaigns.map((row) => [row.id, titleOf(row)]));
      table.show(rows);
    },
  };
}

const command = (text) => h("pre", { class: "command", tabindex: "0" }, h("code", {}, text));

/** What to do while there are no events, with the exact command for the configured sources. */
export function startHere(latest) {
  const sources = Object.entries(latest.sources);
  const fresh = latest.freshness.newest_ms;
  const box = h("section", { class: "panel start" });
  if (fresh) {
    return fill(box, h("h2", {}, "Nothing in this period"),
      h("p", {}, `Events do arrive (the newest at ${moment(fresh)}), but none belongs to this period. Choose a longer one above.`));
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
