"""Versioned tables of rules for ``streams.classify``: data, no behaviour.

Invariants:
1. A change that can change a verdict raises the table's version, which is written to every event
   that was classified with it.
2. Every entry has an example from a public source in ``tests/streams/``.
"""
