// The state of the page, kept in its URL. Invariant: the URL reproduces the view (deep links); only
// the colour scheme and the default time zone are stored in the browser.

const DEFAULTS = {
  period: "7d", basis: "cohort", who: "human", compare: "", sort: "", q: "", zone: "", campaign: "",
};
const listeners = new Set();

const parameters = () => new URLSearchParams(location.search);

/** A setting of the view. */
export const get = (name) => parameters().get(name) ?? DEFAULTS[name];

/** Changes settings of the view and notifies the listeners. */
export function set(changes) {
  const next = parameters();
  for (const [name, value] of Object.entries(changes)) {
    if (value === DEFAULTS[name]) next.delete(name);
    else next.set(name, value);
  }
  const query = next.toString();
  history.replaceState(null, "", location.pathname + (query ? `?${query}` : ""));
  for (const listener of listeners) listener(new Set(Object.keys(changes)));
}

/** Calls back with the names of settings that changed. */
export const onChange = (listener) => listeners.add(listener);

/** The URL of a page with the settings of this one, without search and order. */
export function link(path, changes = {}) {
  const next = parameters();
  for (const name of ["q", "sort", "campaign"]) next.delete(name);
  for (const [name, value] of Object.entries(changes)) next.set(name, value);
  const query = next.toString();
  return path + (query ? `?${query}` : "");
}

/** The part of the URL that the server needs. It cuts charts in the zone in which they are shown. */
export function serverQuery(page) {
  const query = new URLSearchParams({ period: get("period") });
  if (page !== "pipeline") query.set("zone", zone());
  if (page === "campaign") query.set("campaign", get("campaign"));
  return query.toString();
}

function stored(name) {
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
  const wished = get("zone") || stored("zone") || ownZone;
  return isZone(wished) ? wished : "UTC";
}

/** Zones to choose from: UTC and this browser's first. */
export function zones() {
  const all = Intl.supportedValuesOf ? Intl.supportedValuesOf("timeZone") : [];
  return [...new Set([ownZone, "UTC", zone(), ...all])];
}
