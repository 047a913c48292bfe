"""One request's trace through the whole pipeline: ingress, worker, insert; in records and in
spans."""

import json
import time
from pathlib import Path

from schemas import topics
from tests.live import story
from tests.live.collector import Collector
from tests.live.kafka import Kafka
from tests.live.log_reading import all_records
from tests.live.roles import Pipeline
from tests.schemas.test_trace import GOOD, SPAN, TRACE

INSERT = f"insert {topics.ENRICHED}"


def test_a_trace_arrives_at_the_insert(own_kafka: Kafka, tmp_path: Path) -> None:
    """Only the traced request's event carries the trace; worker and sink link to it."""
    with Collector() as collector:
        otel = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "NO_PROXY": "127.0.0.1",
        }
        with Pipeline(
            own_kafka.bootstrap, tmp_path, story.CONFIG, story.SECRETS | otel,
        ) as pipeline:  # fmt: skip
            now = int(time.time()) - 60
            for name, headers in (("plain", {}), ("traced", {"traceparent": GOOD})):
                body = json.dumps([story.event("delivered", name, name, now)]).encode()
                assert story.post(pipeline.ingest_url, body, headers).status_code == 200
            pipeline.wait_caught_up()
            pipeline["sink-1"].wait_until(
                lambda: any(span.name == INSERT for span in collector.spans), "traced"
            )
            records = all_records(pipeline)
            for topic in (topics.RAW, topics.ENRICHED):
                headers_of_each = [dict(record.headers) for record in records[topic]]
                carried = [h["traceparent"] for h in headers_of_each if "traceparent" in h]
                assert len(headers_of_each) == 2
                assert [context[3:35].decode() for context in carried] == [TRACE]
            pipeline.stop()
            log = pipeline["sink-1"].log.read_text()
        spans = {(span.service, span.name): span for span in collector.spans}
    request = spans["mailpulse-ingest", "POST /hooks/shop"]
    assert (request.trace, request.parent) == (TRACE, SPAN)
    assert spans["mailpulse-worker", "enrich"].links == (TRACE,)
    assert spans["mailpulse-sink", INSERT].links == (TRACE,)
    assert TRACE in log
