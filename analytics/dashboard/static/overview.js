// The overview: what is wrong, totals and their trend, campaigns, incidents.

import { fill, h } from "./dom.js";
import { change, count, duration, interval, moment, percent, points } from "./format.js";
import { meaning, metric, rate, value } from "./figures.js";
import { LineChart, sparkline } from "./chart.js";
import { incidentName, incidentsTable, incidentStrip, openOnes, silenceStrip } from "./incidents.js";
import { get, link, onChange, set } from "./state.js";
import { Table } from "./table.js";
import { periodBar, rateCell, startHere, switches, titleOf } from "./parts.js";

const RATES = ["delivery_rate", "bounce_rate", "open_rate", "click_rate", "complaint_rate", "unsubscribe_rate"];
const ROWS_OF_PAGE = 50;
const TRENDS = {
  sent: ["Sent", null, "delivered"], delivered: ["Delivered", "delivery_rate", "delivered"], bounced: ["Bounced", "bounce_rate", "hard"],
  opened: ["Opened", "open_rate", "opened"], clicked: ["Clicked", "click_rate", "clicked"], complained: ["Complaints", "complaint_rate", "complaint"],
};

const nameCell = (row) => h("div", { class: "campaign" },
  h("a", { href: link("/campaign", { campaign: row.id }) }, titleOf(row)),
  row.name && row.name !== row.id ? h("span", { class: "sub" }, row.id) : null,
  row.owner ? h("span", { class: "sub" }, row.owner) : null,
  openOnes(row.incidents).slice(0, 1).map((one) => h("span", { class: `badge ${one.level}` }, `${one.level}: ${incidentName(one.rate)}`)));

/** The columns of figures; latest() gives the present document. */
function columnsOf(latest) {
  const rateColumn = (name) => ({
    key: name, number: true, label: metric(name).label, tip: metric(name).tip,
    sort: (row) => rate(row.counts, metric(name)).ratio,
    value: (row) => [rate(row.counts, metric(name)), get("compare") && row.before ? rate(row.before, metric(name)) : null],
    cell: (row) => rateCell(row.counts, get("compare") ? row.before : null, metric(name)),
  });
  return [
    {
      key: "name", label: "Campaign", sort: (row) => titleOf(row).toLowerCase(),
      value: (row) => [row.id, row.name, row.owner, openOnes(row.incidents).map((one) => [one.rate, one.level])], cell: nameCell,
    },
    {
      key: "sent", number: true, label: "Sent", tip: meaning("sent"), sort: (row) => value(row.counts, "sent"),
      value: (row) => [value(row.counts, "sent"), get("compare") && row.before ? value(row.before, "sent") : null],
      cell: (row) => [h("span", { class: "figure" }, count(value(row.counts, "sent"))),
        get("compare") ? h("span", { class: "sub" }, row.before ? change(value(row.counts, "sent"), value(row.before, "sent")) : "–") : ""],
    },
    ...RATES.map(rateColumn),
    {
      key: "course", label: "Course", tip: "Bars: messages delivered. Line: messages with a first human open, when it happened.",
      value: (row) => [row.course, latest().period.start_s, latest().step_s],
      cell: (row) => row.course.length ? sparkline(row.course, latest().first_s, latest().period.end_s, latest().step_s) : "–",
    },
    {
      key: "last", number: true, label: "Last event", sort: (row) => row.last_ms,
      tip: "Minute of the newest event that was counted.", value: (row) => [row.last_ms, get("zone")], cell: (row) => moment(row.last_ms),
    },
  ];
}

function campaignsTable(latest) {
  const search = h("input", {
    type: "search", id: "search", placeholder: "Search campaigns", "aria-label": "Search campaigns", value: get("q"),
    // the first letter can be undone by Back, together with those after it
    oninput: () => set({ q: search.value, at: "1" }, { passing: Boolean(get("q")) }),
  });
  const orderOf = () => (get("sort") ? get("sort").split("-") : ["last", "down"]);
  const table = new Table({
    id: "campaigns", title: "Campaigns", page: "overview", key: (row) => row.id, noun: "campaigns",
    empty: "No campaign matches.", initial: orderOf(), onSort: (order) => set({ sort: order, at: "1" }, { passing: true }),
    stable: true, csvQuery: () => (get("q").trim() ? `&q=${encodeURIComponent(get("q").trim())}` : ""),
    paged: { size: ROWS_OF_PAGE, get: () => get("at"), set: (at) => set({ at }) },
    columns: columnsOf(latest),
  });
  table.tools.append(search);
  onChange((changed) => {
    if (changed.has("q") && search.value !== get("q")) search.value = get("q");
    if (changed.has("period")) table.places = null;
    if (changed.has("sort") && orderOf().join() !== table.order.join()) {
      table.order = orderOf();
      table.places = null;
    }
  });
  return table;
}

/** A count over time, with the previous period behind it. */
function trendChart() {
  const chart = new LineChart({ id: "chart-trend", title: "Trend", whole: true, format: (n) => count(Math.round(n)) });
  chart.update = (latest) => {
    const { steps_s: steps, step_s: stepS, counts, before } = latest.trend;
    const [label, name, className] = TRENDS[get("trend")] ?? TRENDS.sent;
    const item = name && metric(name);
    const read = (row) => value(row, item ? item.numerator : "sent");
    const told = (row) => {
      if (!item) return "";
      const { ratio, below } = rate(row, item);
      return ratio === null ? "" : ` (${percent(ratio)} of ${count(below)})`;
    };
    const length = (latest.period.end_s - latest.period.start_s) * 1000;
    const behind = before ? [{
      name: "Previous period", className: "previous", quiet: true, values: before.map(read),
      details: before.map((row, index) => `${told(row)}, ${moment(steps[index] * 1000 - length)}`),
    }] : [];
    const byDelivery = item?.basis === "cohort" ? " Counted where the mail was delivered; «What happened» counts when it happened." : "";
    chart.name(`${label} over time`, `Messages in each step of ${duration(stepS)}; the last step is still running.${byDelivery}`);
    const last = Math.max(steps.at(-1) ?? 0, latest.period.start_s + 1);
    chart.show({
      at: steps.map((time) => time * 1000), start: (steps[0] ?? latest.period.start_s) * 1000, end: Math.max(last, steps[0] + stepS) * 1000,
      series: [{ name: "This period", className, values: counts.map(read), details: counts.map(told), running: counts.length > 2 }, ...behind],
      marks: latest.incidents.filter((row) => row.opened_ms >= latest.period.start_s * 1000).slice(0, 8)
        .map((row) => ({ at: row.opened_ms, level: row.level, label: `${latest.names.get(row.campaign_id) ?? row.campaign_id}: ${incidentName(row.rate)}` })),
    });
  };
  return chart;
}

/** Mail that belongs to no campaign, apart from those that do. */
function unattributed(row) {
  if (!row) return null;
  const told = ["delivery_rate", "open_rate", "click_rate", "complaint_rate"].map((name) => {
    const { ratio, above, below } = rate(row.counts, metric(name));
    return h("span", {}, `${metric(name).label} ${percent(ratio)} `, h("span", { class: "sub" }, `${count(above)} of ${count(below)}`));
  });
  return h("section", { class: "panel", id: "no-campaign", "aria-labelledby": "no-campaign-title" },
    h("div", { class: "panel-head" }, h("h2", { id: "no-campaign-title" }, "Mail without a campaign"),
      h("a", { href: link("/campaign", { campaign: "" }) }, "Look at it")),
    h("p", { class: "note" }, "Its events name no campaign, and none is known for its messages. It is part of the totals above, and of no campaign."),
    h("p", { class: "asides" }, h("span", {}, "Sent ", h("strong", {}, count(value(row.counts, "sent")))), told));
}

export function overview(main) {
  let latest = null;
  const cards = h("div", { class: "cards", role: "group", "aria-label": "Totals; press one to see it over time" });
  const strip = h("div", { class: "strip" });
  const start = h("div");
  const table = campaignsTable(() => latest);
  const trend = trendChart();
  const apart = h("div");
  const incidents = incidentsTable("overview", true);
  const content = h("div", {}, cards, trend.node, table.node, apart);
  fill(main, h("h1", { class: "hidden" }, "Overview"), periodBar(), switches(), start, strip, content, incidents.node);
  onChange(() => latest && draw(latest));

  function draw(document_) {
    latest = document_;
    latest.first_s = Math.max(latest.period.start_s, Math.min(latest.period.end_s, ...latest.campaigns.flatMap((row) => row.course.map(([at]) => at))));
    latest.names = new Map(latest.campaigns.map((row) => [row.id, titleOf(row)]));
    const empty = latest.campaigns.length === 0;
    fill(start, empty ? startHere(latest) : null);
    content.hidden = empty;
    const open = openOnes(latest.incidents);
    fill(strip, [open.length ? incidentStrip(open, latest.names, Date.now()) : null, latest.silent.length ? silenceStrip(latest.silent) : null]);
    incidents.show(latest.incidents, latest.campaigns);
    if (empty) return;
    showCards(cards, latest);
    trend.update(latest);
    for (const name of RATES) table.rename(name, metric(name).label, metric(name).tip);
    const wished = get("q").trim().toLowerCase();
    const named = latest.campaigns.filter((row) => row.id !== "");
    const rows = named.map((row) => ({ ...row, incidents: latest.incidents.filter((one) => one.campaign_id === row.id) }));
    table.show(rows.filter((row) => [row.id, row.name, row.owner].join("\n").toLowerCase().includes(wished)), rows.length + latest.campaigns_left_out);
    fill(apart, unattributed(latest.campaigns.find((row) => row.id === "")));
  }
  return draw;
}

/** Cards are kept, so that focus stays on the one that was pressed. */
function showCards(node, latest) {
  const { totals, totals_before: before } = latest;
  const compare = Boolean(get("compare"));
  const named = latest.campaigns.filter((row) => row.id !== "").length + latest.campaigns_left_out;
  Object.entries(TRENDS).forEach(([key, [label, name]], index) => {
    const item = name && metric(name);
    const now = item ? rate(totals, item) : null;
    const was = item && before ? rate(before, item).ratio : null;
    const known = now && now.ratio !== null && was !== null;
    const better = known && (now.ratio > was) === (item.good_when === "high");
    const sent = value(totals, "sent");
    const delta = item ? (known ? points(now.ratio - was) : "–") : change(sent, before ? value(before, "sent") : 0);
    const tone = known && now.ratio !== was ? (better ? "better" : "worse") : "";
    let card = node.children[index];
    if (!card) {
      card = h("div", { class: "card" }, h("h2", {}, h("button", { type: "button", class: "pick", onclick: () => set({ trend: key }) }, label)), h("div"));
      node.append(card);
    }
    const button = card.querySelector(".pick");
    button.setAttribute("aria-pressed", String((get("trend") in TRENDS ? get("trend") : "sent") === key));
    button.dataset.tip = item ? item.tip : meaning("sent");
    fill(card.lastElementChild,
      h("p", { class: "big" }, item ? percent(now.ratio) : count(sent)),
      h("p", { class: "sub" }, item ? [`${count(now.above)} of ${count(now.below)}`, interval(now)].filter(Boolean).join(", ") : `in ${count(named)} campaign${named === 1 ? "" : "s"}`),
      compare ? h("p", { class: `delta ${tone}` }, delta, h("span", { class: "sub" }, " vs previous period")) : null);
  });
}
