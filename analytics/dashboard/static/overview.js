// The overview: totals, incidents, campaigns.

import { fill, h } from "./dom.js";
import { change, count, interval, moment, percent, points } from "./format.js";
import { meaning, metric, rate, value } from "./figures.js";
import { sparkline } from "./chart.js";
import { get, link, onChange, set } from "./state.js";
import { Table } from "./table.js";
import { gravity, incidentName, incidentsTable, periodBar, places, presentRate, rateCell, startHere, switches, titleOf } from "./parts.js";

const RATES = ["delivery_rate", "bounce_rate", "open_rate", "click_rate", "complaint_rate", "unsubscribe_rate"];
const STRIP_ROWS = 5;
const openOnes = (list) => list.filter((row) => row.closed_ms === null).sort((a, b) => gravity(b) - gravity(a));

export function overview(main) {
  let latest = null;
  const cards = h("div", { class: "cards" });
  const strip = h("div", { class: "strip" });
  const start = h("div");
  const search = h("input", {
    type: "search", id: "search", placeholder: "Search campaigns", "aria-label": "Search campaigns",
    value: get("q"), oninput: () => set({ q: search.value }),
  });
  const rateColumn = (name) => ({
    key: name, number: true, label: metric(name).label, tip: metric(name).tip,
    sort: (row) => rate(row.counts, metric(name)).ratio,
    value: (row) => [rate(row.counts, metric(name)), get("compare") && row.before ? rate(row.before, metric(name)) : null],
    cell: (row) => rateCell(row.counts, get("compare") ? row.before : null, metric(name)),
  });
  const table = new Table({
    id: "campaigns", title: "Campaigns", page: "overview", key: (row) => row.id,
    empty: "No campaign matches.",
    initial: get("sort") ? get("sort").split("-") : ["last", "down"],
    onSort: (order) => set({ sort: order }),
    columns: [
      {
        key: "name", label: "Campaign", sort: (row) => titleOf(row).toLowerCase(),
        value: (row) => [row.id, row.name, row.owner, openOnes(row.incidents).map((one) => [one.rate, one.level])],
        cell: (row) => h("div", { class: "campaign" },
          h("a", { href: link("/campaign", { campaign: row.id }) }, titleOf(row)),
          row.name && row.name !== row.id ? h("span", { class: "sub" }, row.id) : null,
          row.owner ? h("span", { class: "sub" }, row.owner) : null,
          openOnes(row.incidents).slice(0, 1).map((one) =>
            h("span", { class: `badge ${one.level}` }, `${one.level}: ${incidentName(one.rate)}`))),
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
        value: (row) => [row.course, latest.period.start_s, latest.step_s],
        cell: (row) => row.course.length
          ? sparkline(row.course, latest.first_s, latest.period.end_s, latest.step_s) : "–",
      },
      {
        key: "last", number: true, label: "Last event", sort: (row) => row.last_ms,
        tip: "Minute of the newest event that was counted.", value: (row) => [row.last_ms, get("zone")],
        cell: (row) => moment(row.last_ms),
      },
    ],
  });
  table.tools.append(search);
  const incidents = incidentsTable("overview", true);
  fill(main, h("h1", { class: "hidden" }, "Overview"), periodBar(), switches(), start, strip, cards, table.node, incidents.node);
  onChange(() => latest && draw(latest));

  function draw(document_) {
    latest = document_;
    latest.first_s = Math.max(latest.period.start_s, Math.min(latest.period.end_s, ...latest.campaigns.flatMap((row) => row.course.map(([at]) => at))));
    const empty = latest.campaigns.length === 0;
    fill(start, empty ? startHere(latest) : null);
    for (const node of [cards, table.node]) node.hidden = empty;
    const open = openOnes(latest.incidents);
    fill(strip, [open.length ? incidentStrip(open, latest) : null, latest.silent.length ? silenceStrip(latest.silent) : null]);
    fill(cards, cardsOf(latest));
    for (const name of RATES) table.rename(name, metric(name).label, metric(name).tip);
    const wished = get("q").trim().toLowerCase();
    const rows = latest.campaigns.map((row) => ({ ...row, incidents: latest.incidents.filter((one) => one.campaign_id === row.id) }));
    table.show(rows.filter((row) => `${row.id} ${row.name} ${row.owner}`.toLowerCase().includes(wished)), rows.length + latest.campaigns_left_out);
    incidents.show(latest.incidents, latest.campaigns);
  }
  return draw;
}

/** One row per incident, the worst first. */
function incidentStrip(open, latest) {
  const names = new Map(latest.campaigns.map((row) => [row.id, titleOf(row)]));
  return h("div", { class: `alert ${open[0].level}` },
    h("strong", {}, open.length === 1 ? "1 incident is open" : `${open.length} incidents are open`),
    h("ul", {}, open.slice(0, STRIP_ROWS).map((row) => h("li", {},
      h("a", { href: link("/campaign", { campaign: row.campaign_id }) }, names.get(row.campaign_id) ?? row.campaign_id),
      `: ${incidentName(row.rate)} ${presentRate(row)}${places(row) === "all" ? "" : ` at ${places(row)}`} (${row.level}) since ${moment(row.opened_ms)}`))),
    open.length > STRIP_ROWS ? `and ${open.length - STRIP_ROWS} more, below` : null);
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
function silenceStrip(silent) {
  const level = silent.some((row) => !row.event_type) ? "critical" : "warning";
  return h("div", { class: `alert ${level}`, id: "silent" },
    h("strong", {}, silenceTitle(silent)),
    h("ul", {}, silent.slice(0, STRIP_ROWS).map((row) => h("li", {},
      h("a", { href: link("/pipeline") }, row.source),
      row.cause === "refused" ? `: all requests refused since ${moment(row.refused_ms)} (${row.refusal})` : `: no ${row.event_type ? `«${row.event_type}»` : "event"} since ${moment(row.since_ms)}`))),
    silent.length > STRIP_ROWS ? `and ${silent.length - STRIP_ROWS} more, on the pipeline's page` : null);
}

function cardsOf(latest) {
  const { totals, totals_before: before } = latest;
  const compare = Boolean(get("compare"));
  const card = (label, tip, main_, sub, delta, tone) =>
    h("div", { class: "card" },
      h("h2", {}, h("span", { "data-tip": tip, tabindex: "0", class: "term" }, label)),
      h("p", { class: "big" }, main_), h("p", { class: "sub" }, sub),
      compare ? h("p", { class: `delta ${tone}` }, delta, h("span", { class: "sub" }, " vs previous period")) : null);
  const sent = value(totals, "sent");
  const sentBefore = before ? value(before, "sent") : 0;
  return [
    card("Sent", meaning("sent"), count(sent),
      `in ${count(latest.campaigns.length + latest.campaigns_left_out)} campaigns`, change(sent, sentBefore), ""),
    ...["delivery_rate", "bounce_rate", "open_rate", "click_rate", "complaint_rate"].map((name) => {
      const item = metric(name);
      const now = rate(totals, item);
      const was = before ? rate(before, item).ratio : null;
      const known = now.ratio !== null && was !== null;
      const better = known && (now.ratio > was) === (item.good_when === "high");
      return card(item.label, item.tip, percent(now.ratio), [`${count(now.above)} of ${count(now.below)}`, interval(now)].filter(Boolean).join(", "),
        known ? points(now.ratio - was) : "–", known && now.ratio !== was ? (better ? "better" : "worse") : "");
    }),
  ];
}
