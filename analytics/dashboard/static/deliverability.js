// Deliverability: how mailbox providers take the mail, why they refuse some, and who complains.

import { fill, h } from "./dom.js";
import { count, duration, moment, percent } from "./format.js";
import { bounceWords, meaning, metric, rate, value } from "./figures.js";
import { LineChart } from "./chart.js";
import { buttons, periodBar, rateCell, startHere, switches } from "./parts.js";
import { get, onChange } from "./state.js";
import { Table } from "./table.js";

const RATES = [
  ["bounce_rate", "Bounced"], ["hard_bounce_rate", "Hard"], ["block_bounce_rate", "Blocked"], ["delivery_rate", "Delivered"],
  ["complaint_rate", "Complaints"], ["open_rate", "Opened"], ["click_rate", "Clicked"],
];
const IN_BAND = new Set(["hard", "soft", "block", "undetermined"]);
const reasonWords = (text) => (text === "none" ? "no reason given" : text.replaceAll("_", " "));
const COLUMNS = ["delivery_rate", "hard_bounce_rate", "soft_bounce_rate", "block_bounce_rate", "open_rate", "click_rate", "complaint_rate"];
const REASONS = {
  hard_bounce: "Hard bounce", complaint: "Complaint", unsubscribe: "Unsubscribe", manual: "By hand", soft_bounces: "Repeated soft bounces",
};

/** A rate over time: of each of several lists of counts, one per step. */
function drawRates(chart, latest, name, list, lines = []) {
  const item = metric(name);
  const { steps_s: steps, step_s: stepS } = latest;
  const start = (steps[0] ?? latest.period.start_s) * 1000;
  chart.show({
    at: steps.map((time) => time * 1000), start, end: Math.max((steps.at(-1) ?? 0) * 1000, start + stepS * 1000), lines,
    series: list.map(({ label, className, counts }) => ({
      name: label, className, values: counts.map((row) => rate(row, item).ratio),
      details: counts.map((row) => {
        const { above, below } = rate(row, item);
        return below ? ` (${count(above)} of ${count(below)})` : "";
      }),
    })),
  });
}

const summed = (courses) => courses[0]?.counts.map((_, step) => courses[0].counts[step].map((_one, field) =>
  courses.reduce((sum, one) => sum + one.counts[step][field], 0))) ?? [];

function mailboxTable() {
  const table = new Table({
    id: "mailboxes", title: "By mailbox provider", page: "deliverability", key: (row) => row.mailbox, initial: ["sent", "down"], noun: "mailbox providers",
    note: "Who hosts the recipients' mailboxes, all campaigns together.",
    columns: [
      { key: "mailbox", label: "Mailbox provider", sort: (row) => row.mailbox, value: (row) => row.mailbox || "unknown" },
      { key: "sent", number: true, label: "Sent", tip: meaning("sent"), sort: (row) => value(row.counts, "sent"), value: (row) => value(row.counts, "sent"),
        cell: (row) => count(value(row.counts, "sent")) },
      ...COLUMNS.map((name) => ({
        key: name, number: true, label: metric(name).label, tip: metric(name).tip, sort: (row) => rate(row.counts, metric(name)).ratio,
        value: (row) => [rate(row.counts, metric(name)), get("compare") && row.before ? rate(row.before, metric(name)) : null],
        cell: (row) => rateCell(row.counts, get("compare") ? row.before : null, metric(name)),
      })),
    ],
  });
  table.update = (latest) => {
    for (const name of COLUMNS) table.rename(name, metric(name).label, metric(name).tip);
    table.show(latest.mailboxes);
  };
  return table;
}

function bounceTable() {
  let all = 1;
  const table = new Table({
    id: "bounces", title: "Why mail bounced, and what to do", page: "deliverability", key: (row) => `${row.bounce_class} ${row.bounce_reason}`,
    initial: ["messages", "down"], empty: "No bounces in this period.",
    note: "Hard: the address does not work. Soft: a passing trouble. Block: refused for reputation, policy or content. Suppressed: not attempted, so in no rate.",
    columns: [
      { key: "reason", label: "Reason", sort: (row) => row.bounce_reason, value: (row) => [row.bounce_class, row.bounce_reason],
        cell: (row) => [h("span", { class: `badge bounce-${row.bounce_class}` }, row.bounce_class), " ", reasonWords(row.bounce_reason)] },
      { key: "messages", number: true, label: "Messages", sort: (row) => row.messages, value: (row) => [row.messages, all],
        cell: (row) => [h("span", { class: "figure" }, count(row.messages)), h("span", { class: "sub" }, IN_BAND.has(row.bounce_class) ? `${percent(row.messages / all)} of bounces` : "no bounces")] },
      { key: "meaning", label: "What it means", value: (row) => bounceWords(row.bounce_reason)[0], cell: (row) => h("span", { class: "advice" }, bounceWords(row.bounce_reason)[0]) },
      { key: "advice", label: "What to do", value: (row) => bounceWords(row.bounce_reason)[1], cell: (row) => h("span", { class: "advice" }, bounceWords(row.bounce_reason)[1]) },
      { key: "mailboxes", label: "Mostly at", value: (row) => row.mailboxes.filter(Boolean).join(", ") || "–" },
      { key: "campaigns", number: true, label: "Campaigns", sort: (row) => row.campaigns, value: (row) => count(row.campaigns) },
      { key: "last", number: true, label: "Last", sort: (row) => row.last_ms, value: (row) => [row.last_ms, get("zone")], cell: (row) => moment(row.last_ms) },
      { key: "diagnostic", label: "Wording", value: (row) => row.diagnostic, cell: (row) => h("span", { class: "diagnostic" }, row.diagnostic || "–") },
    ],
  });
  table.update = (latest) => {
    all = Math.max(1, latest.bounces.reduce((sum, row) => sum + (IN_BAND.has(row.bounce_class) ? row.messages : 0), 0));
    table.show(latest.bounces);
  };
  return table;
}

function suppressionChart() {
  const chart = new LineChart({ id: "chart-suppressions", title: "Addresses that must not be mailed", whole: true, format: (n) => count(Math.round(n)),
    note: "Those that are suppressed now, by when that began; addresses that have been lifted since are not among them." });
  chart.update = (latest) => {
    const { steps_s: steps, step_s: stepS, suppressions } = latest;
    const start = (steps[0] ?? latest.period.start_s) * 1000;
    const total = steps.map((_, index) => suppressions.reduce((sum, one) => sum + one.addresses[index], 0));
    chart.show({
      at: steps.map((time) => time * 1000), start, end: Math.max((steps.at(-1) ?? 0) * 1000, start + stepS * 1000),
      series: [{ name: "All", className: "s1", values: total },
        ...suppressions.map((one, index) => ({ name: REASONS[one.reason] ?? one.reason, className: `s${2 + (index % 5)}`, values: one.addresses }))],
    });
  };
  return chart;
}

export function deliverability(main) {
  let latest = null;
  const start = h("div");
  const course = new LineChart({ id: "chart-mailboxes", title: "By mailbox provider over time", format: percent, tools: buttons("Rate by mailbox provider", "rate", RATES) });
  const complaints = new LineChart({ id: "chart-complaints", title: "Complaints over time", format: percent, top: 0.001,
    note: "Spam reports that mailbox providers pass on, of delivered. Gmail passes on none: look into Google's Postmaster Tools for its rate." });
  const growth = suppressionChart();
  const [mailboxes, bounces] = [mailboxTable(), bounceTable()];
  const content = h("div", {}, course.node, mailboxes.node, bounces.node, h("div", { class: "charts" }, complaints.node, growth.node));
  fill(main, h("h1", {}, "Deliverability"), periodBar(), switches(), start, content);
  onChange(() => latest && draw(latest));

  function draw(document_) {
    latest = document_;
    const empty = latest.mailboxes.length === 0;
    fill(start, empty ? startHere(latest) : null);
    content.hidden = empty;
    if (empty) return;
    const name = RATES.some(([key]) => key === get("rate")) ? get("rate") : "bounce_rate";
    course.name("By mailbox provider over time", `${metric(name).label}: ${metric(name).tip} In steps of ${duration(latest.step_s)}; those with the most mail, of all campaigns.`);
    drawRates(course, latest, name, latest.courses.map((one, index) => ({ label: one.mailbox || "unknown", className: `s${1 + (index % 6)}`, counts: one.counts })));
    mailboxes.update(latest);
    bounces.update(latest);
    const yahoo = latest.courses.find((one) => one.mailbox === "yahoo");
    drawRates(complaints, latest, "complaint_rate", [
      { label: "The mailbox providers above together", className: "complaint", counts: summed(latest.courses) },
      yahoo ? { label: "Yahoo", className: "s4", counts: yahoo.counts } : null,
    ].filter(Boolean), latest.complaint_lines.map(([line, label], index) => [line, `${label} ${percent(line)}`, ["warning", "critical"][index]]));
    growth.update(latest);
  }
  return draw;
}
