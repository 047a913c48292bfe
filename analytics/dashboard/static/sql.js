// The page /sql. Invariants: what the database says becomes text, never markup; a query runs only
// when somebody presses Run, CSV, Parquet or Ctrl+Enter, never by an address.

import { fill, h } from "./dom.js";
import { plot } from "./sql_chart.js";

const $ = (id) => document.getElementById(id);
const editor = $("editor");
const ASKED_BY = { "content-type": "application/json", "x-mailpulse-page": "sql" };
const BUTTONS = ["run", "csv", "parquet"];
const NUMBER = /^(Nullable\()?(U?Int|Float|Decimal)/;
let running = null;

function say(text) {
  $("state").textContent = text;
}

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

function busy(controller) {
  running = controller;
  for (const name of BUTTONS) $(name).disabled = controller !== null;
  $("stop").disabled = controller === null;
}

/** Runs the query; gives the answer, or null when it failed or was stopped. */
async function ask(form) {
  const controller = new AbortController();
  const begun = performance.now();
  busy(controller);
  complain("");
  say("Running …");
  const clock = setInterval(() => say(`Running … ${((performance.now() - begun) / 1000).toFixed(0)} s`), 1000);
  try {
    const answer = await fetch("/sql/run", {
      method: "POST", headers: ASKED_BY, signal: controller.signal, cache: "no-store",
      body: JSON.stringify({ sql: editor.value, form }),
    });
    if (!answer.ok) {
      const told = await answer.json().catch(() => ({ problem: `The dashboard answered ${answer.status}.` }));
      complain(told.problem);
      say("");
      return null;
    }
    const content = form === "table" ? await answer.json() : await answer.blob();
    say(`${((performance.now() - begun) / 1000).toFixed(2)} s`);
    return content;
  } catch (error) {
    complain(error.name === "AbortError" ? "Stopped." : "The connection to mailpulse was lost. Try again.");
    say("");
    return null;
  } finally {
    clearInterval(clock);
    busy(null);
  }
}

const shown = (value) => (value === null ? "NULL" : typeof value === "object" ? JSON.stringify(value) : String(value));

function table(found, most) {
  const rows = found.data.slice(0, most);
  const kinds = found.meta.map((column) => (NUMBER.test(column.type) ? "number" : ""));
  const head = found.meta.map((column) => h("th", { scope: "col", title: column.type }, column.name));
  const cell = (value, at) => h("td", { class: value === null ? "null" : kinds[at] }, shown(value));
  return h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell)))));
}

async function run() {
  const found = await ask("table");
  if (found === null) return;
  const most = 1000;
  fill($("result"), table(found, most));
  fill($("chart"), plot(found, most) ?? []);
  const more = found.data.length > most ? `the first ${most.toLocaleString("en")} rows; a download has all` : `${found.data.length.toLocaleString("en")} rows`;
  say(`${$("state").textContent} · ${more}`);
}

async function save(form) {
  const blob = await ask(form);
  if (blob === null) return;
  const address = URL.createObjectURL(blob);
  const link = h("a", { href: address, download: `mailpulse.${form}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function put(text) {
  editor.setRangeText(text, editor.selectionStart, editor.selectionEnd, "end");
  editor.focus();
}

function schemaOf(found) {
  const tables = new Map();
  for (const [name, about, column, type, comment] of found.data) {
    if (!tables.has(name)) tables.set(name, { about, columns: [] });
    if (column) tables.get(name).columns.push({ column, type, comment });
  }
  return [...tables].map(([name, { about, columns }]) =>
    h("details", { "data-name": `${name} ${columns.map((one) => one.column).join(" ")}` },
      h("summary", {}, name), h("p", { class: "sub" }, about),
      h("dl", {}, columns.map(({ column, type, comment }) => [
        h("dt", {}, h("button", { type: "button", onclick: () => put(column) }, column), ` ${type}`),
        h("dd", {}, comment)]))));
}

async function load(path, show) {
  try {
    const answer = await fetch(path, { cache: "no-store" });
    const found = await answer.json();
    show(answer.ok ? found : null, found.problem);
  } catch {
    show(null, "The connection to mailpulse was lost.");
  }
}

/** The text that a link brings; a broken one brings nothing. */
function brought() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

editor.value = brought() || "SELECT campaign_id, sent, delivered, open_rate, click_rate\nFROM campaign_summary\nORDER BY last_minute DESC\nLIMIT 20";
editor.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && running === null) {
    event.preventDefault();
    run();
  }
});
$("run").addEventListener("click", run);
$("csv").addEventListener("click", () => save("csv"));
$("parquet").addEventListener("click", () => save("parquet"));
$("stop").addEventListener("click", () => running?.abort());
$("filter").addEventListener("input", () => {
  const wanted = $("filter").value.trim().toLowerCase();
  for (const one of $("schema").querySelectorAll("details")) one.hidden = !one.dataset.name.toLowerCase().includes(wanted);
});
load("/sql/schema", (found, problem) => fill($("schema"), found ? schemaOf(found) : h("p", { class: "problem" }, problem ?? "")));
load("/sql/starters", (found) => {
  const starter = $("starter");
  for (const [at, one] of (found ?? []).entries()) starter.append(h("option", { value: at }, one.question));
  starter.addEventListener("change", () => {
    if (starter.value !== "") editor.value = found[starter.value].sql;
  });
});
