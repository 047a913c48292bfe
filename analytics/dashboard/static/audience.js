// The audience: when people open and click, with what, and where. Of one campaign, or of all.

import { fill, h } from "./dom.js";
import { brief, count, percent } from "./format.js";
import { metric, rate, value } from "./figures.js";
import { buttons, periodBar, startHere, switches } from "./parts.js";
import { get, has, link, onChange, set, zone } from "./state.js";
import { Table } from "./table.js";

const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const HOURS = [...Array(24).keys()];
const SHADES = 6;
const DELIVERED_MIN = 20; // a rate of fewer messages says nothing
const SHOWN = [
  ["opened", "Opens", "First opens, in the hour in which they happened."],
  ["clicked", "Clicks", "First clicks, in the hour in which they happened."],
  ["delivered", "Deliveries", "Messages delivered in that hour."],
  ["open_rate", "Open rate by send time", "Of the messages delivered in that hour: how many were opened, whenever that was."],
  ["click_rate", "Click rate by send time", "Of the messages delivered in that hour: how many were clicked, whenever that was."],
];
const DIMENSIONS = [["device", "Devices", "Device"], ["client", "Mail clients and browsers", "Client"], ["os", "Operating systems", "System"], ["country", "Countries", "Country"]];
const countryNames = new Intl.DisplayNames(["en"], { type: "region" });

/** A heat map of hours and weekdays, as a table: its cells are its figures. */
function heatMap() {
  const body = h("tbody");
  const cells = DAYS.map((day) => {
    const row = HOURS.map(() => h("td", { class: "heat", tabindex: "-1" }));
    body.append(h("tr", {}, h("th", { scope: "row" }, h("abbr", { title: day }, day.slice(0, 3))), row));
    return row;
  });
  const said = h("p", { class: "readout", "aria-live": "polite" });
  const note = h("p", { class: "note" });
  const best = h("p", { class: "best" });
  const table = h("table", { class: "heat-map" }, h("caption", { class: "hidden" }, "By weekday and hour"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, ""), HOURS.map((hour) => h("th", { scope: "col", class: "number" }, String(hour).padStart(2, "0"))))), body);
  const node = h("section", { class: "panel", id: "hours", "aria-labelledby": "hours-title" },
    h("div", { class: "panel-head" }, h("h2", { id: "hours-title" }, "When"), h("div", { class: "tools" }, buttons("What the hours show", "hours", SHOWN.map(([key, label]) => [key, label]))),
      h("a", { class: "csv", id: "hours-csv", download: true, "aria-label": "When as CSV" }, "CSV")),
    note, best, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Hours of the week; arrow keys move" }, table), said);
  let place = [0, 9];
  const go = (day, hour) => {
    cells[place[0]][place[1]].tabIndex = -1;
    place = [(day + 7) % 7, (hour + 24) % 24];
    cells[place[0]][place[1]].tabIndex = 0;
  };
  go(0, 9);
  table.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!move) return;
    event.preventDefault();
    go(place[0] + move[0], place[1] + move[1]);
    cells[place[0]][place[1]].focus();
  });
  const tell = (event) => {
    const told = event.target.closest?.(".heat")?.dataset.told;
    if (told) said.textContent = told;
  };
  table.addEventListener("pointerover", tell);
  table.addEventListener("focusin", tell);

  return {
    node,
    show(latest) {
      const [key, label, words] = SHOWN.find(([one]) => one === get("hours")) ?? SHOWN[0];
      note.textContent = `${words} By the clock of ${zone().replaceAll("_", " ")}.`;
      const byHour = new Map(latest.hours.map((row) => [`${row.weekday - 1} ${row.hour}`, row.counts]));
      const read = (counts) => {
        if (!counts) return { size: key.endsWith("_rate") ? null : 0, text: "–", told: key.endsWith("_rate") ? "nothing delivered" : "0" };
        if (key.endsWith("_rate")) {
          const { ratio, above, below } = rate(counts, metric(key, "cohort"));
          return { size: below >= DELIVERED_MIN ? ratio : null, text: percent(ratio).replace(" %", ""), told: `${percent(ratio)}, ${count(above)} of ${count(below)} delivered` };
        }
        const field = { opened: metric("open_rate", "flow").numerator, clicked: metric("click_rate", "flow").numerator, delivered: "delivered" }[key];
        const amount = value(counts, field);
        return { size: amount, text: brief(amount), told: count(amount) };
      };
      const found = DAYS.flatMap((day, weekday) => HOURS.map((hour) => ({ day, weekday, hour, ...read(byHour.get(`${weekday} ${hour}`)) })));
      const most = Math.max(...found.map((one) => one.size ?? 0));
      for (const one of found) {
        const cell = cells[one.weekday][one.hour];
        const shade = one.size === null || most <= 0 ? 0 : Math.ceil((Math.max(0, one.size) / most) * (SHADES - 1));
        cell.className = `heat shade-${shade}`;
        cell.textContent = one.text;
        cell.dataset.told = `${one.day}, ${String(one.hour).padStart(2, "0")}:00 to ${String((one.hour + 1) % 24).padStart(2, "0")}:00: ${one.told}`;
      }
      const top = found.filter((one) => one.size > 0).sort((a, b) => b.size - a.size)[0];
      best.textContent = top ? `${label}, most: ${top.day}, ${String(top.hour).padStart(2, "0")}:00 (${top.told}).` : "Nothing in this period.";
      document.getElementById("hours-csv").href = csvOf("hours");
    },
  };
}

const csvOf = (table) => {
  const query = new URLSearchParams({ period: get("period"), zone: zone() });
  if (has("campaign")) query.set("campaign", get("campaign"));
  return `/csv/audience/${table}.csv?${query}`;
};

/** Messages opened and clicked with each device, or client, and so on. */
function withTable([dimension, title, label]) {
  let all = null;
  const shown = (row) => {
    if (!row.value) return "unknown";
    if (dimension === "device" && row.value === "bot") return "hidden by a proxy, or a machine";
    return dimension === "country" && /^[A-Z]{2}$/.test(row.value) ? countryNames.of(row.value) ?? row.value : row.value;
  };
  const columnOf = (kind, name, tip) => ({
    key: kind, number: true, label: name, tip, sort: (row) => row[kind], value: (row) => [row[kind], all?.[kind]],
    cell: (row) => [h("span", { class: "figure" }, percent(all?.[kind] ? row[kind] / all[kind] : null)), h("span", { class: "sub" }, `${count(row[kind])} of ${count(all?.[kind] ?? 0)}`)],
  });
  const others = (kind, name, tip) => ({
    key: `${kind}_others`, number: true, label: name, tip, sort: (row) => row[`${kind}_unknown`] + row[`${kind}_machine`],
    value: (row) => [row[`${kind}_unknown`], row[`${kind}_machine`]],
    cell: (row) => {
      const found = [[row[`${kind}_unknown`], "unknown"], [row[`${kind}_machine`], "machine"]].filter(([amount]) => amount);
      return found.length ? found.map(([amount, whose]) => h("span", { class: "sub" }, `${count(amount)} ${whose}`)) : "0";
    },
  });
  const table = new Table({
    id: dimension, title, page: "audience", key: (row) => row.value, initial: ["opened", "down"], empty: "No opens or clicks in this period.",
    columns: [
      { key: "value", label, sort: shown, value: shown },
      columnOf("opened", "Opened", "Messages that a human opened with it, of those that a human opened. A message opened with two counts with both."),
      columnOf("clicked", "Clicked", "Messages that a human clicked with it, of those that a human clicked."),
      others("opened", "Other opens", "Messages opened with it where nobody can know by whom, Apple's prefetch above all; and those that machines opened with it."),
      others("clicked", "Other clicks", "Messages clicked with it where the evidence leaves open by whom; and those that machines clicked with it, scanners above all."),
    ],
  });
  table.update = (latest) => {
    all = latest.everything;
    table.show(latest.with_what.filter((row) => row.dimension === dimension));
  };
  return table;
}

export function audience(main) {
  let latest = null;
  const start = h("div");
  const of = h("p", { class: "sub" });
  const map = heatMap();
  const tables = DIMENSIONS.map(withTable);
  const content = h("div", {}, map.node,
    h("p", { class: "note" }, "Readers at Gmail and Yahoo open through proxies, and Apple's prefetch hides reader and place: devices and countries are known best from clicks. «Opened» and «Clicked» are people's; beside them stands what is unknown, or a machine's."),
    h("div", { class: "charts tables" }, tables.map((table) => table.node)));
  fill(main, h("h1", {}, "Audience"), of, periodBar(), switches(), start, content);
  onChange(() => latest && draw(latest));

  function draw(document_) {
    latest = document_;
    fill(of, latest.campaign_id === null ? "All campaigns together. A campaign's page leads to its own audience."
      : [`Of the campaign ${latest.campaign_name || latest.campaign_id || "(none)"}. `, h("button", { type: "button", class: "plain", onclick: () => set({ campaign: null }) }, "Show all campaigns"),
        " ", h("a", { href: link("/campaign", { campaign: latest.campaign_id }) }, "Back to the campaign")]);
    const empty = latest.hours.length === 0;
    fill(start, empty ? startHere(latest) : null);
    content.hidden = empty;
    if (empty) return;
    map.show(latest);
    for (const table of tables) table.update(latest);
  }
  return draw;
}
