// The charts of a campaign: opens and clicks by the age of the mail, and what happened when.

import { h } from "./dom.js";
import { age, count, moment, percent } from "./format.js";
import { metric, rate, value } from "./figures.js";
import { LineChart } from "./chart.js";
import { get } from "./state.js";
import { incidentName } from "./incidents.js";
import { buttons } from "./parts.js";

const LEVELS = ["watch", "warning", "critical"];
const STEPS_MIN = 5;
const lineList = (levels = []) => levels.map((line, index) => [line, `${LEVELS[index]} ${percent(line)}`, LEVELS[index]]);

/** Values of a curve at each of these ages; null where it has none. */
const at = (curve, ages, read) => ages.map((one) => {
  const index = curve.ages_s.indexOf(one);
  return index < 0 || !curve.delivered[index] ? null : read(curve, index);
});

export function median(values) {
  const known = values.filter((one) => one !== null).sort((a, b) => a - b);
  if (!known.length) return null;
  const middle = Math.floor(known.length / 2);
  return known.length % 2 ? known[middle] : (known[middle - 1] + known[middle]) / 2;
}

/** The share of the delivered mail that was opened, or clicked, by each age. */
function ageChart(kind, title) {
  const chart = new LineChart({ id: `chart-age-${kind}`, title, format: percent, axis: "age", first: "Since delivery" });
  chart.update = (latest) => {
    const curve = latest.curve ?? { ages_s: [], delivered: [] };
    const who = get("who");
    const share = (whose) => (one, index) => one[kind][whose][index] / one.delivered[index];
    const ages = curve.ages_s;
    const names = new Map(latest.others.map((one) => [one.id, one.name || one.id]));
    const others = latest.others.filter((one) => one.curve).map((one) => ({ name: names.get(one.id), values: at(one.curve, ages, share(who)) }));
    const own = at(curve, ages, share(who));
    const details = ages.map((_, index) => ` (${count(curve[kind][who][index])} of ${count(curve.delivered[index])})`);
    const label = { human: "by people", unknown: "with unknown", any: "with machines" }[who];
    const series = [{ name: `This campaign, ${label}`, className: kind, values: own, details }];
    if (who !== "any") {
      series.push({ name: "At most, if all doubtful ones were people", className: `${kind} doubtful`, values: at(curve, ages, share("at_most")), quiet: true });
    }
    if (others.length) {
      series.push({ name: others.length === 1 ? others[0].name : `Median of ${others.length} other campaigns`, className: "median",
        values: ages.map((_, index) => median(others.map((one) => one.values[index]))) });
      if (others.length > 1) series.push(...others.map((one) => ({ ...one, className: "other", quiet: true, unlisted: true })));
    }
    const reached = ages.length ? `This campaign's mail is ${age(ages.at(-1))} old or older.` : "None of it is a minute old.";
    chart.name(title, `Of the messages that were delivered so long ago: how many were ${kind} within that time. ${reached}`);
    chart.show({ at: ages, series, start: 0, end: Math.max(300, ages.at(-1) ?? 0) });
  };
  return chart;
}

/** A chart of the steps of time, cut where nearly all has happened. */
function courseChart(options, seriesOf) {
  const chart = new LineChart(options);
  chart.update = (latest) => {
    const byTime = new Map(latest.timeline.map((step) => [step.at_s, step.counts]));
    const endS = options.rates ? sendingEnd(latest) : latest.chart_end_s;
    const steps = latest.steps_s.filter((time) => time < endS);
    const until = !options.rates && latest.chart_end_s < latest.last_s
      ? ` Until ${moment(latest.chart_end_s * 1000)}, by when 99 % of it had happened; the rest is in the table Course over time.` : "";
    chart.name(options.title, `${options.note ?? ""}${until}`.trim());
    const columns = seriesOf();
    chart.show({
      at: steps.map((time) => time * 1000), start: (steps[0] ?? latest.period.start_s) * 1000,
      end: Math.max(options.rates ? (steps.at(-1) ?? 0) : latest.chart_end_s, (steps[0] ?? 0) + latest.step_s) * 1000,
      lines: lineList(latest.lines[options.judged]), marks: annotations(latest, options.judged),
      series: columns.map(({ name, className, read, zero, told }) => ({
        name, className,
        values: steps.map((time) => (byTime.has(time) ? read(byTime.get(time)) : zero ? 0 : null)),
        details: told ? steps.map((time) => (byTime.has(time) ? told(byTime.get(time)) : "")) : null,
      })),
    });
  };
  return chart;
}

/** What people should know at a time: incidents, and since when newer rules judge. */
function annotations(latest, judged) {
  const marks = latest.incidents.filter((row) => !judged || row.rate === judged).flatMap((row) => [
    { at: row.opened_ms, level: row.level, label: `${row.worst_level}: ${incidentName(row.rate)} above the line` },
    row.closed_ms ? { at: row.closed_ms, level: "closed", label: `closed: ${incidentName(row.rate)}` } : null,
  ]).filter(Boolean);
  const rules = latest.rules.slice(1).map((row) => ({ at: row.since_ms, level: "rules", label: `judged by rules ${row.rules_version} from here on` }));
  return [...marks, ...rules].sort((a, b) => a.at - b.at);
}

// by time of sending: of what was delivered then, whatever is chosen
const ratio = (name) => (counts) => rate(counts, metric(name, "cohort")).ratio;
const parts = (name) => (counts) => {
  const { above, below } = rate(counts, metric(name, "cohort"));
  return ` (${count(above)} of ${count(below)})`;
};
const rateSeries = (name, label, className) => ({ name: label, className, read: ratio(name), told: parts(name) });

/** Where nearly all was sent: rates by time of sending end there, seconds. */
function sendingEnd(latest) {
  const all = value(latest.totals, "sent");
  const sent = latest.timeline.filter((step) => value(step.counts, "sent") > all / 500);
  return Math.min(latest.chart_end_s, (sent.at(-1)?.at_s ?? latest.chart_end_s) + latest.step_s);
}

/** Whether the mail was sent over much of its life: else its open rates by step say nothing. */
function spread(latest) {
  const first = latest.steps_s[0] ?? 0;
  const steps = latest.timeline.filter((step) => value(step.counts, "sent") > 0);
  return steps.length >= STEPS_MIN && (sendingEnd(latest) - first) * 3 > latest.chart_end_s - first;
}

const byHappening = "Counted when it happened, whatever is chosen above.";

export function campaignCharts() {
  const flow = (name, basis) => metric(name, basis).numerator;
  const charts = [
    ageChart("opened", "Opened, by time since delivery"),
    ageChart("clicked", "Clicked, by time since delivery"),
    courseChart({ id: "chart-volume", title: "What happened when", whole: true, format: (n) => count(Math.round(n)), note: byHappening,
      tools: buttons("What the chart shows", "flow", [["responses", "Opens and clicks"], ["deliveries", "Deliveries and bounces"]]) },
    () => (get("flow") === "deliveries" ? [
      { name: "Delivered", className: "delivered", zero: true, read: (c) => value(c, "delivered") },
      { name: "Bounced", className: "hard", zero: true, read: (c) => value(c, "bounced") },
    ] : [
      { name: "First opens", className: "opened", zero: true, read: (c) => value(c, flow("open_rate", "flow")) },
      { name: "First clicks", className: "clicked", zero: true, read: (c) => value(c, flow("click_rate", "flow")) },
    ])),
    courseChart({ id: "chart-rates", title: "Opens and clicks by time of sending", format: percent, rates: true },
      () => [rateSeries("open_rate", "Open rate", "opened"), rateSeries("click_rate", "Click rate", "clicked")]),
    courseChart({ id: "chart-bounces", title: "Bounces by time of sending", format: percent, rates: true, judged: "hard_bounce_rate", top: 0.02 },
      () => [rateSeries("hard_bounce_rate", "Hard", "hard"), rateSeries("soft_bounce_rate", "Soft", "soft"), rateSeries("block_bounce_rate", "Blocked", "block")]),
    courseChart({ id: "chart-complaints", title: "Complaints by time of sending", format: percent, rates: true, judged: "complaint_rate", top: 0.001 },
      () => [rateSeries("complaint_rate", "Complaint rate", "complaint")]),
  ];
  const rates = charts[3];
  const judgedAnew = h("p", { class: "note", hidden: true });
  const grid = h("div", { class: "charts" }, charts.map((chart) => chart.node));
  return {
    node: h("div", {}, judgedAnew, grid),
    show(latest) {
      rates.node.hidden = !spread(latest);
      const times = Math.max(0, ...latest.rules.map((row) => row.epoch));
      judgedAnew.hidden = times === 0;
      judgedAnew.textContent = times ? `Opens, clicks and bounces of this campaign were judged anew by newer rules ${times === 1 ? "once" : `${times} times`}; the charts show today's verdicts.` : "";
      for (const chart of charts) if (!chart.node.hidden) chart.update(latest);
    },
  };
}
