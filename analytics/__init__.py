"""Stores the topics in ClickHouse and serves the figures to people.

Nothing here imports ``ingest`` or ``streams``, and nothing here counts events: the streams do, as
defined by the glossary.
"""
