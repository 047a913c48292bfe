"""Versioned rule tables of the judging functions: data, no behaviour.

Invariants:
1. Tables only. What is done with them stands in ``classify``, ``mailbox`` and ``machine``.
2. A change of any entry that can change a verdict raises that table's version; the version is
   written on every event that was judged by it.
3. Every entry has an example from a public source in ``tests/streams/``.
"""
