"""The demo's simulated mail providers: traffic, signatures, and the books to check against.

Absences that hold: nothing here imports ``ingest``, ``analytics`` or the streams' own step; the
simulator is a second opinion, so it shares no code with what it checks.
"""
