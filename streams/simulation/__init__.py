"""Simulated mail providers: traffic, signatures, and a ledger of what was sent.

Nothing here imports ``ingest``, ``analytics`` or the enrich step: what checks mailpulse shares no
code with what it checks.
"""
