// Tables that update in place: rows and cells that did not change are not touched, so focus,
// selection and a screen reader's position survive an update.

import { explained, h } from "./dom.js";
import { serverQuery } from "./state.js";

/**
 * A table with a caption, a link to its CSV and, where columns are sortable, buttons as headings.
 * columns: {key, label, tip, number, first, sort(row), value(row), cell(row)}; value is what the
 * cell shows as plain data (compared to see whether it changed), cell builds its content.
 */
export class Table {
  constructor({ id, title, page, columns, key, empty, note, initial, onSort, csv = true }) {
    Object.assign(this, { id, page, key, empty, onSort });
    this.columns = columns;
    this.order = initial ?? null;
    this.rows = new Map();
    this.body = h("tbody");
    this.headings = new Map();
    this.link = csv ? h("a", { class: "csv", download: true, "aria-label": `${title} as CSV` }, "CSV") : null;
    this.nothing = h("p", { class: "nothing", hidden: true }, empty ?? "Nothing in this period.");
    this.head = h("thead", {}, h("tr", {}, columns.map((column) => this.heading(column))));
    this.count = h("span", { class: "count" });
    this.tools = h("div", { class: "tools" });
    this.node = h(
      "section",
      { class: "panel", id, "aria-labelledby": `${id}-title` },
      h("div", { class: "panel-head" }, h("h2", { id: `${id}-title` }, title), this.count, this.tools, this.link),
      note ? h("p", { class: "note" }, note) : null,
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": title },
        h("table", {}, h("caption", { class: "hidden" }, title), this.head, this.body),
      ),
      this.nothing,
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
    this.draw();
  }

  /** Shows rows. */
  show(rows, total = rows.length) {
    this.shown = rows;
    this.count.textContent = total === rows.length ? "" : `${rows.length} of ${total}`;
    if (this.link) this.link.href = `/csv/${this.page}/${this.id}.csv?${serverQuery(this.page)}`;
    this.draw();
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
    const rows = this.sorted();
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
