// Formats numbers and times. Invariants: a missing value is «–»; a small rate is never shown as 0.

import { zone } from "./state.js";

const whole = new Intl.NumberFormat("en-GB");
const NONE = "–";

/** A count: 12,345. */
export const count = (value) => (value === null || value === undefined ? NONE : whole.format(value));

const short = new Intl.NumberFormat("en-GB", { notation: "compact", maximumSignificantDigits: 3 });

/** A count for little room: 9,999, then 12.3k. */
export const brief = (value) => (value >= 10000 ? short.format(value) : count(value));

/** A ratio in per cent, with enough digits to distinguish small ones. */
export function percent(ratio) {
  if (ratio === null || ratio === undefined) return NONE;
  const value = ratio * 100;
  const size = Math.abs(value);
  const digits = size === 0 ? 0 : size < 0.1 ? 3 : size < 1 ? 2 : 1;
  return `${value.toFixed(digits)} %`;
}

/** The interval that the doubt of verdicts leaves, in per cent without the sign; empty for none. */
export function interval({ least, most }) {
  if (least === null || most === null || least === most) return "";
  return `${percent(least).replace(" %", "")}–${percent(most).replace(" %", "")}`;
}

/** A difference of two ratios in percentage points. */
export function points(difference) {
  const value = difference * 100;
  const digits = Math.abs(value) < 1 ? 2 : 1;
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)} pts`;
}

/** A relative change of counts. */
export function change(now, before) {
  if (!before) return NONE;
  const value = (now / before - 1) * 100;
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(Math.abs(value) < 10 ? 1 : 0)} %`;
}

/** Records per second. */
export function perSecond(value) {
  if (value === null || value === undefined) return NONE;
  return value >= 100 ? whole.format(Math.round(value)) : value.toFixed(value >= 10 || value === 0 ? 0 : 1);
}

const formats = new Map();

function formatter(options) {
  const key = JSON.stringify(options) + zone();
  if (!formats.has(key)) {
    formats.set(key, new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone(), hourCycle: "h23" }));
  }
  return formats.get(key);
}

const FIELDS = ["year", "month", "day", "hour", "minute", "second"];

/** What the chosen zone's clock shows at a time, as if it were UTC, milliseconds. */
export function onClock(ms) {
  const parts = formatter(Object.fromEntries(FIELDS.map((name) => [name, "numeric"]))).formatToParts(ms);
  const [year, month, ...rest] = FIELDS.map((name) => Number(parts.find((part) => part.type === name).value));
  return Date.UTC(year, month - 1, ...rest);
}

/** The time at which the chosen zone's clock shows what UTC's shows at ``shown``, milliseconds. */
export function atClock(shown) {
  const near = shown - (onClock(shown) - shown); // a change of clocks may lie between, hence twice
  return shown - (onClock(near) - near);
}

/** 12:03:05 */
export const clock = (ms) =>
  formatter({ hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(ms);

/** 24 Nov, 12:03 */
export const moment = (ms) =>
  ms ? formatter({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }).format(ms) : NONE;

/** 12:03 */
export const clockMinute = (ms) => formatter({ hour: "2-digit", minute: "2-digit" }).format(ms);

/** 24 Nov */
export const dayMonth = (ms) => formatter({ day: "numeric", month: "short" }).format(ms);

/** An age in the largest unit that leaves a whole number: 90 min, 3 h, 2 days. */
export function age(seconds) {
  if (seconds < 3600 || seconds % 1800) return `${Math.round(seconds / 60)} min`;
  if (seconds < 7200 && seconds % 3600) return `${seconds / 60} min`;
  if (seconds < 86400 || seconds % 86400) return `${seconds / 3600} h`;
  return seconds === 86400 ? "1 day" : `${seconds / 86400} days`;
}

/** How long ago: 4 s, 5 min, 3 h, 2 days. */
export function duration(seconds) {
  const value = Math.max(0, Math.round(seconds));
  if (value < 90) return `${value} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  if (value < 172800) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86400)} days`;
}
