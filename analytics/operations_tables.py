"""Tables that no analyst's question needs: they are hidden by rights.

Invariants:
1. What they hold is read through views that ask with the rights of whoever migrated
   (``SQL SECURITY DEFINER``): ``freshness``, ``reconciliation``, ``pipeline_state``,
   ``dead_letter_counts``, ``stored_among``.
2. The embedded engine (``analytics.warehouse.access``), the role of a server's analysts
   (migrations) and compose's reader (``streams.cli.secret_files``) hide the same; a test compares
   them, and finds a table that is neither here nor among those that analysts know.
3. On a cluster their ``…_local`` tables stay visible: how a server asks another one with whose
   rights is the operator's to set up.
"""

HIDDEN = (
    "accepted",
    "dead_letters",
    "reconciled",
    "reconciliation_passes",
    "schema_migrations",
    "sink_progress",
    "source_newest",
    "source_newest_from_events",
    "source_slots",
    "source_slots_from_events",
    "stored",
    "stored_from_events",
    "stored_ids",
    "stored_ids_from_events",
)
"""Names of tables and materialized views."""
RIGHTS = "SELECT, SHOW TABLES, SHOW COLUMNS"
"""What is taken away on each."""
