// Tables that update in place: rows and cells that did not change are not touched, so focus,
// selection and a screen reader's position survive an update.

import { explained, h } from "./dom.js";
import { count } from "./format.js";
import { serverQuery } from "./state.js";

/**
 * A table with a caption, links to its CSV and Parquet and, where columns are sortable, buttons as headings.
 * columns: {key, label, tip, number, first, sort(row), value(row), cell(row)}; value is what the
 * cell shows as plain data (compared to see whether it changed), cell builds its content.
 * noun: what the rows are, counted in the heading. paged: {size, get(), set(page)}: pages of so many
 * rows; the page's number or "all". stable: rows keep their places until somebody orders them.
 * csvQuery(): more of the address of the CSV.
 */
export class Table {
  constructor({ id, title, page, columns, key, empty, note, initial, onSort, noun = "", paged = null, stable = false, csvQuery = () => "", csv = true }) {
    Object.assign(this, { id, page, key, empty, onSort, noun, paged, stable, csvQuery });
    this.columns = columns;
    this.order = initial ?? null;
    this.rows = new Map();
    this.body = h("tbody");
    this.headings = new Map();
    this.links = csv ? ["CSV", "Parquet"].map((form) => h("a", { class: "csv", download: true, "aria-label": `${title} as ${form}` }, form)) : [];
    this.nothing = h("p", { class: "nothing", hidden: true }, empty ?? "Nothing in this period.");
    this.head = h("thead", {}, h("tr", {}, columns.map((column) => this.heading(column))));
    this.count = h("span", { class: "count" });
    this.tools = h("div", { class: "tools" });
    this.pager = h("nav", { class: "pager", "aria-label": `Pages of ${title}`, hidden: true });
    this.anew = h("button", { type: "button", class: "small", hidden: true, onclick: () => this.orderAnew() }, "Order anew");
    if (paged) {
      for (const [type, printing] of [["beforeprint", true], ["afterprint", false]]) {
        window.addEventListener(type, () => {
          this.printing = printing;
          if (this.shown) this.draw();
        });
      }
    }
    this.node = h(
      "section",
      { class: "panel", id, "aria-labelledby": `${id}-title` },
      h("div", { class: "panel-head" }, h("h2", { id: `${id}-title` }, title), this.count, this.anew, this.tools, this.links),
      note ? h("p", { class: "note" }, note) : null,
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": title },
        h("table", {}, h("caption", { class: "hidden" }, title), this.head, this.body),
      ),
      this.nothing, this.pager,
    );
  }

  heading(column) {
    const content = column.sort
      ? h("button", { class: "sort", onclick: () => this.turn(column), ...explained(column.tip) }, column.label)
      : h("span", { ...explained(column.tip), tabindex: column.tip ? "0" : null }, column.label);
    const cell = h("th", { scope: "col", class: column.number ? "number" : null }, content);
    this.headings.set(column.key, cell);
    return cell;
  }

  /** Changes the heading and definition of a column. */
  rename(key, label, tip) {
    const content = this.headings.get(key).firstElementChild;
    content.textContent = label;
    if (tip) content.dataset.tip = tip;
  }

  turn(column) {
    const [key, direction] = this.order ?? ["", ""];
    const first = column.first ?? (column.number ? "down" : "up");
    this.order = [column.key, key === column.key ? (direction === "up" ? "down" : "up") : first];
    this.onSort?.(this.order.join("-"));
    this.orderAnew();
  }

  /** Sorts by the present figures. */
  orderAnew() {
    this.places = null;
    this.draw();
  }

  /** Shows rows. */
  show(rows, total = rows.length) {
    this.shown = rows;
    const noun = this.noun && total === 1 ? this.noun.replace(/s$/, "") : this.noun;
    this.count.textContent = total !== rows.length ? `${count(rows.length)} of ${count(total)}${noun && ` ${noun}`}` : noun && `${count(total)} ${noun}`;
    this.links.forEach((node, index) => {
      const form = ["csv", "parquet"][index];
      node.href = `/${form}/${this.page}/${this.id}.${form}?${serverQuery(this.page)}${this.csvQuery()}`;
    });
    this.draw();
  }

  /** The rows in the order in which they are shown: while live they keep their places. */
  placed() {
    const rows = this.sorted();
    if (!this.stable) return rows;
    const keys = rows.map((row) => String(this.key(row)));
    if (!this.places) this.places = new Map(keys.map((key, index) => [key, index]));
    const fresh = keys.filter((key) => !this.places.has(key));
    let first = Math.min(0, ...this.places.values());
    for (const key of fresh.reverse()) this.places.set(key, (first -= 1));
    const held = [...rows].sort((a, b) => this.places.get(String(this.key(a))) - this.places.get(String(this.key(b))));
    this.anew.hidden = held.every((row, index) => row === rows[index]);
    return held;
  }

  /** The rows of the present page; every one of them when printed. */
  ofPage(rows) {
    if (!this.paged) return rows;
    const { size } = this.paged;
    const pages = Math.ceil(rows.length / size);
    const wished = this.paged.get();
    this.pager.hidden = pages < 2;
    if (pages < 2 || wished === "all" || this.printing) {
      this.showPager(null, pages, rows.length);
      return rows;
    }
    const page = Math.min(pages, Math.max(1, Number.parseInt(wished, 10) || 1));
    this.showPager(page, pages, rows.length);
    return rows.slice((page - 1) * size, page * size);
  }

  showPager(page, pages, total) {
    const sign = JSON.stringify([page, pages, total]);
    if (this.pager.hidden || this.pagerSign === sign) return;
    this.pagerSign = sign;
    const { size } = this.paged;
    const focused = document.activeElement?.dataset?.go;
    const go = (label, target, off) => h("button", { type: "button", "data-go": label, disabled: off, onclick: () => this.paged.set(target) }, label);
    const all = go(page === null ? "In pages" : "All on one page", page === null ? "1" : "all", false);
    const words = page === null ? `All ${count(total)}` : `${count((page - 1) * size + 1)}–${count(Math.min(total, page * size))} of ${count(total)}`;
    this.pager.replaceChildren(...[
      page === null ? null : go("Previous", String(page - 1), page === 1), h("span", { role: "status" }, words),
      page === null ? null : go("Next", String(page + 1), page === pages), all,
    ].filter(Boolean));
    if (focused) [...this.pager.children].find((one) => one.dataset.go === focused && !one.disabled)?.focus();
  }

  sorted() {
    const column = this.columns.find((item) => item.key === this.order?.[0]);
    for (const [key, cell] of this.headings) {
      const direction = key === column?.key ? this.order[1] : null;
      if (direction) cell.setAttribute("aria-sort", direction === "up" ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    }
    if (!column?.sort) return this.shown;
    const sign = this.order[1] === "up" ? 1 : -1;
    const rank = (row) => column.sort(row) ?? null;
    return [...this.shown].sort((a, b) => {
      const [x, y] = [rank(a), rank(b)];
      if (x === null || y === null) return (x === null) - (y === null); // no value: always last
      return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
    });
  }

  draw() {
    const rows = this.ofPage(this.placed());
    const seen = new Set();
    let place = this.body.firstElementChild;
    rows.forEach((row, index) => {
      const key = String(this.key(row, index));
      seen.add(key);
      const line = this.line(key, row);
      if (line === place) place = place.nextElementSibling;
      else this.body.insertBefore(line, place);
    });
    for (const [key, line] of this.rows) {
      if (seen.has(key)) continue;
      line.remove();
      this.rows.delete(key);
    }
    this.nothing.hidden = rows.length > 0;
    this.body.parentElement.hidden = rows.length === 0;
  }

  line(key, row) {
    let line = this.rows.get(key);
    if (!line) {
      line = h("tr", {}, this.columns.map((column, index) =>
        index === 0 ? h("th", { scope: "row" }) : h("td", { class: column.number ? "number" : null })));
      line.signs = [];
      this.rows.set(key, line);
    }
    this.columns.forEach((column, index) => {
      const data = column.value(row);
      const sign = JSON.stringify(data ?? null);
      if (line.signs[index] === sign) return;
      line.signs[index] = sign;
      const content = column.cell ? column.cell(row) : data;
      line.children[index].replaceChildren(...[content].flat().map((item) => item ?? "–"));
    });
    return line;
  }
}
