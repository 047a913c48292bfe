"""Series on which each alert must fire, and near misses on which none may.

A case is a healthy pipeline (``HEALTHY``) with some series changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.alerting.judging import LONG, absent, flat, ramp, then

SHORT = 40
"""Minutes of most cases."""
RAW, ENRICHED = "email.events.raw.v1", "email.events.enriched.v1"
INGEST = 'instance="ingest-1:8080",job="mailpulse-ingest"'
WORKER = 'instance="worker-1:9100",job="mailpulse-worker"'
SINK = 'instance="sink:9100",job="mailpulse-sink"'
DELIVER = 'instance="deliver:9100",job="mailpulse-deliver"'


def up(job: str, instance: str) -> str:
    return f'up{{instance="{instance}",job="mailpulse-{job}"}}'


def requests(result: str) -> str:
    return f'mailpulse_ingest_requests_total{{{INGEST},result="{result}",source="crm"}}'


def enriched(result: str) -> str:
    return f'mailpulse_enrich_records_total{{{WORKER},result="{result}"}}'


def of(role: str, metric: str, **labels: str) -> str:
    """A series of a role."""
    more = "".join(f',{name}="{value}"' for name, value in labels.items())
    return f"mailpulse_{metric}{{{role}{more}}}"


SILENCE = of(SINK, "source_silence_seconds", source="crm")
INGEST_UP, INGEST_2_UP = up("ingest", "ingest-1:8080"), up("ingest", "ingest-2:8080")
WORKER_UP, SINK_UP = up("worker", "worker-1:9100"), up("sink", "sink:9100")
DELIVER_UP, DASHBOARD_UP = up("deliver", "deliver:9100"), up("dashboard", "dashboard:9100")
CADDY_UP, CLICKHOUSE_UP = up("caddy", "caddy:2020"), up("clickhouse", "clickhouse:9363")
UPSTREAM = (
    "caddy_reverse_proxy_upstreams_healthy{"
    'instance="caddy:2020",job="mailpulse-caddy",upstream="ingest-%d:8080"}'
)
EVENTS = of(INGEST, "ingest_events_total", source="crm")
KAFKA_UP, SPOOL = of(INGEST, "ingest_kafka_up"), of(INGEST, "ingest_spool_bytes")
SPOOL_DAMAGED = of(INGEST, "ingest_spool_damaged_bytes_total")
BAD_ITEMS = of(INGEST, "ingest_dead_letters_total", source="crm", reason="bad_event")
WORKERS_LAG = of(SINK, "sink_workers_lag_records", topic=RAW, partition="0")
OWN_LAG = of(WORKER, "consumer_lag_records", topic=RAW, partition="0")
EVENT_AGE = of(WORKER, "enrich_event_age_seconds", partition="0")
RESTORING, STATE = of(WORKER, "restoring_partitions"), of(WORKER, "state_bytes")
DAMAGED = of(WORKER, "state_damaged_total", stage="enrich")
SNAPSHOTS_FAILED = of(WORKER, "state_snapshots_total", stage="enrich", result="failed")
CORRECTIONS_LOST = of(WORKER, "enrich_corrections_total", result="lost")
STORES, SINK_LAG = (
    of(SINK, "sink_clickhouse_up"),
    of(SINK, "sink_lag_records", topic=ENRICHED, partition="0"),
)
RETRIES = of(SINK, "sink_retries_total", topic=ENRICHED)
UNSTORABLE = of(SINK, "sink_dead_letters_total", topic=ENRICHED, reason="bad_row")
THROUGH = of(SINK, "sink_complete_through_seconds", partition="0")
ACTIVE, COMPARED = of(SINK, "sink_reconciliation_active"), of(SINK, "sink_reconciled_seconds")
MISSING = of(SINK, "sink_reconciliation_difference_events")
UNEXPLAINED = of(SINK, "sink_reconciliation_unexplained_events")
BREAKER = of(DELIVER, "deliver_breaker_open", destination="crm")
EXPIRES = of(DELIVER, "deliver_expires_seconds", destination="crm", topic=ENRICHED, partition="0")
EXPIRED = of(DELIVER, "deliver_expired_records_total", destination="crm")
PARKED = of(DELIVER, "deliver_records_total", destination="crm", result="parked")


def durations(
    metric: str, role: str, fast: float, slow: float, bound: str, **labels: str
) -> dict[str, str]:
    """A histogram: ``fast`` observations a second below ``bound``, ``slow`` ones above it."""
    return {
        of(role, f"{metric}_bucket", le=bound, **labels): ramp(fast),
        of(role, f"{metric}_bucket", le="10", **labels): ramp(fast + slow),
        of(role, f"{metric}_bucket", le="+Inf", **labels): ramp(fast + slow),
    }  # fmt: skip


HEALTHY: Mapping[str, str] = {
    **{name: flat(1) for name in (
        INGEST_UP, INGEST_2_UP, WORKER_UP, SINK_UP, DELIVER_UP, DASHBOARD_UP, CADDY_UP,
        CLICKHOUSE_UP, KAFKA_UP, STORES, ACTIVE,
    )},
    **{name: flat(0) for name in (
        SPOOL, SPOOL_DAMAGED, WORKERS_LAG, OWN_LAG, RESTORING, DAMAGED, CORRECTIONS_LOST, SINK_LAG,
        SNAPSHOTS_FAILED, RETRIES, MISSING, UNEXPLAINED, BREAKER, EXPIRED, PARKED, enriched("lost"),
        enriched("dead_letter"), enriched("duplicate"), requests("unavailable"),
        requests("overloaded"), requests("internal"), requests("unauthorized"),
    )},
    requests("accepted"): ramp(10), EVENTS: ramp(100), enriched("enriched"): ramp(100),
    EVENT_AGE: flat(1), STATE: flat(1e8), THROUGH: ramp(1), COMPARED: ramp(1),
    **durations("ingest_request_seconds", INGEST, 100, 0, "1"),
    **durations("checkpoint_seconds", WORKER, 2, 0, "5", stage="enrich"),
}  # fmt: skip
NO_TRAFFIC: Mapping[str, str] = {
    requests("accepted"): flat(0), EVENTS: flat(0), enriched("enriched"): flat(0)
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Attributes:
    of: the alert that fires here, or that this is a near miss of.
    changes: series -> values, on top of ``HEALTHY``; ``None``: there is none.
    fires: whether it fires; ``others``: those that fire with it, or instead.
    at: minutes after which it is judged.
    """

    of: str
    what: str
    changes: Mapping[str, str | None]
    fires: bool = True
    others: frozenset[str] = field(default_factory=frozenset)
    at: int = SHORT

    @property
    def name(self) -> str:
        """For pytest."""
        return f"{self.of.removeprefix('Mailpulse')}: {self.what}"

    @property
    def firing(self) -> set[str]:
        """All that fire."""
        return {*self.others, *([self.of] if self.fires else [])}

    @property
    def series(self) -> dict[str, str]:
        """All series."""
        merged = {**HEALTHY, **self.changes}
        return {name: values for name, values in merged.items() if values is not None}


def fires(
    alert: str, what: str, changes: Mapping[str, str | None], *others: str, at: int = SHORT
) -> Case:
    together = frozenset(f"Mailpulse{one}" for one in others)
    return Case(f"Mailpulse{alert}", what, changes, True, together, at)


def silent(
    alert: str, what: str, changes: Mapping[str, str | None], *others: str, at: int = SHORT
) -> Case:
    together = frozenset(f"Mailpulse{one}" for one in others)
    return Case(f"Mailpulse{alert}", what, changes, False, together, at)


def last(minutes: float, value: float, before: float = 0) -> str:
    """``before``, and ``value`` for the last minutes of a short case."""
    return then(flat(before, SHORT - minutes), flat(value, minutes + 1))


def born(minutes: float, value: float) -> str:
    """A series that is born at its value in the last minutes of a short case."""
    return then(absent(SHORT - minutes), flat(value, minutes + 1))


def down(minutes: float) -> str:
    """1, and 0 for the last minutes of a short case."""
    return last(minutes, 0, 1)


WEEK_S = 7 * 86_400

CASES = (
    # --- ingress
    fires("IngestDown", "one of two does not answer", {INGEST_2_UP: down(3)}),
    silent("IngestDown", "a restart of half a minute", {INGEST_2_UP: down(0.5)}),
    silent("IngestDown", "another program's job", {'up{instance="x:1",job="ingest"}': flat(0)}),
    fires("RoleMissing", "Prometheus finds no sink", {one: None for one in HEALTHY if SINK in one}),
    silent("RoleMissing", "Prometheus was started three minutes ago",
           {one: then(absent(SHORT - 3), values) for one, values in HEALTHY.items()}),
    fires("IngestWithoutKafka", "for three minutes", {KAFKA_UP: down(3)}),
    silent("IngestWithoutKafka", "for half a minute", {KAFKA_UP: down(0.5)}),
    fires("IngestRefuses", "two in a hundred",
          {requests("unavailable"): ramp(0.2)}),
    silent("IngestRefuses", "one in two hundred; five in a hundred for other reasons",
           {requests("unavailable"): ramp(0.05), requests("unauthorized"): ramp(0.5)}),
    silent("IngestRefuses", "nothing is posted at all", NO_TRAFFIC),
    fires("IngestProxyNotTrusted", "nine of ten", {requests("https_required"): ramp(90)}),
    silent("IngestProxyNotTrusted", "a client by http", {requests("https_required"): ramp(0.1)}),
    fires("IngestSlow", "two in a hundred over a second",
          durations("ingest_request_seconds", INGEST, 98, 2, "1")),
    silent("IngestSlow", "one in a thousand",
           durations("ingest_request_seconds", INGEST, 99.9, 0.1, "1")),
    fires("IngestUnauthorized", "two a second", {requests("unauthorized"): ramp(2)}),
    silent("IngestUnauthorized", "one in two seconds", {requests("unauthorized"): ramp(0.5)}),
    fires("IngestSpooling", "for twenty minutes", {SPOOL: last(20, 9_000)}),
    silent("IngestSpooling", "for ten", {SPOOL: last(10, 9_000)}),
    fires("IngestSpoolDamaged", "born at its value", {SPOOL_DAMAGED: born(5, 512)}),
    fires("IngestSpoolDamaged", "found after a restart", {SPOOL_DAMAGED: last(5, 512)}),
    silent("IngestSpoolDamaged", "more than an hour ago",
           {SPOOL_DAMAGED: then(flat(0, 10), flat(512, 91))}, at=LONG),
    fires("NoEvents", "an ingress that never saw one", NO_TRAFFIC, at=LONG),
    fires("NoEvents", "no series of events at all", {EVENTS: None}, at=LONG),
    silent("NoEvents", "half an hour of silence", {EVENTS: then(ramp(100, 10), flat(60_000, 31))}),
    # --- workers
    fires("RoleDown", "a worker", {WORKER_UP: down(4)}),
    fires("RoleDown", "the sink, as Kubernetes names it",
          {'up{container="sink",instance="10.0.0.7:9100",job="mailpulse-sink",namespace="mail",'
           'pod="mailpulse-sink-5c-x"}': down(4)}),
    silent("RoleDown", "a restart of a minute", {WORKER_UP: down(1)}),
    fires("WorkersStalled", "none reads since",
          {enriched("enriched"): then(ramp(100, 30), flat(180_000, 11)), OWN_LAG: None}),
    fires("WorkersStalled", "none ever read, and nothing comes any more",
          {**NO_TRAFFIC, WORKERS_LAG: flat(3), enriched("enriched"): None}),
    silent("WorkersStalled", "nothing comes, nothing waits", NO_TRAFFIC),
    fires("WorkersBehind", "by a million", {WORKERS_LAG: flat(1e6)}),
    fires("WorkersBehind", "by their own account, without a sink's",
          {WORKERS_LAG: None, OWN_LAG: flat(1e6)}),
    fires("WorkersBehind", "all are away: by Kafka's account alone",
          {**{one: None for one in HEALTHY if WORKER in one}, WORKERS_LAG: flat(1e6),
           WORKER_UP: flat(0)}, "RoleDown", "WorkersStalled"),
    silent("WorkersBehind", "by less than half a million", {WORKERS_LAG: flat(4e5)}),
    fires("EventsLate", "by three minutes", {EVENT_AGE: flat(180), WORKERS_LAG: flat(9)}),
    silent("EventsLate", "the newest is old, but nothing waits", {EVENT_AGE: flat(7_200)}),
    fires("RestoreLong", "for half an hour", {RESTORING: last(30, 1)}),
    silent("RestoreLong", "for ten minutes", {RESTORING: last(10, 1)}),
    fires("StateDamaged", "once", {DAMAGED: last(5, 1)}),
    fires("StateDamaged", "born at its value", {DAMAGED: born(5, 1)}),
    silent("StateDamaged", "more than an hour ago",
           {DAMAGED: then(flat(0, 10), flat(1, 91))}, at=LONG),
    fires("SnapshotsFail", "each time for an hour", {SNAPSHOTS_FAILED: ramp(1 / 60)}, at=LONG),
    silent("SnapshotsFail", "two, while the store was restarted",
           {SNAPSHOTS_FAILED: then(flat(0, 60), flat(2, 41))}, at=LONG),
    fires("CheckpointSlow", "one in ten over five seconds",
          durations("checkpoint_seconds", WORKER, 9, 1, "5", stage="enrich")),
    silent("CheckpointSlow", "one in a thousand",
           durations("checkpoint_seconds", WORKER, 99.9, 0.1, "5", stage="enrich")),
    fires("StateLarge", "20 GB", {STATE: flat(2e10)}),
    silent("StateLarge", "10 GB", {STATE: flat(1e10)}),
    fires("EventsLost", "born at its value", {enriched("lost"): born(30, 70)}),
    silent("EventsLost", "replays and duplicates",
           {enriched("replayed"): ramp(10), enriched("duplicate"): ramp(10)}),
    fires("CorrectionsLost", "some", {CORRECTIONS_LOST: last(5, 3)}),
    silent("CorrectionsLost", "written, none lost",
           {of(WORKER, "enrich_corrections_total", result="written"): ramp(1)}),
    # --- dead letters
    fires("DeadLetters", "one in seven seconds", {enriched("dead_letter"): ramp(0.15)}),
    silent("DeadLetters", "one a minute", {enriched("dead_letter"): ramp(1 / 60)}),
    fires("DeadLetterBurst", "200 of one request, born at their value", {BAD_ITEMS: born(4, 200)}),
    fires("DeadLetterBurst", "200 after some long ago", {UNSTORABLE: last(4, 207, 7)}),
    fires("DeadLetterBurst", "a destination parks", {PARKED: last(5, 150)}),
    silent("DeadLetterBurst", "40 of each stage",
           {BAD_ITEMS: born(4, 40), UNSTORABLE: last(4, 40)}),
    silent("DeadLetterBurst", "200 some time ago", {BAD_ITEMS: born(25, 200)}),
    # --- sink
    fires("SourceSilent", "beyond its rhythm", {SILENCE: last(2, 7_200)}),
    silent("SourceSilent", "it came again", {SILENCE: then(flat(7_200, 20), absent(21))}),
    fires("SinkWithoutClickHouse", "for five minutes", {STORES: down(5)}),
    silent("SinkWithoutClickHouse", "while it starts", {STORES: down(1)}),
    fires("SinkBehind", "by two million", {SINK_LAG: flat(2e6)}),
    silent("SinkBehind", "after a rebalance two report it for a moment",
           {SINK_LAG: flat(2e6), SINK_LAG.replace("sink:9100", "sink-b:9100"): flat(10)}),
    fires("SinkRetries", "one in two seconds", {RETRIES: ramp(0.5)}),
    silent("SinkRetries", "one in ten", {RETRIES: ramp(0.1)}),
    fires("FiguresStale", "for a quarter of an hour",
          {THROUGH: then(ramp(1, 25), flat(1_500, 16))}),
    fires("FiguresStale", "the last sink is gone",
          {**{one: None for one in HEALTHY if SINK in one}, THROUGH: ramp(1, 20),
           SINK_UP: flat(1, 20)}, "RoleMissing"),
    silent("FiguresStale", "another sink took the partition",
           {THROUGH: ramp(1, 20),
            THROUGH.replace("sink:9100", "sink-b:9100"): then(absent(20), ramp(1, 21, 1_200))}),
    # --- the books
    fires("EventsMissing", "for half an hour", {MISSING: last(30, 2)}),
    silent("EventsMissing", "for ten minutes", {MISSING: last(10, 2)}),
    fires("EventsUnexplained", "for half an hour", {UNEXPLAINED: last(30, 1)}),
    silent("EventsUnexplained", "for ten minutes", {UNEXPLAINED: last(10, 1)}),
    fires("ReconciliationStale", "never compared", {COMPARED: flat(0)}, at=LONG),
    fires("ReconciliationStale", "no longer compared",
          {COMPARED: then(ramp(1, 20), flat(1_200, 81))}, at=LONG),
    silent("ReconciliationStale", "nobody is to compare",
           {ACTIVE: flat(0), COMPARED: flat(0)}, at=LONG),
    # --- destinations
    fires("DestinationDown", "for a quarter of an hour", {BREAKER: last(15, 1)}),
    silent("DestinationDown", "for five minutes", {BREAKER: last(5, 1)}),
    fires("DestinationLosesRecords", "in a day", {EXPIRES: flat(86_400)}),
    silent("DestinationLosesRecords", "in a week", {EXPIRES: flat(7 * 86_400)}),
    fires("DestinationLost", "three", {EXPIRED: last(5, 3)}),
    silent("DestinationLost", "parked are kept", {PARKED: last(5, 3)}),
    fires("DeliverDown", "does not answer", {DELIVER_UP: down(8)}),
    fires("DeliverDown", "its name is gone", {DELIVER_UP: flat(1, 25)}),
    silent("DeliverDown", "never used", {one: None for one in HEALTHY if DELIVER in one}),
    # --- around
    fires("DashboardDown", "for eight minutes", {DASHBOARD_UP: down(8)}),
    silent("DashboardDown", "for two minutes", {DASHBOARD_UP: down(2)}),
    fires("PeerDown", "the proxy", {CADDY_UP: down(4)}),
    fires("PeerDown", "the database", {CLICKHOUSE_UP: down(4)}),
    silent("PeerDown", "yours, which are not scraped here", {CADDY_UP: None, CLICKHOUSE_UP: None}),
    fires("Watchdog", "always", {}),
    fires("ProxyWithoutIngress", "both are not ready",
          {UPSTREAM % 1: last(3, 0, 1), UPSTREAM % 2: last(3, 0, 1)}),
    silent("ProxyWithoutIngress", "one is ready", {UPSTREAM % 1: flat(0), UPSTREAM % 2: flat(1)}),
    # --- objectives
    fires("AcceptBudgetFast", "two in a hundred", {requests("unavailable"): ramp(0.2)},
          "AcceptBudgetSlow", "IngestRefuses", at=LONG),
    silent("AcceptBudgetFast", "an hour ago: the short windows are clean",
           {requests("unavailable"): then(ramp(0.2, 15), flat(180, 86))},
           "AcceptBudgetSlow", at=LONG),
    silent("AcceptBudgetFast", "one request of forty in a quiet night",
           {**NO_TRAFFIC, EVENTS: ramp(1), enriched("enriched"): ramp(1),
            requests("accepted"): ramp(40 / 6_000),
            requests("unavailable"): then(flat(0, 97), flat(1, 4))}, at=LONG),
    fires("AcceptBudgetSlow", "four in a thousand", {requests("overloaded"): ramp(0.04)}, at=LONG),
    silent("AcceptBudgetSlow", "one in two thousand", {requests("overloaded"): ramp(0.005)},
           at=LONG),
    fires("VisibleBudgetFast", "two minutes behind",
          {THROUGH: then(ramp(1, 30), ramp(1, 71, 1_680))}, "VisibleBudgetSlow", at=LONG),
    silent("VisibleBudgetFast", "half a minute behind",
           {THROUGH: then(ramp(1, 30), ramp(1, 71, 1_770))}, at=LONG),
    fires("VisibleBudgetSlow", "minutes behind, an hour ago",
          {THROUGH: then(ramp(1, 30), flat(1_800, 4), ramp(1, 67, 2_040))}, at=LONG),
    silent("VisibleBudgetSlow", "all was well", {}, at=LONG),
)  # fmt: skip
