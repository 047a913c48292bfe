// Axes of charts: where their ticks are, and what they are called. Pure but for the chosen time zone.

import { age, atClock, clockMinute, dayMonth, onClock } from "./format.js";

const DAY_S = 86400;
const STEPS_S = [60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, DAY_S, 2 * DAY_S, 7 * DAY_S, 14 * DAY_S, 28 * DAY_S, 91 * DAY_S, 364 * DAY_S];
const TICK_PX_MIN = 62;
const AGE_TICKS_S = [300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, DAY_S, 2 * DAY_S, 3 * DAY_S, 7 * DAY_S, 14 * DAY_S, 30 * DAY_S];
const AGE_BEND_S = 900;

/**
 * A round number that is at least `top`, with the number of equal parts that it is easily cut into;
 * for counts (`whole`) parts are whole numbers.
 */
export function rounded(top, whole = false) {
  if (whole && top <= 5) return [Math.max(1, Math.ceil(top)), Math.max(1, Math.ceil(top))];
  if (!(top > 0)) return [1, 5];
  const power = 10 ** Math.floor(Math.log10(top));
  return [[1, 5], [1.2, 4], [1.6, 4], [2, 4], [2.5, 5], [3, 3], [4, 4], [5, 5], [6, 3], [8, 4], [10, 5]]
    .map(([step, parts]) => [step * power, parts]).find(([step]) => step >= top * 0.9999);
}

/**
 * Ticks of a time axis at round times of the chosen zone's clock: [{at, label, day}], milliseconds;
 * `day` is the date, told once for each day.
 */
export function timeTicks(startMs, endMs, pixels) {
  const span = Math.max(1, endMs - startMs) / 1000;
  const most = Math.max(2, Math.floor(pixels / TICK_PX_MIN));
  const step = STEPS_S.find((one) => span / one <= most) ?? STEPS_S.at(-1);
  const ticks = [];
  let told = "";
  for (let shown = Math.ceil(onClock(startMs) / 1000 / step) * step; ticks.length < 60; shown += step) {
    const at = atClock(shown * 1000);
    if (at > endMs) break;
    if (at < startMs) continue; // clocks were changed in between
    const date = dayMonth(at);
    ticks.push({ at, label: step < DAY_S ? clockMinute(at) : date, day: step < DAY_S && date !== told ? date : "" });
    told = date;
  }
  return ticks.length ? ticks : [{ at: startMs, label: clockMinute(startMs), day: dayMonth(startMs) }];
}

/** Where an age lies on its axis, which is stretched where most happens: in the first hours. */
export const ageScale = (seconds) => Math.log1p(seconds / AGE_BEND_S);

/** Ticks of an axis of ages: [{at, label, day}], seconds. */
export function ageTicks(endS, pixels) {
  const whole = ageScale(endS);
  const ticks = [{ at: 0, label: "0", day: "" }];
  let last = 0;
  for (const at of AGE_TICKS_S) {
    const place = (ageScale(at) / whole) * pixels;
    if (at > endS || place - last < TICK_PX_MIN - 8) continue;
    ticks.push({ at, label: age(at), day: "" });
    last = place;
  }
  // where it ends, unless a tick is near
  if (endS >= 60 && pixels - last >= TICK_PX_MIN) ticks.push({ at: endS, label: age(endS), day: "" });
  return ticks;
}
