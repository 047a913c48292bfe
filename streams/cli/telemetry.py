"""Spans for OpenTelemetry, if its endpoint is set; needs the extra ``otel``.

Invariants:
1. Configured by OpenTelemetry's own environment variables: ``OTEL_EXPORTER_OTLP_ENDPOINT`` switches
   it on; ``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER``, ``OTEL_BSP_*`` and the others have their
   usual meaning. OTLP over HTTP only.
2. Without an endpoint nothing is imported. With one but without the extra the process does not
   start, as spans would otherwise be missing silently.
3. The caller decides what is traced: by default ingress starts no trace of its own;
   ``OTEL_TRACES_SAMPLER=parentbased_traceidratio`` makes it.
4. Spans are sent by a thread of their own, from a bounded queue; while the collector is unavailable
   spans are lost and nothing else.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from schemas.errors import ConfigError
from schemas.trace import Kind, Tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span, SpanContext

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SAMPLER = "OTEL_TRACES_SAMPLER"


def tracer_of(environ: Mapping[str, str], role: str) -> Tracer | None:
    """The tracer of a role's process; ``None`` if no endpoint is set or tracing is disabled.

    Raises:
        ConfigError: the extra is missing, or another protocol is configured.
    """
    wanted = next((name for name in ENDPOINTS if environ.get(name)), None)
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if wanted is None or off or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    for name in _PROTOCOLS:
        if environ.get(name, "") not in ("", "http/protobuf"):
            raise ConfigError([f"{name}: only http/protobuf"])
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigError(
            [f"{wanted}: is set, but OpenTelemetry is missing: pip install 'mailpulse[otel]'"]
        ) from None
    processor = BatchSpanProcessor(OTLPSpanExporter())
    return Telemetry(_provider(role, environ, processor))


def _provider(
    role: str, environ: Mapping[str, str], processor: "SpanProcessor"
) -> "TracerProvider":
    """Samples by invariant 3; other roles start spans for sampled traces only."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler

    sampler: Sampler | None = ALWAYS_ON
    if role == "ingest":  # None: OpenTelemetry reads the environment
        sampler = None if environ.get(_SAMPLER) else ParentBased(ALWAYS_OFF)
    service = environ.get("OTEL_SERVICE_NAME") or f"mailpulse-{role}"
    provider = TracerProvider(sampler=sampler, resource=Resource.create({SERVICE_NAME: service}))
    provider.add_span_processor(processor)
    return provider


class Telemetry:
    """``schemas.trace.Tracer`` on OpenTelemetry's SDK.

    Args:
        provider: sends the spans; shut down by ``close``.
    """

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("mailpulse")

    def close(self) -> None:
        """Sends the queued spans; waits as long as OpenTelemetry's limits allow."""
        self._provider.shutdown()

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: bytes,
        links: Sequence[bytes],
        attributes: Mapping[str, str | int],
        began_s: float,
    ) -> "Recorded":
        """See ``schemas.trace.Tracer``."""
        from opentelemetry import trace as otel
        from opentelemetry.context import Context

        kinds = {"server": otel.SpanKind.SERVER, "consumer": otel.SpanKind.CONSUMER}
        context = Context()
        if parent:
            remote = otel.NonRecordingSpan(_remote(parent))
            context = otel.set_span_in_context(remote, context)
        return Recorded(
            self._tracer.start_span(
                name, context, kinds[kind], attributes,
                links=[otel.Link(_remote(link)) for link in links],
                start_time=int(began_s * 1e9) or None,
            )
        )  # fmt: skip


class Recorded:
    """``schemas.trace.Span`` on OpenTelemetry's."""

    def __init__(self, span: "Span") -> None:
        self._span = span
        given = span.get_span_context()
        self.context = (
            f"00-{given.trace_id:032x}-{given.span_id:016x}-{given.trace_flags:02x}".encode()
        )

    def end(self, error: str = "") -> None:
        """See ``schemas.trace.Span``."""
        from opentelemetry.trace import StatusCode

        if error:
            self._span.set_status(StatusCode.ERROR, error)
        self._span.end()


def _remote(context: bytes) -> "SpanContext":
    """The span context of a valid ``traceparent``."""
    from opentelemetry.trace import SpanContext, TraceFlags

    _, trace, span, flags = context.decode().split("-")
    return SpanContext(int(trace, 16), int(span, 16), True, TraceFlags(int(flags, 16)))
