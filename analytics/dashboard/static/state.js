// The state of the page, kept in its URL. Invariant: the URL reproduces the view (deep links); only
// the colour scheme and the default time zone are stored in the browser.

const DEFAULTS = {
  period: "7d", basis: "cohort", who: "human", compare: "", sort: "", q: "", zone: "", campaign: "", at: "1", trend: "sent",
  rate: "bounce_rate", hours: "opened", flow: "responses", age: "", key: "", c: "",
};
const PLACES = ["q", "sort", "at", "campaign", "trend", "rate", "hours", "flow", "age", "key", "c"]; // of one page, not of the next
const listeners = new Set();
let shown = location.search;

const parameters = () => new URLSearchParams(location.search);

/** A setting of the view. */
export const get = (name) => parameters().get(name) ?? DEFAULTS[name];

/** The values of a setting that may come several times. */
export const all = (name) => parameters().getAll(name);

/** Whether the address has a setting, be it empty. */
export const has = (name) => parameters().has(name);

/**
 * Changes settings of the view and notifies the listeners. Back in the browser undoes it, unless it
 * is `passing`: one more letter of a search, another order.
 */
export function set(changes, { passing = false } = {}) {
  const next = parameters();
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    if (Array.isArray(value)) value.forEach((one) => next.append(name, one));
    else if (value !== null && (value !== DEFAULTS[name] || name === "campaign")) next.set(name, value);
  }
  const query = next.toString();
  const address = location.pathname + (query ? `?${query}` : "");
  if (passing || address === location.pathname + location.search) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  shown = location.search;
  notify(new Set(Object.keys(changes)));
}

function notify(changed) {
  for (const listener of listeners) listener(changed);
}

window.addEventListener("popstate", () => {
  const before = new URLSearchParams(shown);
  const changed = Object.keys(DEFAULTS).filter((name) => before.getAll(name).join("\n") !== all(name).join("\n"));
  shown = location.search;
  notify(new Set(changed));
});

/** Calls back with the names of settings that changed. */
export const onChange = (listener) => listeners.add(listener);

/** The URL of a page with the settings of this one, without search and order. */
export function link(path, changes = {}) {
  const next = parameters();
  for (const name of PLACES) next.delete(name);
  for (const [name, value] of Object.entries(changes)) {
    if (Array.isArray(value)) value.forEach((one) => next.append(name, one));
    else next.set(name, value);
  }
  const query = next.toString();
  return path + (query ? `?${query}` : "");
}

/** The part of the URL that the server needs. It cuts charts in the zone in which they are shown. */
export function serverQuery(page) {
  const query = new URLSearchParams({ period: get("period") });
  if (page !== "pipeline") query.set("zone", zone());
  if (page === "campaign" || (page === "audience" && parameters().has("campaign"))) query.set("campaign", get("campaign"));
  if (page === "compare") {
    for (const campaign of all("c")) query.append("c", campaign);
    for (const name of ["age", "key"]) if (get(name)) query.set(name, get(name));
  }
  return query.toString();
}

/** What this browser remembers; null for nothing. */
export function stored(name) {
  try {
    return localStorage.getItem(`mailpulse.${name}`);
  } catch {
    return null;
  }
}

/** Remembers a choice of this browser. */
export function store(name, value) {
  try {
    localStorage.setItem(`mailpulse.${name}`, value);
  } catch {
    // storage may be disabled; then the choice lasts as long as the page
  }
}

const storedZone = stored("zone");
const ownZone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

function isZone(zone) {
  try {
    Intl.DateTimeFormat("en", { timeZone: zone });
    return true;
  } catch {
    return false;
  }
}

/** The time zone in which times are shown. */
export function zone() {
  const wished = get("zone") || storedZone || ownZone;
  return isZone(wished) ? wished : "UTC";
}

/** Zones to choose from: UTC and this browser's first. */
export function zones() {
  const all = Intl.supportedValuesOf ? Intl.supportedValuesOf("timeZone") : [];
  return [...new Set([ownZone, "UTC", zone(), ...all])];
}
