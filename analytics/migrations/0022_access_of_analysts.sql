-- server only
-- Analysts get the right figure without knowing about FINAL: it is on, and can't be switched off.
ALTER SETTINGS PROFILE mailpulse_analyst_limits ADD SETTING final = 1 CONST;

-- Tables that no question needs (analytics.operations_tables).
REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON accepted FROM mailpulse_analyst;

REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON dead_letters FROM mailpulse_analyst;

REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON reconciled FROM mailpulse_analyst;

REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON reconciliation_passes FROM mailpulse_analyst;

REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON schema_migrations FROM mailpulse_analyst;

REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON sink_progress FROM mailpulse_analyst;

REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON source_newest FROM mailpulse_analyst;

REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON source_newest_from_events FROM mailpulse_analyst;

REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON source_slots FROM mailpulse_analyst;

REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON source_slots_from_events FROM mailpulse_analyst;

REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON stored FROM mailpulse_analyst;

REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON stored_from_events FROM mailpulse_analyst;

REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON stored_ids FROM mailpulse_analyst;

REVOKE SELECT, SHOW TABLES, SHOW COLUMNS ON stored_ids_from_events FROM mailpulse_analyst;
