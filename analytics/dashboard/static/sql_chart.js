// A picture of a result: lines over time, else bars by the first column. Nothing if it has no
// numbers. The table below says the same, so the picture is hidden from screen readers.

import { s } from "./dom.js";

const TIME = /^(Nullable\()?Date/;
const NUMBER = /^(Nullable\()?(U?Int|Float|Decimal)/;
const SERIES_MAX = 3;
const SCALE_MAX = 50; // a column that is so many times smaller than the first would be a flat line
const BARS_MAX = 30;
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [900, 260, 70, 28, 24];

const round = (value) => (Math.abs(value) >= 1000 ? value.toLocaleString("en", { notation: "compact" }) : Number(value.toPrecision(3)).toString());
const numbers = (rows, at) => rows.map((row) => (row[at] === null ? null : Number(row[at])));

/** The picture of {meta, data}, from at most `most` rows; null if there is none. */
export function plot({ meta, data }, most) {
  const rows = data.slice(0, most);
  const x = meta.findIndex(({ type }) => TIME.test(type));
  const label = x >= 0 ? x : meta.findIndex(({ type }) => !NUMBER.test(type));
  const largest = (at) => Math.max(0, ...numbers(rows, at).map((value) => Math.abs(value ?? 0)).filter(Number.isFinite));
  const figures = meta.map((_, at) => at).filter((at) => at !== label && NUMBER.test(meta[at].type));
  const series = figures.filter((at) => largest(at) * SCALE_MAX >= largest(figures[0])).slice(0, SERIES_MAX);
  if (rows.length < 2 || series.length === 0 || label < 0) return null;
  const values = series.flatMap((at) => numbers(rows, at)).filter((value) => Number.isFinite(value));
  if (values.length === 0) return null;
  const low = Math.min(0, ...values);
  const high = Math.max(...values, low + 1e-9);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low));
  const parts = [low, (low + high) / 2, high].flatMap((value) => [
    s("line", { class: "axis", x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value) }),
    s("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, round(value))]);
  series.forEach((at, number) => parts.push(s("text", { x: LEFT + number * 220, y: 14, class: `s${number}`, "stroke-width": 0 }, meta[at].name)));
  parts.push(...(x >= 0 ? lines(rows, x, series, y) : bars(rows, label, series, y)));
  return s("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" }, parts);
}

function lines(rows, x, series, y) {
  const times = rows.map((row) => Date.parse(`${String(row[x]).replace(" ", "T")}Z`) || Date.parse(row[x]));
  const order = times.map((_, at) => at).filter((at) => Number.isFinite(times[at])).sort((a, b) => times[a] - times[b]);
  if (order.length < 2) return [];
  const [first, last] = [times[order[0]], times[order.at(-1)]];
  const place = (at) => LEFT + ((WIDTH - LEFT - 10) * (times[at] - first)) / (last - first || 1);
  const ends = [[order[0], "start"], [order.at(-1), "end"]].map(([at, anchor]) =>
    s("text", { x: place(at), y: HEIGHT - 8, "text-anchor": anchor }, String(rows[at][x])));
  return [...ends, ...series.map((at, number) => {
    const found = numbers(rows, at);
    const points = order.filter((row) => found[row] !== null).map((row) => `${place(row).toFixed(1)},${y(found[row]).toFixed(1)}`);
    return s("polyline", { class: `line s${number}`, points: points.join(" ") });
  })];
}

function bars(rows, label, series, y) {
  const shown = rows.slice(0, BARS_MAX);
  const step = (WIDTH - LEFT) / shown.length;
  const wide = (step * 0.8) / series.length;
  return shown.flatMap((row, at) => [
    ...series.map((column, number) => {
      const value = row[column] === null ? 0 : Number(row[column]);
      const [top, base] = [Math.min(y(value), y(0)), Math.max(y(value), y(0))];
      return s("rect", { class: `s${number}`, "stroke-width": 0, x: LEFT + at * step + number * wide, width: wide, y: top, height: Math.max(1, base - top) });
    }),
    shown.length <= 12 ? s("text", { x: LEFT + at * step + step * 0.4, y: HEIGHT - 8, "text-anchor": "middle" }, String(row[label]).slice(0, Math.max(4, Math.floor(step / 8)))) : null]);
}
