// Starts the page: settings at the top, the page's own content, and what keeps it up to date.

import { fill, h, watchTips } from "./dom.js";
import { clock, count, duration } from "./format.js";
import { definitions, loadWording } from "./figures.js";
import { Live, POLL_MS, WATCH_MS } from "./live.js";
import { viewsMenu } from "./views.js";
import { get, link, onChange, serverQuery, set, store, zone, zones } from "./state.js";

const page = document.body.dataset.page;
const main = document.getElementById("main");
const notice = document.getElementById("notice");
const statusText = document.getElementById("status-text");
const status = document.getElementById("status");
const POLL_S = POLL_MS / 1000;
const OLD_S_NOTICE = 15; // so old that it is said across the page, not only at its top
let state = { mode: "loading", trouble: "" };
let latest = null;
let live = null;

function settings() {
  const select = h("select", {
    id: "zone", "aria-label": "Time zone",
    onchange: () => {
      store("zone", select.value);
      set({ zone: select.value });
    },
  }, zones().map((name) => h("option", { value: name }, name.replaceAll("_", " "))));
  const follow = () => {
    select.value = zone();
  };
  onChange((changed) => changed.has("zone") && follow());
  follow();
  const theme = h("select", {
    id: "theme", "aria-label": "Colours",
    onchange: () => {
      store("theme", theme.value);
      if (theme.value) document.documentElement.dataset.theme = theme.value;
      else delete document.documentElement.dataset.theme;
    },
  }, [["", "Colours: auto"], ["light", "Light"], ["dark", "Dark"]].map(([key, label]) => h("option", { value: key }, label)));
  theme.value = document.documentElement.dataset.theme ?? "";
  fill(document.getElementById("settings"), viewsMenu(), select, theme);
}

/** How far the database is behind what arrives, seconds; 0 where that is not known. */
function behind() {
  const caughtUp = latest?.freshness?.caught_up_ms;
  return caughtUp ? (live.now() - Math.max(latest.freshness.newest_ms ?? 0, caughtUp)) / 1000 : 0;
}

/** Whether the figures are too old to be taken for what happens now, whatever the connection says. */
const isLate = () => Boolean(latest && live) && Math.max(behind(), live.ageS()) > live.limitS();

function freshness() {
  if (!latest || !live) return "Loading …";
  const newest = latest.freshness?.newest_ms;
  if (!newest) return "No event yet";
  const complete = latest.freshness.caught_up_ms;
  if (!complete) return `Newest event ${clock(newest)}, ${duration((live.now() - newest) / 1000)} ago`;
  const lag = `Data through ${clock(Math.max(newest, complete))}, ${duration((live.now() - Math.max(newest, complete)) / 1000)} behind`;
  const silent = (complete - newest) / 1000;
  if (silent >= 90) return `${lag} · nothing came for ${duration(silent)}`;
  const pace = latest.freshness.events_last_minute / 60;
  return `${lag} · ${pace < 10 ? pace.toFixed(1) : count(Math.round(pace))} events/s`;
}

/** What is said across the page; empty for nothing. */
function message() {
  if (state.mode === "lost") return "The connection to mailpulse is lost. Trying again; the figures below may be old.";
  if (state.trouble && latest) return `The figures below are old: ${state.trouble}. Trying again.`;
  if (state.trouble) return `There are no figures yet: ${state.trouble}. Trying again.`;
  if (!latest || !isLate()) return "";
  if (live.ageS() > OLD_S_NOTICE) return `The figures below are ${duration(live.ageS())} old: the database takes long to answer.`;
  if (behind() > OLD_S_NOTICE) return `The figures below are ${duration(behind())} old: newer events have not reached the database yet. They are kept, and will be counted when they do.`;
  return "";
}

function showState() {
  const how = { live: "", polling: ` · asks every ${POLL_S} s`, lost: " · not connected", loading: "" }[state.mode];
  const late = state.mode !== "lost" && isLate();
  const old = !late ? "" : behind() > live.limitS() ? "Not up to date · " : `Figures are ${duration(live.ageS())} old · `;
  put(statusText, old + freshness() + how);
  const shown = latest || state.mode === "lost" ? state.mode : "loading";
  const mode = (state.trouble || late) && state.mode !== "lost" ? "stale" : shown;
  if (status.dataset.mode !== mode) status.dataset.mode = mode;
  put(notice, message());
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function refreshLinks() {
  for (const anchor of document.querySelectorAll("a[data-page]")) {
    anchor.href = link(anchor.dataset.page === "overview" ? "/" : `/${anchor.dataset.page}`);
  }
}

const glossary = () =>
  h("details", { class: "glossary" }, h("summary", {}, "Definitions"),
    h("dl", {}, definitions().map(([label, text]) => [h("dt", {}, label), h("dd", {}, text)])));

async function begin() {
  watchTips();
  settings();
  refreshLinks();
  const ready = Promise.all([import(`./${page}.js`), loadWording()]);
  let draw = null;
  let module = null;
  let query = serverQuery(page);
  live = new Live(page, (document_) => {
    latest = document_;
    draw ??= module[page](main);
    draw(document_);
    showState();
    main.dataset.version = live.version;
  }, (next) => {
    state = next;
    showState();
  });
  onChange((changed) => {
    refreshLinks();
    const asked = serverQuery(page);
    if (asked === query) return;
    query = asked;
    live.start();
  });
  setInterval(showState, WATCH_MS);
  document.addEventListener("visibilitychange", showState);
  live.ready = ready.then(([loaded]) => {
    module = loaded;
  });
  const started = live.start();
  await live.ready;
  const words = document.querySelector("footer");
  const list = () => {
    words.querySelector(".glossary")?.remove();
    words.append(glossary());
  };
  list();
  onChange((changed) => (changed.has("basis") || changed.has("who")) && list());
  await started;
}

if (page === "campaign" && !new URLSearchParams(location.search).has("campaign") && get("campaign") === "") {
  // an address without a campaign shows the events that belong to none
  document.title = "No campaign · mailpulse";
}
begin().catch((error) => {
  notice.textContent = `This page could not be built: ${error.message}. Reload it to try again.`;
});
