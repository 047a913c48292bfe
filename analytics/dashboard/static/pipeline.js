// The pipeline, for operators: throughput, lag and latency with their history, sources and destinations
// with their state, reconciliation, dead letters.

import { fill, h } from "./dom.js";
import { count, duration, moment, perSecond } from "./format.js";
import { get, onChange } from "./state.js";
import { Table } from "./table.js";
import { LineChart } from "./chart.js";
import { periodBar } from "./parts.js";

const STAGES = [
  ["email.events.raw.v1", "Ingest", "events taken in and kept by Kafka"],
  ["email.events.enriched.v1", "Enrich", "events deduplicated and enriched"],
  ["email.campaign.minutes.v1", "Count", "minute counts written"],
  ["email.campaign.rates.v1", "Rates", "rolling rates published"],
];

const COMPARED_MS_MAX = 3600_000;

export function pipeline(main) {
  let latest = null;
  const stages = h("div", { class: "cards" });
  const trouble = h("div");
  const lags = lagTable();
  const topics = topicTable();
  const books = booksTable();
  const letters = letterTable();
  const parts = partTable(() => latest);
  const silences = silenceTable();
  const requests = requestTable();
  const destinations = destinationTable();
  const tries = tryTable();
  const charts = historyCharts();
  const history = h("div", { class: "charts three" }, charts.map((chart) => chart.node));
  fill(main, h("h1", { class: "hidden" }, "Pipeline"), periodBar(), trouble, stages, history, silences.node, books.node, destinations.node, tries.node, lags.node, parts.node, requests.node, letters.node, topics.node);
  onChange(() => latest && draw(latest));

  function draw(document_) {
    latest = document_;
    const problems = [latest.kafka_trouble, latest.metrics_trouble, latest.deliver_trouble, ...latest.captures.map(captureLine)].filter(Boolean);
    fill(trouble, problems.map((text) => h("p", { class: "alert warning" }, text)));
    fill(stages, stageCards(latest));
    for (const chart of charts) chart.update(latest);
    lags.show(latest.lags);
    topics.show(latest.topics);
    books.show(latest.reconciliation);
    letters.show(latest.dead_letters);
    parts.show(sourceRows(latest));
    silences.show(latest.silences);
    destinations.node.hidden = tries.node.hidden = !latest.deliver_known;
    destinations.show(latest.destinations);
    tries.show(latest.tries);
    requests.node.hidden = !latest.metrics_known;
    requests.show(latest.requests);
  }
  return draw;
}

function captureLine(row) {
  return `Capture of source ${row.source} is on until ${moment(row.until_ms)}: «mailpulse capture» writes its requests into files.`;
}

function stageCards(latest) {
  const byTopic = new Map(latest.topics.map((row) => [row.topic, row]));
  const behind = latest.lags.reduce((sum, row) => sum + row.lag, 0);
  const missing = latest.reconciliation.reduce((sum, row) => sum + row.missing_settled, 0);
  const compared = latest.reconciled_ms ? `last compared ${moment(latest.reconciled_ms)}` : "never compared";
  const stale = Date.now() - latest.reconciled_ms > COMPARED_MS_MAX;
  const card = (name, big, sub, tone = "") =>
    h("div", { class: `card ${tone}` }, h("h2", {}, name), h("p", { class: "big" }, big), h("p", { class: "sub" }, sub));
  return [
    ...STAGES.map(([topic, name, what]) => card(name, `${perSecond(byTopic.get(topic)?.per_s)} /s`, what)),
    card("Behind", latest.lags.length ? count(behind) : "–", "records not yet read, all consumers"),
    card("Missing", latest.reconciliation.length ? count(missing) : "–",
      `accepted over 5 min ago, not stored; ${compared}`, missing > 0 || stale ? "bad" : ""),
  ];
}

function lagTable() {
  return new Table({
    id: "lags", title: "Lag per consumer and partition", page: "pipeline", key: (row) => [row.group, row.topic, row.partition].join(" "),
    initial: ["lag", "down"], empty: "Kafka has not answered yet.",
    note: "Also in a terminal: mailpulse lag --watch",
    columns: [
      { key: "group", label: "Consumer", sort: (row) => row.group, value: (row) => row.group },
      { key: "topic", label: "Topic", sort: (row) => row.topic, value: (row) => row.topic },
      { key: "partition", number: true, label: "Partition", sort: (row) => row.partition, value: (row) => row.partition },
      { key: "lag", number: true, label: "Lag", tip: "Records between what was committed and the end of the partition.", sort: (row) => row.lag, value: (row) => count(row.lag) },
      { key: "pace", number: true, label: "Reads /s", sort: (row) => row.per_s, value: (row) => perSecond(row.per_s) },
      { key: "committed", number: true, label: "Committed", sort: (row) => row.committed, value: (row) => (row.committed === null ? "nothing yet" : count(row.committed)) },
      { key: "end", number: true, label: "End", sort: (row) => row.end, value: (row) => count(row.end) },
    ],
  });
}

function topicTable() {
  return new Table({
    id: "topics", title: "Topics", page: "pipeline", key: (row) => row.topic, initial: ["pace", "down"], empty: "Kafka has not answered yet.",
    columns: [
      { key: "topic", label: "Topic", sort: (row) => row.topic, value: (row) => row.topic },
      { key: "pace", number: true, label: "Records /s", sort: (row) => row.per_s, value: (row) => perSecond(row.per_s) },
      { key: "records", number: true, label: "Offsets held", tip: "From the first offset held to the end; on compacted topics some are gone.", sort: (row) => row.records, value: (row) => count(row.records) },
    ],
  });
}

function booksTable() {
  return new Table({
    id: "reconciliation", title: "Reconciliation, last three days", page: "pipeline", key: (row) => row.source,
    empty: "Nothing taken in yet.",
    note: "Accepted = stored + repeats + dead letters. What came in during the last minutes shows as on its way.",
    columns: [
      { key: "source", label: "Source", sort: (row) => row.source, value: (row) => row.source },
      { key: "accepted", number: true, label: "Accepted", tip: "Events on the raw topic, each once per source and minute.", sort: (row) => row.accepted, value: (row) => count(row.accepted) },
      { key: "stored", number: true, label: "Stored", sort: (row) => row.stored, value: (row) => count(row.stored) },
      { key: "repeated", number: true, label: "Repeats", tip: "Came again, by another source or in another minute, and are stored once.", sort: (row) => row.repeated, value: (row) => count(row.repeated) },
      { key: "letters", number: true, label: "Dead letters", sort: (row) => row.dead_letters, value: (row) => count(row.dead_letters) },
      { key: "way", number: true, label: "On its way", sort: (row) => row.missing - row.missing_settled, value: (row) => count(row.missing - row.missing_settled) },
      { key: "missing", number: true, label: "Missing", tip: "Accepted more than 5 minutes ago, neither stored nor a repeat nor a dead letter. 0 is what it should be.",
        sort: (row) => row.missing_settled, value: (row) => row.missing_settled,
        cell: (row) => badge(row.missing_settled) },
      { key: "unexplained", number: true, label: "Unexplained", tip: "Stored, but never accepted by ingress. 0 is what it should be.",
        sort: (row) => row.unexplained_settled, value: (row) => row.unexplained_settled, cell: (row) => badge(row.unexplained_settled) },
    ],
  });
}

function badge(number) {
  return h("span", { class: number ? "badge critical" : "badge good" }, count(number));
}

function letterTable() {
  return new Table({
    id: "dead_letters", title: "Dead letters", page: "pipeline", key: (row) => [row.stage, row.reason, row.source].join(" "), initial: ["letters", "down"],
    empty: "None in this period.", note: "What could not be processed is kept. Look: mailpulse dlq ls. Put back: mailpulse dlq resend",
    columns: [
      { key: "reason", label: "Reason", sort: (row) => row.reason, value: (row) => row.reason.replaceAll("_", " ") },
      { key: "stage", label: "Stage", sort: (row) => row.stage, value: (row) => row.stage },
      { key: "source", label: "Source", sort: (row) => row.source, value: (row) => row.source || "–" },
      { key: "letters", number: true, label: "Letters", tip: "Different dead letters, as «mailpulse dlq ls» counts them.", sort: (row) => row.letters, value: (row) => count(row.letters) },
      { key: "occurrences", number: true, label: "Occurrences", tip: "How often they were set aside: what a provider sends again, or a replay reads again, is the same letter.",
        sort: (row) => row.occurrences, value: (row) => count(row.occurrences) },
      { key: "last", number: true, label: "Last", sort: (row) => row.last_ms, value: (row) => [row.last_ms, get("zone")], cell: (row) => moment(row.last_ms) },
      { key: "sample", label: "Example", value: (row) => row.sample, cell: (row) => h("span", { class: "diagnostic" }, row.sample || "–") },
    ],
  });
}

const SOURCE_STATES = {
  silent: ["critical", "Nothing came for longer than its rhythm explains."],
  "partly silent": ["warning", "One event type does not come for longer than its rhythm explains."],
  "no event yet": ["warning", "It is in mailpulse.toml, and no event of it is stored."],
  quiet: ["", "Nothing came in the last quarter of an hour; its rhythm may explain that."],
  flowing: ["good", "An event came in the last quarter of an hour."],
};
const QUIET_S = 900;

/** Sources that are configured or have events, with their state. */
function sourceRows(latest) {
  const known = new Map(latest.parts.filter((row) => row.part === "events").map((row) => [row.source, row]));
  const open = latest.silences.filter((row) => row.closed_ms === null);
  const refused = (source) => latest.requests.filter((row) => row.source === source && row.refused).reduce((sum, row) => sum + row.requests, 0);
  const stateOf = (source, row) => {
    const silences = open.filter((one) => one.source === source);
    if (silences.some((one) => !one.event_type)) return "silent";
    if (silences.length) return "partly silent";
    if (!row) return "no event yet";
    return row.seconds_silent !== null && row.seconds_silent > QUIET_S ? "quiet" : "flowing";
  };
  const names = [...new Set([...Object.keys(latest.sources), ...known.keys()])].sort();
  return names.map((source) => ({
    newest_ms: 0, caught_up_ms: null, seconds_silent: null, ...known.get(source), source,
    state: stateOf(source, known.get(source)), refused: refused(source),
    captured: latest.captures.some((row) => row.source === source),
  }));
}

function partTable(latest) {
  return new Table({
    id: "parts", title: "Sources", page: "pipeline", key: (row) => row.source, empty: "No source yet.", noun: "sources",
    columns: [
      { key: "source", label: "Source", sort: (row) => row.source, value: (row) => row.source },
      { key: "provider", label: "Provider", value: (row) => latest().sources[row.source] ?? "–" },
      { key: "state", label: "State", sort: (row) => row.state, value: (row) => [row.state, row.captured],
        cell: (row) => [h("span", { class: `badge ${SOURCE_STATES[row.state][0]}`, "data-tip": SOURCE_STATES[row.state][1], tabindex: "0" }, row.state), row.captured ? h("span", { class: "sub" }, "captured") : ""] },
      { key: "newest", number: true, label: "Last event", sort: (row) => row.newest_ms, value: (row) => [row.newest_ms, get("zone")], cell: (row) => moment(row.newest_ms) },
      { key: "through", number: true, label: "Complete through", tip: "All that came in before this time is stored.",
        value: (row) => [row.caught_up_ms, get("zone")], cell: (row) => moment(row.caught_up_ms) },
      { key: "behind", number: true, label: "Behind", tip: "Lag of the pipeline: a few seconds, also when nothing is sent.",
        value: (row) => (row.caught_up_ms ? duration((Date.now() - row.caught_up_ms) / 1000) : "–") },
      { key: "silent", number: true, label: "Silent for", tip: "Since the last event, as far as the data is complete.", sort: (row) => row.seconds_silent,
        value: (row) => (row.seconds_silent === null ? "–" : duration(row.seconds_silent)) },
      { key: "refused", number: true, label: "Refused", tip: "Requests that were not accepted since the ingest processes started.", sort: (row) => row.refused, value: (row) => count(row.refused) },
    ],
  });
}

/** What came of a source instead of events. */
function requestsCell(row) {
  const refused = { refused: "refused", unreadable: "unreadable" }[row.cause];
  if (!refused) return { silent: "none came", repeats: "nothing new in them" }[row.cause] ?? "–";
  return h("span", { class: "phrase" }, `${count(row.refused)} ${refused} since ${moment(row.refused_ms)} (${row.refusal})`);
}

/** Throughput, lag and latency of the last hours. */
function historyCharts() {
  const make = (options, dataOf) => {
    const chart = new LineChart(options);
    chart.update = (latest) => {
      const { at, series } = dataOf(latest);
      const now = latest.period.end_s * 1000;
      chart.show({ at, series, start: at[0] ?? now - 3600_000, end: Math.max(at.at(-1) ?? now, (at[0] ?? now) + 60_000) });
    };
    return chart;
  };
  const sampled = "Sampled by the dashboard every 30 s, for six hours at most, since it was started.";
  // whole steps that have been compared
  const steps = (latest) => latest.throughput.filter((row) => (row.at_s + row.seconds) * 1000 <= Math.min(latest.reconciled_ms, latest.period.end_s * 1000));
  return [
    make({ id: "chart-throughput", title: "Throughput", format: (value) => `${perSecond(value)}/s`, note: "Events taken in and stored, of the last day at most, as the sink last compared them." },
      (latest) => ({
        at: steps(latest).map((row) => row.at_s * 1000),
        series: [
          { name: "Taken in", className: "s1", values: steps(latest).map((row) => row.accepted / row.seconds), details: steps(latest).map((row) => ` (${count(row.accepted)})`) },
          { name: "Stored", className: "s2", values: steps(latest).map((row) => row.stored / row.seconds), details: steps(latest).map((row) => ` (${count(row.stored)})`) },
        ],
      })),
    make({ id: "chart-lag", title: "Lag", whole: true, format: (value) => count(Math.round(value)), top: 10, note: `Records not yet read, by consumer group. ${sampled}` },
      (latest) => {
        const groups = [...new Set(latest.samples.flatMap((one) => Object.keys(one.lag ?? {})))].sort();
        return {
          at: latest.samples.map((one) => one.at_ms),
          series: groups.map((group, index) => ({ name: group, className: `s${1 + (index % 6)}`, values: latest.samples.map((one) => one.lag?.[group] ?? null) })),
        };
      }),
    make({ id: "chart-latency", title: "Latency", format: (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} s`, top: 5, note: `By how much the database was behind what arrived. ${sampled}` },
      (latest) => ({
        at: latest.samples.map((one) => one.at_ms),
        series: [{ name: "Behind", className: "s1", values: latest.samples.map((one) => one.behind_s) }],
      })),
  ];
}

function silenceTable() {
  return new Table({
    id: "silences", title: "Silent sources", page: "pipeline", key: (row) => row.id, initial: ["opened", "down"],
    empty: "None in this period. A source has a rhythm once two weeks and three active weeks of it are stored.",
    note: "Nothing came for longer than the rhythm of these hours of the week explains, or all requests are refused. Also in a terminal: mailpulse alerts ls",
    columns: [
      { key: "source", label: "Source", sort: (row) => row.source, value: (row) => row.source },
      { key: "what", label: "What is missing", sort: (row) => row.event_type, value: (row) => row.event_type || "all events" },
      { key: "cause", label: "Requests", tip: "What ingress did with them since: none came, all were refused, or all were unreadable.", sort: (row) => row.cause,
        value: (row) => [row.cause, row.refused, row.refusal, row.refused_ms, get("zone")], cell: requestsCell },
      { key: "level", label: "Level", sort: (row) => row.level, value: (row) => [row.level, row.closed_ms],
        cell: (row) => h("span", { class: `badge ${row.closed_ms ? "closed" : row.level}` }, row.closed_ms ? `${row.level}, closed` : row.level) },
      { key: "since", number: true, label: "Silent since", sort: (row) => row.since_ms, value: (row) => [row.since_ms, get("zone")], cell: (row) => moment(row.since_ms) },
      { key: "usual", number: true, label: "Usual gap", tip: "How long the longest gap of a usual week would have taken from then on.", sort: (row) => row.usual_gap_s, value: (row) => duration(row.usual_gap_s) },
      { key: "explained", number: true, label: "Explained", tip: "How long a silence its rhythm would have explained.", sort: (row) => row.explained_s, value: (row) => duration(row.explained_s) },
      { key: "advice", label: "What to do", value: (row) => row.advice, cell: (row) => h("span", { class: "advice" }, row.advice || "–") },
      { key: "opened", number: true, label: "Opened", sort: (row) => row.opened_ms, value: (row) => [row.opened_ms, get("zone")], cell: (row) => moment(row.opened_ms) },
      { key: "closed", number: true, label: "Closed", sort: (row) => row.closed_ms, value: (row) => [row.closed_ms, get("zone")], cell: (row) => (row.closed_ms ? moment(row.closed_ms) : "not yet") },
    ],
  });
}

const TONES = { on: "good", failing: "critical" };

function destinationTable() {
  return new Table({
    id: "destinations", title: "Destinations", page: "pipeline", key: (row) => row.destination,
    empty: "deliver has not answered yet.", note: "Figures since deliver started. Also in a terminal: mailpulse deliver ls",
    columns: [
      { key: "destination", label: "Destination", sort: (row) => row.destination, value: (row) => row.destination },
      { key: "kind", label: "Kind", sort: (row) => row.kind, value: (row) => row.kind },
      { key: "host", label: "Host", value: (row) => row.host },
      { key: "topics", label: "Topics", value: (row) => row.topics },
      { key: "state", label: "State", tip: "failing: it is only probed. waiting: it asked to be left alone. Nothing is lost while its topics hold it.",
        sort: (row) => row.state, value: (row) => [row.state, row.waits_s],
        cell: (row) => h("span", { class: `badge ${TONES[row.state] ?? "warning"}` }, row.waits_s ? `${row.state} ${duration(row.waits_s)}` : row.state) },
      { key: "success", number: true, label: "Last success", sort: (row) => row.last_success_ms, value: (row) => [row.last_success_ms, get("zone")],
        cell: (row) => (row.last_success_ms ? moment(row.last_success_ms) : "–") },
      { key: "lag", number: true, label: "Lag", tip: "Records from the first that is not delivered; filters may leave out many.", sort: (row) => row.lag, value: (row) => count(row.lag) },
      { key: "failed", number: true, label: "Failures", tip: "Requests that were not delivered.", sort: (row) => row.failed, value: (row) => count(row.failed) },
      { key: "delivered", number: true, label: "Delivered", sort: (row) => row.delivered, value: (row) => count(row.delivered) },
      { key: "test", label: "Test", value: () => "", cell: testButton },
    ],
  });
}

function testButton(row) {
  const said = h("span", { class: "sub", role: "status" });
  const button = h("button", { class: "plain", type: "button", "aria-label": `Send a test to ${row.destination}`, onclick: async () => {
    button.disabled = true;
    said.textContent = " sending …";
    try {
      const answer = await fetch(`/api/destinations/${encodeURIComponent(row.destination)}/test`, { method: "POST" });
      const found = answer.ok ? await answer.json() : { delivered: false, said: String(answer.status) };
      said.textContent = found.delivered ? " delivered" : ` ${found.said}`;
    } catch {
      said.textContent = " the dashboard does not answer";
    }
    button.disabled = false;
  } }, "Send a test");
  return [button, said];
}

function tryTable() {
  return new Table({
    id: "tries", title: "Last requests to destinations", page: "pipeline", key: (row, index) => `${row.destination} ${index}`,
    empty: "None since deliver started.", note: "The last 50 of each destination. What a destination answers is shown with addresses masked.",
    columns: [
      { key: "destination", label: "Destination", sort: (row) => row.destination, value: (row) => row.destination },
      { key: "at", number: true, label: "Answered", sort: (row) => row.at_ms, value: (row) => [row.at_ms, get("zone")], cell: (row) => moment(row.at_ms) },
      { key: "result", label: "Result", sort: (row) => row.result, value: (row) => [row.result, row.said],
        cell: (row) => h("span", { class: row.said ? "badge warning" : "badge good" }, row.result) },
      { key: "records", number: true, label: "Records", sort: (row) => row.records, value: (row) => count(row.records) },
      { key: "seconds", number: true, label: "Took", sort: (row) => row.seconds, value: (row) => `${row.seconds.toFixed(2)} s` },
      { key: "said", label: "Answer", value: (row) => row.said, cell: (row) => h("span", { class: "diagnostic" }, row.said || "–") },
    ],
  });
}

function requestTable() {
  return new Table({
    id: "requests", title: "Requests to webhooks", page: "pipeline", key: (row) => `${row.source} ${row.result}`, initial: ["requests", "down"],
    empty: "No request since the process started.", note: "Since the ingest processes started. «unauthorized» is a wrong or rotated key, or an attack.",
    columns: [
      { key: "source", label: "Source", sort: (row) => row.source, value: (row) => row.source || "(unknown)" },
      { key: "result", label: "Result", sort: (row) => row.result, value: (row) => [row.result, row.refused],
        cell: (row) => h("span", { class: row.refused ? "badge warning" : "badge good" }, row.result.replaceAll("_", " ")) },
      { key: "requests", number: true, label: "Requests", sort: (row) => row.requests, value: (row) => count(row.requests) },
    ],
  });
}
