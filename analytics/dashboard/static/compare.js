// Compare: campaigns side by side at equal age, whether their differences are more than chance, and
// variants told apart by a key of metadata.

import { fill, h } from "./dom.js";
import { age, count, moment, percent } from "./format.js";
import { LineChart } from "./chart.js";
import { all, get, link, onChange, set } from "./state.js";
import { startHere, switches } from "./parts.js";
import { Table } from "./table.js";

const CHOSEN_MAX = 6;
const KINDS = [["opened", "Opened"], ["clicked", "Clicked"]];
const VERDICTS = {
  real: ["good", "real: more than chance"],
  doubtful: ["warning", "more than chance, unless doubtful opens and clicks were people's"],
  chance: ["", "could be chance"],
};
const round = (ratio) => percent(ratio).replace(" %", "");
const points = (ratio) => (ratio * 100).toFixed(Math.abs(ratio) < 0.01 ? 2 : 1).replace("-", "−");

function picker(pick) {
  const search = h("input", { type: "search", "aria-label": "Search campaigns to compare", placeholder: "Search campaigns", oninput: () => draw() });
  const list = h("ul", { class: "choices" });
  const summary = h("summary", {}, "Choose campaigns");
  let latest = null;
  function draw() {
    const wished = search.value.trim().toLowerCase();
    const chosen = new Set(latest.chosen);
    const rows = latest.candidates.filter((row) => chosen.has(row.id) || `${row.id} ${row.name}`.toLowerCase().includes(wished)).slice(0, 100);
    fill(list, rows.map((row) => {
      const box = h("input", { type: "checkbox", value: row.id, checked: chosen.has(row.id), disabled: !chosen.has(row.id) && chosen.size >= CHOSEN_MAX,
        onchange: () => pick(box.checked ? [...latest.chosen, row.id] : latest.chosen.filter((one) => one !== row.id)) });
      return h("li", {}, h("label", {}, box, ` ${row.name} `, h("span", { class: "sub" }, `${count(row.delivered)} delivered, last ${moment(row.last_ms)}`)));
    }));
    summary.textContent = `Choose campaigns: ${chosen.size} of at most ${CHOSEN_MAX}`;
  }
  return {
    node: h("details", { class: "panel picker", id: "picker" }, summary, search, list),
    show(next) {
      const sign = JSON.stringify([next.chosen, next.candidates]);
      if (sign === latest?.sign) return;
      latest = { ...next, sign };
      if (!list.contains(document.activeElement)) draw();
      else {
        const focused = document.activeElement.value;
        draw();
        [...list.querySelectorAll("input")].find((one) => one.value === focused)?.focus();
      }
    },
  };
}

function ageBar() {
  const node = h("div", { class: "bar" });
  let sign = "";
  return {
    node,
    show(side) {
      const next = JSON.stringify([side.ages_s, side.age_s, get("age")]);
      if (next === sign) return;
      sign = next;
      const offered = [900, 3600, 10800, 21600, 43200, 86400, 172800, 259200, 604800, 1209600, 2592000].filter((one) => side.ages_s.includes(one));
      const select = h("select", { id: "age", onchange: () => set({ age: select.value }) },
        h("option", { value: "" }, side.age_s ? `the greatest that all have: ${age(side.ages_s.at(-1))}` : "none yet"),
        offered.map((one) => h("option", { value: one }, age(one))));
      select.value = offered.includes(Number(get("age"))) ? get("age") : "";
      fill(node, h("label", { for: "age" }, "At equal age, since the delivery:"), select);
    },
  };
}

/** Rates of each at the age, with intervals: how sure, and how much doubt. */
function sideTable(id, title, label, withLink) {
  let names = {};
  const cell = (row, kind) => {
    const found = row.rates[kind]?.[get("who")];
    if (!found || !row.delivered) return "–";
    const doubt = found.most !== found.above ? `at most ${percent(found.most / row.delivered)} with all doubtful ones` : "";
    return [h("span", { class: "figure" }, percent(found.above / row.delivered)), h("span", { class: "sub" }, `${count(found.above)} of ${count(row.delivered)}`),
      h("span", { class: "sub" }, `95 % interval ${round(found.low)}–${round(found.high)}`), doubt ? h("span", { class: "sub" }, doubt) : ""];
  };
  const table = new Table({
    id, title, page: "compare", key: (row) => row.id, empty: "None has been delivered for a minute.",
    columns: [
      { key: "name", label, value: (row) => [row.id, names[row.id]], cell: (row) => (withLink ? h("a", { href: link("/campaign", { campaign: row.id, period: "all" }) }, names[row.id] ?? row.id) : row.id) },
      { key: "delivered", number: true, label: "Delivered", tip: "Messages that were delivered at least so long ago.", value: (row) => count(row.delivered) },
      ...KINDS.map(([kind, word]) => ({
        key: kind, number: true, label: word, tip: `Of these, ${kind} within that time. The interval is the chance in it (Wilson, 95 %).`,
        sort: (row) => (row.delivered ? row.rates[kind][get("who")].above / row.delivered : null),
        value: (row) => [row.rates[kind]?.[get("who")], row.delivered], cell: (row) => cell(row, kind),
      })),
    ],
  });
  table.update = (side) => {
    names = side.names;
    table.show(side.rows);
  };
  return table;
}

/** Every pair, in words. */
function verdicts(side) {
  if (!side.age_s || side.rows.length < 2) return null;
  return KINDS.map(([kind, word]) => {
    const found = side.differences[kind][get("who")];
    const name = (index) => side.names[side.rows[index].id] ?? side.rows[index].id;
    return h("div", {}, h("h3", {}, `${word}: is the difference real?`), h("ul", { class: "verdicts" }, found.map((one) => {
      const [tone, words] = VERDICTS[one.verdict];
      return h("li", {}, h("span", { class: `badge ${tone}` }, words), ` ${name(one.ahead)} is ${points(one.points)} points ahead of ${name(one.behind)} (interval ${points(one.low)} to ${points(one.high)}).`);
    })));
  });
}

function curveChart(id, kind, word) {
  const chart = new LineChart({ id, title: `${word}, by time since delivery`, format: percent, axis: "age", first: "Since delivery",
    note: "Each point counts the messages that are so old. Far right these are few, so a curve may fall." });
  chart.update = (side) => {
    const ages = [...new Set(side.rows.flatMap((row) => row.curve.ages_s))].sort((a, b) => a - b);
    const who = get("who");
    chart.show({
      at: ages, start: 0, end: Math.max(300, ages.at(-1) ?? 0),
      marks: [],
      series: side.rows.map((row, index) => {
        const at = ages.map((one) => row.curve.ages_s.indexOf(one));
        return {
          name: side.names[row.id] ?? row.id, className: `s${1 + (index % 6)}`,
          values: at.map((place) => (place < 0 ? null : row.curve[kind][who][place] / row.curve.delivered[place])),
          details: at.map((place) => (place < 0 ? "" : ` (${count(row.curve[kind][who][place])} of ${count(row.curve.delivered[place])})`)),
        };
      }),
    });
  };
  return chart;
}

function variantsPanel() {
  const select = h("select", { id: "key", onchange: () => set({ key: select.value }) });
  const table = sideTable("variants", "Variants", "Value", false);
  const said = h("div");
  const nothing = h("p", { class: "note" });
  const node = h("section", { class: "panel", id: "variant-panel", "aria-labelledby": "variant-title" },
    h("div", { class: "panel-head" }, h("h2", { id: "variant-title" }, "Variants by metadata"), h("div", { class: "tools" }, h("label", { for: "key" }, "Key: "), select)),
    nothing, said);
  let sign = "";
  return {
    nodes: [node, table.node],
    show(latest) {
      const next = JSON.stringify([latest.keys, latest.key]);
      if (next !== sign) {
        sign = next;
        fill(select, h("option", { value: "" }, "none"), latest.keys.map((row) => h("option", { value: row.key }, `${row.key} (${row.variants} values)`)));
        select.value = latest.keys.some((row) => row.key === latest.key) ? latest.key : "";
      }
      nothing.textContent = latest.keys.length
        ? "Messages of these campaigns together, told apart by a key of their metadata, such as an A/B test's: as delivered, at equal age."
        : "No key of metadata tells the messages of these campaigns apart. Send one with each message, such as variant=B, and it is offered here.";
      table.node.hidden = latest.variants.rows.length === 0;
      table.update(latest.variants);
      fill(said, ...[verdicts(latest.variants)].flat());
    },
  };
}

export function compare(main) {
  let latest = null;
  const start = h("div");
  const chooser = picker((chosen) => set({ c: chosen, age: "" }));
  const bar = ageBar();
  const table = sideTable("campaigns", "Side by side", "Campaign", true);
  const said = h("section", { class: "panel", id: "differences", "aria-label": "Differences" });
  const charts = KINDS.map(([kind, word]) => curveChart(`chart-${kind}`, kind, word));
  const variants = variantsPanel();
  const content = h("div", {}, chooser.node, bar.node, table.node, said, h("div", { class: "charts" }, charts.map((chart) => chart.node)), variants.nodes);
  fill(main, h("h1", {}, "Compare"), switches({ basis: false, compare: false }), start, content);
  onChange(() => latest && draw(latest));

  function draw(document_) {
    latest = document_;
    const empty = latest.candidates.length === 0;
    fill(start, empty ? startHere(latest) : null);
    content.hidden = empty;
    if (empty) return;
    chooser.show(latest);
    bar.show(latest.campaigns);
    table.update(latest.campaigns);
    const found = verdicts(latest.campaigns);
    fill(said, h("h2", {}, "Differences"),
      h("p", { class: "note" }, `Opens and clicks within ${latest.campaigns.age_s ? age(latest.campaigns.age_s) : "–"} of the delivery. Of all differences that are called real, one in twenty pages is wrong at most. A difference says nothing of its cause: other people, other days.`),
      ...(found ? found : [h("p", {}, all("c").length < 2 && latest.chosen.length < 2 ? "Choose at least two campaigns above." : "No age that all of them have reached.")]));
    for (const [index, chart] of charts.entries()) chart.update(latest.campaigns, KINDS[index][0]);
    variants.show(latest);
  }
  return draw;
}
