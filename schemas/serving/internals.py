"""The internals of uvicorn that listeners rely on, in one list.

Invariant: what is missing is found at start, with the version that has it, and not by a request.
"""

from uvicorn import server
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from schemas import internals

PINNED = {"uvicorn": "0.54.0", "httptools": "0.9.0"}
"""The versions that listeners were written and tested for."""

RELIED_ON: internals.ReliedOn = (
    (httptools_impl, "STATUS_LINE"),
    (server.Server, "capture_signals startup server_state"),
    (HttpToolsProtocol, "app client config cycle headers loop parser pipeline scope transport"),
    (HttpToolsProtocol, "connection_made connection_lost data_received pause_writing"),
    (HttpToolsProtocol, "resume_writing timeout_keep_alive_handler on_message_begin on_header"),
    (HttpToolsProtocol, "on_headers_complete on_body on_message_complete on_response_complete"),
    (HttpToolsProtocol, "_unset_keepalive_if_required _unsupported_upgrade_warning"),
    (RequestResponseCycle, "body default_headers disconnected flow keep_alive message_event"),
    (RequestResponseCycle, "more_body on_response response_complete response_started scope"),
    (RequestResponseCycle, "transport waiting_for_100_continue"),
)


def check_internals() -> None:
    """Looks for everything that listeners rely on.

    Raises:
        InternalsMissing: see ``schemas.internals``.
    """
    internals.check_internals(RELIED_ON, PINNED, "A listener")
