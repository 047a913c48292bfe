// Incidents: what is wrong now, at the top of a page, and the table of those of the period.

import { h } from "./dom.js";
import { count, duration, moment, percent } from "./format.js";
import { metric } from "./figures.js";
import { get, link } from "./state.js";
import { Table } from "./table.js";
import { titleOf } from "./parts.js";

const RATE_NAMES = { hard_bounce_rate: "hard bounces", late_bounce_rate: "late bounces", complaint_rate: "complaints" };
const LEVELS = ["", "watch", "warning", "critical"];
const WINDOW_NAMES = { "24h": "of the mail sent in 24 hours", "7d": "of the mail delivered in 7 days" };
const CAUSES = {
  no_deliveries: "nothing is delivered any more", mailbox_provider: "one mailbox provider", time: "mail of one time", everywhere: "all of the mail alike",
};
const SHOWN = 5;

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

/** Likely cause in words: «one mailbox provider: gmail». */
const causeOf = (row) => [CAUSES[row.cause] ?? row.cause.replaceAll("_", " "), row.cause_name].filter(Boolean).join(": ");

/** Open incidents, the worst first. */
export const openOnes = (list) => list.filter((row) => row.closed_ms === null).sort((a, b) => gravity(b) - gravity(a));

/** Open incidents, one row each: what, how much, where, since when, why, and what to do. */
export function incidentStrip(open, names, nowMs) {
  const row = (one) => h("li", { class: `incident ${one.level}`, "data-incident": one.id },
    h("p", { class: "incident-head" },
      h("span", { class: `badge ${one.level}` }, one.level),
      names ? h("a", { href: link("/campaign", { campaign: one.campaign_id }) }, names.get(one.campaign_id) ?? titleOf({ id: one.campaign_id })) : null,
      h("strong", {}, `${incidentName(one.rate)} ${presentRate(one)}`),
      h("span", {}, `${count(one.numerator)} of ${count(one.denominator)} ${WINDOW_NAMES[one.window] ?? ""}${one.line ? `, line ${percent(one.line)}` : ""}`),
      h("span", {}, places(one) === "all" ? "all mailboxes" : `at ${places(one)}`),
      h("span", {}, `since ${moment(one.opened_ms)} (${duration((nowMs - one.opened_ms) / 1000)})`)),
    h("p", { class: "incident-why" }, h("b", {}, "Likely cause: "), causeOf(one), ". ", h("b", {}, "What to do: "), one.advice || "look at its bounces and complaints."));
  return h("section", { class: `alert ${open[0].level}`, id: "open-incidents", "aria-label": "Open incidents" },
    h("strong", {}, open.length === 1 ? "1 incident is open" : `${open.length} incidents are open`),
    h("ul", { class: "incidents" }, open.slice(0, SHOWN).map(row)),
    open.length > SHOWN ? h("a", { href: "#incidents" }, `and ${open.length - SHOWN} more, below`) : null);
}

function silenceTitle(silent) {
  const refused = silent.filter((row) => row.cause === "refused").length;
  const quiet = silent.length - refused;
  const said = [];
  if (refused) said.push(refused === 1 ? "1 source has all of its requests refused" : `${refused} sources have all of their requests refused`);
  if (quiet) said.push(quiet === 1 ? "1 source is silent beyond its rhythm" : `${quiet} silences beyond the rhythm of their sources`);
  return said.join(" · ");
}

/** Sources of which nothing comes, or nothing of one event type. */
export function silenceStrip(silent) {
  const level = silent.some((row) => !row.event_type) ? "critical" : "warning";
  return h("div", { class: `alert ${level}`, id: "silent" },
    h("strong", {}, silenceTitle(silent)),
    h("ul", {}, silent.slice(0, SHOWN).map((row) => h("li", {},
      h("a", { href: link("/pipeline") }, row.source),
      row.cause === "refused" ? `: all requests refused since ${moment(row.refused_ms)} (${row.refusal})` : `: no ${row.event_type ? `«${row.event_type}»` : "event"} since ${moment(row.since_ms)}`))),
    silent.length > SHOWN ? `and ${silent.length - SHOWN} more, on the pipeline's page` : null);
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
