// One campaign: funnel, course over time, bounces, mailbox providers, links, machines, incidents.

import { fill, h } from "./dom.js";
import { change, count, moment, percent, points } from "./format.js";
import { examplesButton } from "./examples.js";
import { meaning, metric, rate, reason, value } from "./figures.js";
import { campaignCharts } from "./campaign_charts.js";
import { get, link, onChange, serverQuery } from "./state.js";
import { Table } from "./table.js";
import { incidentsTable, incidentStrip, openOnes } from "./incidents.js";
import { doubt, periodBar, rateCell, startHere, switches, titleOf } from "./parts.js";

export function campaign(main) {
  let latest = null;
  const title = h("h1");
  const sub = h("p", { class: "sub" });
  const start = h("div");
  const funnel = h("div", { class: "funnel" });
  const funnelPanel = h("section", { class: "panel", id: "funnel", "aria-labelledby": "funnel-title" },
    h("div", { class: "panel-head" }, h("h2", { id: "funnel-title" }, "Funnel"), h("div", { class: "tools" }),
      h("a", { class: "csv", id: "funnel-csv", download: true, "aria-label": "Funnel as CSV" }, "CSV")), funnel);
  const charts = campaignCharts();
  const course = courseTable();
  const tables = [mailboxTable(), bounceTable(), linkTable(), machineTable()];
  const incidents = incidentsTable("campaign", false);
  const strip = h("div", { class: "strip" });
  const recent = recentTable();
  const content = h("div", {}, funnelPanel, charts.node, course.node, tables.map((one) => one.node), incidents.node, recent.node);
  const more = h("p", { class: "more" });
  fill(main, h("p", { class: "crumb" }, h("a", { href: link("/"), id: "back" }, "← All campaigns")), title, sub, more,
    periodBar(), switches(), start, strip, content);
  onChange(() => latest && draw(latest));

  function draw(document_) {
    latest = document_;
    const name = titleOf(latest.campaign);
    document.title = `${name} · mailpulse`;
    title.textContent = name;
    sub.textContent = [latest.campaign.name && latest.campaign.id, latest.campaign.owner,
      latest.campaign.progress ? progressOf(latest.campaign.progress) : ""].filter(Boolean).join(" · ");
    document.getElementById("back").href = link("/");
    fill(more, h("a", { href: link("/audience", { campaign: latest.campaign.id }) }, "When, where and with what it is read"),
      latest.campaign.id && latest.others.length ? h("a", { href: link("/compare", { c: [latest.campaign.id, ...latest.others.slice(0, 3).map((one) => one.id)] }) }, "Compare with other campaigns") : null);
    const empty = value(latest.totals, "events") === 0;
    content.hidden = empty;
    fill(start, empty ? startHere(latest, `none of the campaign «${name}»`) : null);
    const open = openOnes(latest.incidents);
    fill(strip, open.length ? incidentStrip(open, null, Date.now()) : null);
    fill(funnel, funnelOf(latest));
    document.getElementById("funnel-csv").href = `/csv/campaign/funnel.csv?${serverQuery("campaign")}`;
    if (!empty) charts.show(latest);
    for (const table of [course, ...tables]) table.draw_(latest);
    incidents.show(latest.incidents);
    recent.show(latest.recent);
  }
  return draw;
}

/** How much of a campaign is sent, since its first event. */
function progressOf({ expected_recipients: expected, sent }) {
  const share = sent < expected ? Math.min(0.999, sent / expected) : 1;  // never 100 % too early
  if (sent <= expected) return `sent so far ${percent(share)} of ${count(expected)}`;
  return `sent to ${count(sent)}, ${percent(sent / expected - 1)} more than the ${count(expected)} expected`;
}

/** A count told beside another figure, unless it is 0. */
const beside = (counts, field, label) => (value(counts, field)
  ? h("span", { class: "sub term", "data-tip": meaning(field), tabindex: "0" }, `${count(value(counts, field))} ${label}`) : null);

function funnelOf(latest) {
  const { totals, totals_before: before } = latest;
  const flow = get("basis") === "flow";
  const opened = metric("open_rate");
  const clicked = metric("click_rate");
  const sent = value(totals, "sent");
  const whole = Math.max(1, sent, ...[opened, clicked].map((item) => value(totals, item.numerator)));
  const step = (label, field, tip, of, ofLabel) => {
    const amount = value(totals, field);
    const bar = h("div", { class: "funnel-bar" });
    bar.style.width = `${Math.max(0.4, (Math.max(0, amount) / whole) * 100)}%`;
    const share = of ? rate(totals, of) : null;
    return h("div", { class: "step" },
      h("div", { class: "step-name" }, h("span", { "data-tip": tip, tabindex: "0", class: "term" }, label)),
      h("div", { class: "step-bar" }, bar),
      h("div", { class: "step-figures" }, h("strong", {}, count(amount)),
        share ? h("span", { class: "sub" }, ` ${percent(share.ratio)} of ${count(share.below)} ${ofLabel}`) : null,
        share ? [" ", doubt(share)] : null,
        get("compare") ? h("span", { class: "sub delta" }, before ? ` ${change(amount, value(before, field))} vs previous` : " – vs previous") : null));
  };
  const asides = ["bounce_rate", "late_bounce_rate", "complaint_rate", "unsubscribe_rate", "click_to_open_rate"].map((name) => {
    const item = metric(name);
    const now = rate(totals, item);
    const was = before ? rate(before, item).ratio : null;
    return h("div", { class: "aside" },
      h("span", { "data-tip": item.tip, tabindex: "0", class: "term" }, item.label),
      h("strong", {}, percent(now.ratio)), h("span", { class: "sub" }, `${count(now.above)} of ${count(now.below)}`),
      name === "click_to_open_rate" ? beside(totals, "clicked_unopened", "more clicked, not opened") : null,
      get("compare") ? h("span", { class: "sub" }, now.ratio !== null && was !== null ? points(now.ratio - was) : "–") : null);
  });
  return [
    step("Sent", "sent", meaning("sent")),
    step("Delivered", "delivered", meaning("delivered"), metric("delivery_rate"), "sent"),
    step("Opened", opened.numerator, meaning(opened.numerator), opened, "delivered"),
    step("Clicked", clicked.numerator, meaning(clicked.numerator), clicked, "delivered"),
    h("div", { class: "asides" }, asides),
    h("p", { class: "note" }, flow
      ? "What happened in this period: opens and clicks of mail delivered earlier count too."
      : "Of the messages delivered in this period, so far: opens and clicks that came later count too."),
    beside(totals, "unidentified", "events of this period can't be told per message: they are in no figure above"),
  ];
}

const rateColumn = (name) => ({
  key: name, number: true, label: metric(name).label, tip: metric(name).tip,
  sort: (row) => rate(row.counts, metric(name)).ratio,
  value: (row) => rate(row.counts, metric(name)), cell: (row) => rateCell(row.counts, null, metric(name)),
});
const countColumn = (field, label) => ({
  key: field, number: true, label, tip: meaning(field), sort: (row) => value(row.counts, field),
  value: (row) => value(row.counts, field), cell: (row) => count(value(row.counts, field)),
});
const drawn = (table, rows, rates = []) => {
  table.draw_ = (latest) => {
    for (const name of rates) table.rename(name, metric(name).label, metric(name).tip);
    table.show(rows(latest));
  };
  return table;
};

function courseTable() {
  const rates = ["bounce_rate", "hard_bounce_rate", "open_rate", "click_rate", "complaint_rate"];
  return drawn(new Table({
    id: "timeline", title: "Course over time", page: "campaign", key: (row) => row.at_s, initial: ["at", "down"],
    columns: [
      { key: "at", label: "From", sort: (row) => row.at_s, first: "down", value: (row) => [row.at_s, get("zone")], cell: (row) => moment(row.at_s * 1000) },
      countColumn("sent", "Sent"), countColumn("delivered", "Delivered"), countColumn("opened", "First opens"), countColumn("clicked", "First clicks"),
      ...rates.map(rateColumn),
    ],
  }), (latest) => latest.timeline, rates);
}

function mailboxTable() {
  const rates = ["delivery_rate", "hard_bounce_rate", "block_bounce_rate", "open_rate", "click_rate", "complaint_rate"];
  return drawn(new Table({
    id: "mailboxes", title: "By mailbox provider", page: "campaign", key: (row) => row.mailbox, initial: ["sent", "down"],
    columns: [
      { key: "mailbox", label: "Mailbox provider", sort: (row) => row.mailbox, value: (row) => row.mailbox || "unknown" },
      countColumn("sent", "Sent"), ...rates.map(rateColumn),
    ],
  }), (latest) => latest.mailboxes, rates);
}

function bounceTable() {
  const words = (text) => text.replaceAll("_", " ");
  let all = 1;
  const table = drawn(new Table({
    id: "bounces", title: "Bounces by class and reason", page: "campaign", initial: ["messages", "down"],
    key: (row) => [row.bounce_class, row.bounce_reason, row.smtp_code, row.enhanced_status].join(" "),
    empty: "No bounces in this period.",
    note: "Hard: the address does not work. Soft: a passing trouble. Block: refused for reputation, policy or content. Suppressed: not attempted, so in no rate.",
    columns: [
      { key: "class", label: "Class", sort: (row) => row.bounce_class, value: (row) => row.bounce_class,
        cell: (row) => h("span", { class: `badge bounce-${row.bounce_class}` }, row.bounce_class) },
      { key: "reason", label: "Reason", sort: (row) => row.bounce_reason, value: (row) => words(row.bounce_reason) },
      { key: "smtp", label: "SMTP", tip: "Reply code and enhanced status code (RFC 3463).", sort: (row) => row.smtp_code,
        value: (row) => [row.smtp_code || "", row.enhanced_status].filter(Boolean).join(" ") || "–" },
      { key: "messages", number: true, label: "Messages", sort: (row) => row.messages, value: (row) => [row.messages, all],
        cell: (row) => [h("span", { class: "figure" }, count(row.messages)), h("span", { class: "sub" }, percent(row.messages / all))] },
      { key: "last", number: true, label: "Last", sort: (row) => row.last_ms, value: (row) => [row.last_ms, get("zone")], cell: (row) => moment(row.last_ms) },
      { key: "diagnostic", label: "Example", value: (row) => row.diagnostic, cell: (row) => h("span", { class: "diagnostic" }, row.diagnostic || "–") },
    ],
  }), (latest) => {
    all = Math.max(1, latest.bounces.reduce((sum, row) => sum + row.messages, 0));
    return latest.bounces;
  });
  return table;
}

function linkTable() {
  let all = 0;
  return drawn(new Table({
    id: "links", title: "Links", page: "campaign", key: (row) => `${row.unsubscribe_link} ${row.click_url_group}`, initial: ["messages", "down"],
    empty: "No clicks in this period.", note: "Clicks that happened in this period. Links that differ only in parameters that say who clicked are one. Unsubscribe links never count as clicks.",
    columns: [
      { key: "url", label: "Link", sort: (row) => row.click_url_group, value: (row) => [row.click_url_group, row.unsubscribe_link],
        cell: (row) => [h("span", { class: "url" }, row.click_url_group || "(not told)"), row.unsubscribe_link ? h("span", { class: "badge" }, "unsubscribe") : ""] },
      { key: "messages", number: true, label: "Clickers", tip: "Messages in which a human clicked it, each once.", sort: (row) => row.messages, value: (row) => count(row.messages) },
      { key: "share", number: true, label: "Share of clickers", tip: "Of the messages in which a human clicked any link in this period, unsubscribe links left out. Who clicks two links counts with both, so shares may add up to more than 100 %.",
        sort: (row) => (row.unsubscribe_link ? null : row.messages), value: (row) => (row.unsubscribe_link ? "–" : [row.messages, all]),
        cell: (row) => (row.unsubscribe_link ? "–" : [h("span", { class: "figure" }, percent(all ? row.messages / all : null)), h("span", { class: "sub" }, `of ${count(all)}`)]) },
      { key: "clicks", number: true, label: "Clicks", tip: meaning("clicks"), sort: (row) => row.clicks, value: (row) => count(row.clicks) },
      { key: "machines", number: true, label: "Machine clicks", tip: meaning("machine_clicks"), sort: (row) => row.machine_clicks, value: (row) => count(row.machine_clicks) },
    ],
  }), (latest) => {
    all = latest.clickers;
    return latest.links;
  });
}

function machineTable() {
  return drawn(new Table({
    id: "machines", title: "Who opened and clicked", page: "campaign", key: (row) => [row.event_type, row.actor, row.actor_reason, row.actor_certainty].join(" "),
    empty: "No opens or clicks in this period.",
    note: "Machines open and click mail too. They are told apart by rules, counted beside people, and never deleted. Unknown: the evidence leaves it open.",
    columns: [
      { key: "type", label: "What", sort: (row) => row.event_type, value: (row) => row.event_type },
      { key: "actor", label: "By", sort: (row) => row.actor, value: (row) => row.actor, cell: (row) => h("span", { class: `badge actor-${row.actor}` }, row.actor) },
      { key: "why", label: "Why", value: (row) => row.actor_reason,
        cell: (row) => h("span", { class: "why" }, reason(row.actor_reason)) },
      { key: "sure", label: "How sure", tip: "Certain: hardly ever wrong. High: up to 3 % are wrong. Probable: more; where a machine's, it is inside the interval of the rates.", sort: (row) => row.actor_certainty, value: (row) => row.actor_certainty },
      { key: "messages", number: true, label: "Messages", sort: (row) => row.messages, value: (row) => count(row.messages) },
      { key: "events", number: true, label: "Events", sort: (row) => row.events, value: (row) => count(row.events) },
      { key: "examples", label: "Examples", tip: "Up to ten of them, masked: who, when, from where and with what.", value: () => "", cell: (row) => examplesButton(row) },
    ],
  }), (latest) => latest.machines);
}

function recentTable() {
  return new Table({
    id: "recent", title: "Latest events", page: "campaign", key: (row, index) => index, csv: true,
    columns: [
      { key: "at", label: "When", value: (row) => [row.at_ms, get("zone")], cell: (row) => moment(row.at_ms) },
      { key: "type", label: "What", value: (row) => row.event_type },
      { key: "detail", label: "How", value: (row) => row.detail.replaceAll("_", " ") || "–" },
      { key: "recipient", label: "Recipient", value: (row) => row.recipient || "–" },
      { key: "mailbox", label: "Mailboxes", value: (row) => row.mailbox_provider || "–" },
      { key: "provider", label: "Reported by", value: (row) => row.provider },
    ],
  });
}
