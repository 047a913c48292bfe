"""Spans by OpenTelemetry: off without an endpoint, an error without the extra, else as
configured."""

import subprocess
import sys

import pytest
from opentelemetry import trace as otel

from schemas import trace
from schemas.errors import ConfigError
from schemas.trace import Tracer
from streams.cli.telemetry import Telemetry, tracer_of
from tests.live.collector import Collector
from tests.schemas.test_trace import GOOD, SPAN, TRACE

UNSAMPLED = f"00-{TRACE}-{SPAN}-00".encode()
SAMPLED = GOOD.encode()


def tracer(role: str, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Tracer:
    """A role's tracer that sends to ``collector``."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = tracer_of({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}, role)
    assert made is not None
    return made


def flush(made: Tracer) -> None:
    """Sends what is queued."""
    assert isinstance(made, Telemetry)
    made.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_off_unless_an_endpoint_is_set(environ: dict[str, str]) -> None:
    """No tracer: nothing is recorded."""
    assert tracer_of(environ, "worker") is None


def test_nothing_is_imported_while_it_is_off() -> None:
    """A role without an endpoint does not load OpenTelemetry."""
    script = (
        "import sys; from streams.cli.telemetry import tracer_of;"
        "assert tracer_of({}, 'worker') is None;"
        "import streams.worker.worker, ingest.app, analytics.sink.sink;"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-P", "-c", script], check=False).returncode == 0


def test_endpoint_without_the_extra_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the setting and what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(ConfigError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT.*mailpulse\[otel\]"):
        tracer_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, "sink")


def test_another_protocol_is_an_error() -> None:
    """Spans must not be sent to something that can't read them."""
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_PROTOCOL"):
        tracer_of(given, "sink")


def test_a_request_continues_its_callers_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The span's parent is the caller's, and records carry the span."""
    with Collector() as collector:
        made = tracer("ingest", collector, monkeypatch)
        with trace.span(made, "POST", "server", parent=SAMPLED, attributes={}) as handed_on:
            assert trace.trace_id(handed_on) == TRACE
            assert handed_on != SAMPLED
            assert trace.traceparent(handed_on.decode()) == handed_on
        with trace.span(made, "POST", "server", attributes={}) as handed_on:
            assert handed_on == b"", "no trace is begun unless a sampler is set"
        flush(made)
        [seen] = collector.spans
    assert (seen.service, seen.trace, seen.parent) == ("mailpulse-ingest", TRACE, SPAN)


def test_a_batch_is_one_span_with_links_to_what_is_sampled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unsampled traces create neither span nor link; an error is recorded."""
    with Collector() as collector:
        made = tracer("sink", collector, monkeypatch)
        with trace.span(made, "insert", "consumer", links=[UNSAMPLED], attributes={}):
            pass
        with (
            pytest.raises(ValueError, match="no"),
            trace.span(made, "insert", "consumer", links=[UNSAMPLED, SAMPLED], attributes={"n": 2}),
        ):
            raise ValueError("no")
        flush(made)
        [seen] = collector.spans
    assert seen.links == (TRACE,)
    assert seen.failed
    assert otel.get_current_span() is otel.INVALID_SPAN, "nothing is left behind in the process"
