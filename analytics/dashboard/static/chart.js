// Line charts and sparklines as SVG. Invariants: every chart has a text alternative, a value for
// each step by pointer and by keyboard, and its figures as a table; one unit of the drawing is one
// pixel, so text keeps its size on every screen; no inline style; a step without data is a gap. What
// the legend hides is left out of drawing, scale and read values, but not of the table.

import { fill, h, s } from "./dom.js";
import { ageScale, ageTicks, rounded, timeTicks } from "./axis.js";
import { age, moment } from "./format.js";

const HEIGHT = 236;
const EDGE = { left: 48, right: 26, top: 16, bottom: 38 };
const WIDTH_MIN = 240;
const MARK_PX = 7;
const CHARACTER_PX = 6.9; // the widest of digits, at the labels' 12 px

function path(points) {
  let pen = "M";
  let text = "";
  for (const point of points) {
    if (point === null) {
      pen = "M";
      continue;
    }
    text += `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
    pen = "L";
  }
  return text;
}

/** Isolated points, which a line would not show. */
const lonely = (points) => points.filter((point, index) => point && !points[index - 1] && !points[index + 1]);

const sample = (className) =>
  s("svg", { class: "sample", viewBox: "0 0 26 10", "aria-hidden": "true" }, s("line", { x1: 0, x2: 26, y1: 5, y2: 5, class: className }));

/**
 * A line chart.
 *
 * show() takes {at, series, lines, marks, start, end}: `at` are milliseconds, or seconds since the
 * delivery where `axis` is "age"; series are [{name, className, values, details, quiet, unlisted}]:
 * details are texts after the values, quiet ones lie behind the others, unlisted ones are in neither
 * legend nor table, the last step of running ones is not over; lines are [[value, label,
 * className]]; marks are [{at, label, level}]. A later show() without a changed figure draws nothing.
 */
export class LineChart {
  constructor({ id, title, note, format, whole = false, axis = "time", top: least = 0, first = "When", tools = null }) {
    Object.assign(this, { id, format, whole, axis, least, title, first });
    this.hiddenNames = new Set();
    this.plot = s("svg", { class: "chart", role: "img", tabindex: "0", "aria-labelledby": `${id}-title`, "aria-describedby": `${id}-summary` });
    this.heading = h("h2", { id: `${id}-title` }, title);
    this.summary = h("figcaption", { class: "hidden", id: `${id}-summary` });
    this.readout = h("p", { class: "readout", "aria-live": "polite" });
    this.legend = h("ul", { class: "legend" });
    this.marks = h("ul", { class: "marks" });
    this.note = h("p", { class: "note", hidden: !note }, note ?? "");
    this.table = h("details", { class: "as-table", ontoggle: () => this.tabulate() }, h("summary", {}, "As a table"), h("div"));
    for (const [type, act] of [
      ["pointermove", (event) => this.hover(event)], ["pointerdown", (event) => this.hover(event)],
      ["pointerleave", (event) => event.pointerType !== "touch" && this.point(null)], ["blur", () => this.point(null)], ["keydown", (event) => this.key(event)],
    ]) this.plot.addEventListener(type, act);
    this.node = h("figure", { class: "panel figure", id },
      h("div", { class: "panel-head" }, this.heading, tools ? h("div", { class: "tools" }, tools) : null),
      this.note, this.legend, this.plot, this.summary, this.readout, this.marks, this.table);
    new ResizeObserver(() => this.data && this.plot.clientWidth !== this.width && this.draw()).observe(this.node);
  }

  /** Changes the heading and the note. */
  name(title, note = "") {
    this.title = title;
    this.heading.textContent = title;
    this.note.textContent = note;
    this.note.hidden = !note;
  }

  show(data) {
    const sign = JSON.stringify(data);
    if (sign === this.sign && this.width === this.plot.clientWidth) return;
    this.sign = sign;
    this.data = { lines: [], marks: [], ...data };
    this.draw();
    this.tabulate();
  }

  draw() {
    const { data } = this;
    this.width = this.plot.clientWidth;
    const width = Math.max(WIDTH_MIN, this.width || 560);
    const all = this.seen().flatMap((one) => one.values).filter((value) => value !== null);
    const highest = Math.max(this.least, ...all);
    this.drawnLines = data.lines.filter(([value], index) => index === 0 || value <= highest * 2);
    const most = Math.max(highest, ...this.drawnLines.map(([value]) => value));
    const [top, parts] = rounded(this.whole && most <= 5 ? most : most * 1.02, this.whole);
    const scale = this.axis === "age" ? ageScale : (at) => at;
    const [low, high] = [scale(data.start), scale(data.end)];
    const labels = Array.from({ length: parts + 1 }, (_, step) => this.format((top * step) / parts));
    this.left = Math.max(EDGE.left, 12 + CHARACTER_PX * Math.max(...labels.map((one) => one.length)));
    const room = width - this.left - EDGE.right;
    this.x = (at) => this.left + ((scale(at) - low) / Math.max(high - low, 1e-9)) * room;
    this.y = (value) => HEIGHT - EDGE.bottom - (value / top) * (HEIGHT - EDGE.top - EDGE.bottom);
    this.cursor = s("g", { class: "cursor", visibility: "hidden" });
    this.plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.plot.replaceChildren(...[this.grid(top, labels, width, room), this.thresholds(width), this.markLines(), this.shapes(), this.cursor].flat(Infinity));
    this.tell();
    this.point(this.index !== undefined && this.index !== null ? Math.min(this.index, data.at.length - 1) : null);
  }

  /** The series that the legend does not hide. */
  seen() {
    return this.data.series.filter((one) => !this.hiddenNames.has(one.name));
  }

  /** Hides a series, or shows it again. */
  toggle(name) {
    if (!this.hiddenNames.delete(name)) this.hiddenNames.add(name);
    this.draw();
  }

  shapes() {
    const drawn = (one) => {
      const points = one.values.map((value, index) => (value === null ? null : [this.x(this.data.at[index]), this.y(value)]));
      const whole = one.running ? points.slice(0, -1) : points;
      return [
        s("path", { d: path(whole), class: `line ${one.className}` }),
        one.running ? s("path", { d: path(points.slice(-2)), class: `line running ${one.className}` }) : [],
        lonely(points).map(([cx, cy]) => s("circle", { cx, cy, r: 3.5, class: `point ${one.className}` })),
      ];
    };
    const shown = this.seen();
    return [...shown.filter((one) => one.quiet), ...shown.filter((one) => !one.quiet)].map(drawn);
  }

  grid(top, labels, width, room) {
    const parts = [];
    labels.forEach((label, step) => {
      const y = this.y((top * step) / (labels.length - 1));
      parts.push(
        s("line", { x1: this.left, x2: width - EDGE.right, y1: y, y2: y, class: "grid" }),
        s("text", { x: this.left - 7, y: y + 4, class: "label end" }, label),
      );
    });
    const ticks = this.axis === "age" ? ageTicks(this.data.end, room) : timeTicks(this.data.start, this.data.end, room);
    for (const tick of ticks) {
      const x = this.x(tick.at);
      parts.push(
        s("line", { x1: x, x2: x, y1: HEIGHT - EDGE.bottom, y2: HEIGHT - EDGE.bottom + 5, class: "grid" }),
        s("text", { x, y: HEIGHT - 20, class: "label middle" }, tick.label),
        tick.day ? s("text", { x, y: HEIGHT - 5, class: "label middle" }, tick.day) : [],
      );
    }
    return parts;
  }

  thresholds(width) {
    return this.drawnLines.map(([value, , className]) =>
      s("line", { x1: this.left, x2: width - EDGE.right, y1: this.y(value), y2: this.y(value), class: `threshold ${className}` }));
  }

  markLines() {
    return this.data.marks.filter((mark) => mark.at >= this.data.start && mark.at <= this.data.end).map((mark) => {
      const x = this.x(mark.at);
      return s("g", { class: `mark ${mark.level}` },
        s("line", { x1: x, x2: x, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }),
        s("path", { d: `M${x - 5} ${EDGE.top - 10}h10l-5 9z` }),
        s("title", {}, `${moment(mark.at)}: ${mark.label}`));
    });
  }

  /** Legend, annotations and the text alternative. */
  tell() {
    const { lines, marks, start, end } = this.data;
    const focused = this.legend.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    fill(this.legend,
      this.legendItems(),
      lines.map(([value, label, className]) => h("li", { class: `line-of ${className}` }, sample(`threshold ${className}`),
        label, this.drawnLines.some(([drawn]) => drawn === value) ? "" : " (above the chart)")));
    if (focused !== null) [...this.legend.querySelectorAll("button")].find((one) => one.dataset.name === focused)?.focus();
    const inside = marks.filter((mark) => mark.at >= start && mark.at <= end);
    fill(this.marks, inside.slice(0, 8).map((mark) => h("li", { class: mark.level }, `▼ ${moment(mark.at)}: ${mark.label}`)));
    const said = this.seen().filter((one) => !one.unlisted).map((one) => {
      const known = one.values.filter((value) => value !== null);
      if (!known.length) return `${one.name}: no data`;
      return `${one.name}: from ${this.format(Math.min(...known))} to ${this.format(Math.max(...known))}, last ${this.format(known.at(-1))}`;
    });
    const noted = inside.length ? ` ${inside.length} annotations, listed below.` : "";
    this.summary.textContent = `${this.title}. ${said.join("; ")}.${noted} Left and right arrow keys read single steps. The same figures are in the table below.`;
  }

  /** Names of the series; where there are several, each is a button that hides its own. */
  legendItems() {
    const listed = this.data.series.filter((one) => !one.unlisted);
    if (listed.length < 2) return listed.map((one) => h("li", {}, sample(`line ${one.className}`), one.name));
    return listed.map((one) => h("li", {}, h("button", {
      type: "button", "data-name": one.name, "aria-pressed": String(!this.hiddenNames.has(one.name)),
      "data-tip": "Press to hide it, and again to show it.", onclick: () => this.toggle(one.name),
    }, sample(`line ${one.className}`), one.name)));
  }

  tabulate() {
    if (!this.table.open || !this.data) return;
    const listed = this.data.series.filter((one) => !one.unlisted);
    const rows = this.data.at.map((at, index) => h("tr", {}, h("th", { scope: "row" }, this.place(at)),
      listed.map((one) => h("td", { class: "number" }, this.cell(one, index)))));
    fill(this.table.lastElementChild, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${this.title}, as a table` },
      h("table", {}, h("caption", { class: "hidden" }, this.title),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, this.first), listed.map((one) => h("th", { scope: "col", class: "number" }, one.name)))),
        h("tbody", {}, rows))));
  }

  place(at) {
    return this.axis === "age" ? age(at) : moment(at);
  }

  cell(one, index) {
    const value = one.values[index];
    return `${value === null ? "–" : this.format(value)}${one.details?.[index] ?? ""}`;
  }

  hover(event) {
    const box = this.plot.getBoundingClientRect();
    const at = event.clientX - box.left;
    let best = null;
    this.data?.at.forEach((time, index) => {
      const distance = Math.abs(this.x(time) - at);
      if (best === null || distance < best[1]) best = [index, distance];
    });
    this.point(best ? best[0] : null);
  }

  key(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (move === undefined || !this.data?.at.length) return;
    event.preventDefault();
    const last = this.data.at.length - 1;
    const from = this.index ?? (move < 0 ? last + 1 : -1);
    this.point(Math.min(last, Math.max(0, from + move)));
  }

  point(index) {
    this.index = index;
    if (index === null || !this.data || index < 0) {
      this.readout.textContent = "";
      this.cursor?.setAttribute("visibility", "hidden");
      return;
    }
    const { at, marks } = this.data;
    const series = this.seen();
    const x = this.x(at[index]);
    const dots = series.filter((one) => one.values[index] !== null && one.values[index] !== undefined && !one.unlisted)
      .map((one) => s("circle", { cx: x, cy: this.y(one.values[index]), r: 4, class: `point ${one.className}` }));
    this.cursor.replaceChildren(s("line", { x1: x, x2: x, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }), ...dots);
    this.cursor.setAttribute("visibility", "visible");
    const said = series.filter((one) => !one.unlisted).map((one) => `${one.name} ${this.cell(one, index)}`);
    const near = marks.filter((mark) => Math.abs(this.x(mark.at) - x) <= MARK_PX).map((mark) => `▼ ${mark.label}`);
    this.readout.textContent = `${this.place(at[index])}: ${[...said, ...near].join(" · ")}`;
  }
}

/** A small chart of a campaign over time: deliveries as bars, human opens as a line. */
export function sparkline(course, startS, endS, stepS) {
  const [width, height] = [132, 30];
  const span = Math.max(endS - startS, stepS);
  const bar = Math.max(1.5, (stepS / span) * width - 0.6);
  const x = (at) => ((Math.max(at, startS) - startS) / span) * width;
  const most = Math.max(1, ...course.map(([, delivered]) => delivered));
  const opens = Math.max(1, ...course.map(([, , opened]) => opened));
  const total = (index) => course.reduce((sum, point) => sum + point[index], 0);
  const points = course.map(([at, , opened]) => [x(at) + bar / 2, height - 1 - (opened / opens) * (height - 4)]);
  return s("svg", {
    viewBox: `0 0 ${width} ${height}`, class: "spark", role: "img",
    "aria-label": `${total(1)} delivered, ${total(2)} opened, ${total(3)} clicked, over time`,
  },
    course.map(([at, delivered]) => {
      const size = Math.max(delivered > 0 ? 1 : 0, (Math.max(0, delivered) / most) * (height - 2));
      return s("rect", { x: x(at), y: height - size, width: bar, height: size, class: "bar" });
    }),
    points.length > 1 ? s("path", { d: path(points), class: "line opened" }) : null,
  );
}
