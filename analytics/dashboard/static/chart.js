// Line charts and sparklines as SVG. Invariants: every chart has a text alternative and a table on
// the same page; no inline style; a step without data is a gap, not a zero.

import { h, s } from "./dom.js";
import { axisLabel, moment } from "./format.js";

const WIDTH = 560;
const HEIGHT = 210;
const EDGE = { left: 52, right: 12, top: 12, bottom: 26 };

const nice = (top) => {
  if (!(top > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(top));
  return [1, 2, 4, 8, 10].map((step) => step * power).find((step) => step >= top);
};

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
const lonely = (points) =>
  points.filter((point, index) => point && !points[index - 1] && !points[index + 1]);

export class LineChart {
  /** series: [{name, className}], format(value) */
  constructor({ id, title, note, series, format, top: least = 0 }) {
    Object.assign(this, { series, format, least, title });
    this.plot = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", tabindex: "0" });
    this.summary = h("figcaption", { class: "hidden", id: `${id}-summary` });
    this.readout = h("p", { class: "readout", "aria-live": "polite" });
    this.plot.setAttribute("aria-labelledby", `${id}-title`);
    this.plot.setAttribute("aria-describedby", `${id}-summary`);
    this.plot.addEventListener("mousemove", (event) => this.hover(event));
    this.plot.addEventListener("mouseleave", () => this.point(null));
    this.plot.addEventListener("blur", () => this.point(null));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    const legend = h("ul", { class: "legend" }, series.map((one) =>
      h("li", {}, h("span", { class: `swatch ${one.className}` }), one.name)));
    this.node = h("figure", { class: "panel figure", id },
      h("div", { class: "panel-head" }, h("h2", { id: `${id}-title` }, title)),
      note ? h("p", { class: "note" }, note) : null,
      this.plot, this.summary, legend, this.readout);
  }

  /** data: {at: [ms], values: [[…] per series], stepS, startMs, endMs, lines: [[value, label, className]]} */
  show(data) {
    this.data = data;
    const all = data.values.flat().filter((value) => value !== null);
    const drawn = data.lines.filter(([value], index) => index === 0 || value <= Math.max(...all, 0) * 2);
    const top = nice(Math.max(this.least, ...all, ...drawn.map(([value]) => value)) * 1.02);
    const span = Math.max(data.endMs - data.startMs, 1);
    this.x = (at) => EDGE.left + ((at - data.startMs) / span) * (WIDTH - EDGE.left - EDGE.right);
    this.y = (value) => HEIGHT - EDGE.bottom - (value / top) * (HEIGHT - EDGE.top - EDGE.bottom);
    this.cursor = s("line", { class: "cursor", y1: EDGE.top, y2: HEIGHT - EDGE.bottom, visibility: "hidden" });
    const shapes = data.values.map((values, index) => {
      const points = values.map((value, at) => (value === null ? null : [this.x(data.at[at]), this.y(value)]));
      return [
        s("path", { d: path(points), class: `line ${this.series[index].className}` }),
        lonely(points).map(([cx, cy]) => s("circle", { cx, cy, r: 3, class: `point ${this.series[index].className}` })),
      ];
    });
    this.plot.replaceChildren(...[this.grid(top, span, data.stepS), this.thresholds(drawn), shapes, this.cursor].flat(Infinity).filter(Boolean));
    this.summary.textContent = this.words();
  }

  grid(top, span, stepS) {
    const parts = [0, 0.25, 0.5, 0.75, 1].map((share) => {
      const y = this.y(top * share);
      return [
        s("line", { x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y, y2: y, class: "grid" }),
        s("text", { x: EDGE.left - 6, y: y + 4, class: "label end" }, this.format(top * share)),
      ];
    });
    for (let tick = 0; tick <= 3; tick += 1) {
      // where days are steps, at the begin of one: in between, the label would be of another day
      const even = this.data.startMs + (span * tick) / 3;
      const at = stepS < 86400 ? even : this.data.at.findLast((time) => time <= even) ?? even;
      const anchor = ["start", "middle", "middle", "end"][tick];
      parts.push(s("text", { x: this.x(at), y: HEIGHT - 8, class: `label ${anchor}` }, axisLabel(at, stepS, span / 1000)));
    }
    return parts;
  }

  thresholds(list) {
    let labelled = Infinity;
    return list.map(([value, label, className]) => {
      const y = this.y(value);
      const readable = labelled - y > 13; // labels that would overlap are left out
      if (readable) labelled = y;
      return [
        s("line", { x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y, y2: y, class: `threshold ${className}` }),
        readable ? s("text", { x: WIDTH - EDGE.right - 4, y: y - 4, class: `label end ${className}` }, label) : null,
      ];
    });
  }

  words() {
    const parts = this.series.map((one, index) => {
      const known = this.data.values[index].filter((value) => value !== null);
      if (!known.length) return `${one.name}: no data`;
      return `${one.name}: from ${this.format(Math.min(...known))} to ${this.format(Math.max(...known))}, last ${this.format(known.at(-1))}`;
    });
    return `${this.title}. ${parts.join("; ")}. Left and right arrow keys read single steps. The same figures are in the table Course over time.`;
  }

  hover(event) {
    const box = this.plot.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    let best = null;
    this.data.at.forEach((time, index) => {
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
    if (index === null || !this.data) {
      this.readout.textContent = "";
      this.cursor?.setAttribute("visibility", "hidden");
      return;
    }
    const x = this.x(this.data.at[index]);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    this.cursor.setAttribute("visibility", "visible");
    const values = this.series.map((one, place) => {
      const value = this.data.values[place][index];
      return `${one.name} ${value === null ? "–" : this.format(value)}${one.detail ? one.detail(index) : ""}`;
    });
    this.readout.textContent = `${moment(this.data.at[index])}: ${values.join(" · ")}`;
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
