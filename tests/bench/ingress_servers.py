"""The servers that the ingress bench compares, each as a process of its own.

``python -m tests.bench.ingress_servers NAME PORT`` with NAME one of ``mailpulse``,
``anymail-uvicorn``, ``noop``; gunicorn takes ``tests.bench.ingress_servers:anymail_wsgi()``, or
``…:anymail_kafka_wsgi()`` (``tests/bench/anymail_kafka.py``). Their settings come from the
environment: ``BENCH_PUBLIC_KEY``, ``BENCH_KAFKA``.

Invariants:
1. One process and one worker each; signature checks on; logs off where a server allows that,
   mailpulse's one line per request on, written to a file.
2. anymail does what its documentation says an application does: it parses and calls a receiver.
   With a producer, the receiver writes to Kafka, and 200 means what it means of mailpulse.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PATHS = {
    "mailpulse": "/hooks/bench",
    "anymail-gunicorn": "/anymail/sendgrid/tracking/",
    "anymail-kafka": "/anymail/sendgrid/tracking/",
    "anymail-uvicorn": "/anymail/sendgrid/tracking/",
    "noop": "/noop",
}


def mailpulse(port: int) -> None:
    """mailpulse's own server, as ``mailpulse ingest`` runs it."""
    import uvloop

    from ingest.server import serve
    from schemas.settings import Source, load_settings
    from streams.cli import logs

    log_file = Path(os.environ["BENCH_LOG"]).open("w", encoding="utf-8")
    settings = load_settings(
        {
            "MAILPULSE_KAFKA_BOOTSTRAP": os.environ["BENCH_KAFKA"],
            "MAILPULSE_INGEST_PORT": str(port),
        },
        Path.read_text,
    )
    logs.configure(settings, "ingest", log_file)
    source = Source(name="bench", provider="sendgrid", public_key=(os.environ["BENCH_PUBLIC_KEY"],))
    uvloop.run(serve(settings, {"bench": source}))


def _django(receive: Callable[..., None] | None = None, middleware: Sequence[str] = ()) -> None:
    """Configures Django with nothing but anymail's webhooks.

    Args:
        receive: anymail's receiver; default: it counts.
        middleware: names of Django middleware.
    """
    import django
    from anymail.signals import tracking
    from django.conf import settings
    from django.urls import include, path

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    urls = type(sys)("bench_urls")
    sys.modules["bench_urls"] = urls
    settings.configure(
        SECRET_KEY="bench",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="bench_urls",
        INSTALLED_APPS=["anymail"],
        MIDDLEWARE=list(middleware),
        ANYMAIL={
            "SENDGRID_TRACKING_WEBHOOK_VERIFICATION_KEY": os.environ["BENCH_PUBLIC_KEY"],
        },
    )
    django.setup()
    urls.urlpatterns = [path("anymail/", include("anymail.urls"))]  # type: ignore[attr-defined]

    def count(sender: object, event: object, esp_name: str, **more: object) -> None:
        _COUNTED[0] += 1

    tracking.connect(receive or count, weak=False)


_COUNTED = [0]


def anymail_wsgi() -> Any:
    """anymail as a WSGI application."""
    _django()
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def anymail_kafka_wsgi() -> Any:
    """anymail as a WSGI application that keeps what it is told in Kafka."""
    from tests.bench import anymail_kafka

    _django(anymail_kafka.receive, [f"{anymail_kafka.__name__}.kept_before_answered"])
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def anymail_asgi() -> Any:
    """anymail as an ASGI application."""
    _django()
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


def noop() -> Any:
    """A Starlette route that reads the body and says 200."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def answer(request: Request) -> Response:
        await request.body()
        return Response(b'{"accepted":1,"rejected":0}', media_type="application/json")

    return Starlette(routes=[Route("/noop", answer, methods=["POST"])])


def _uvicorn(app: Any, port: int) -> None:
    import uvicorn

    uvicorn.run(
        app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", log_config=None,
        access_log=False, lifespan="off",
    )  # fmt: skip


def main() -> None:
    """Runs the server that the command line names."""
    name, port = sys.argv[1], int(sys.argv[2])
    if name == "mailpulse":
        mailpulse(port)
    else:
        _uvicorn({"anymail-uvicorn": anymail_asgi, "noop": noop}[name](), port)


if __name__ == "__main__":
    main()
