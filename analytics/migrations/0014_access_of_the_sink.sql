-- server only
-- What the sink needs beyond its inserts. It reads what it compares with: the known facts of a
-- campaign, and the reconciliation (a view asks with the rights of whoever asks it). Its inserts
-- read their data by the table function input(), which asks for CREATE TEMPORARY TABLE before
-- ClickHouse 26.5; that right exists for the whole server only, and its tables end with a session.
GRANT SELECT ON campaigns TO mailpulse_sink;

GRANT SELECT ON reconciliation TO mailpulse_sink;

GRANT SELECT ON reconciled TO mailpulse_sink;

GRANT SELECT ON reconciliation_passes TO mailpulse_sink;

GRANT SELECT ON accepted TO mailpulse_sink;

GRANT SELECT ON stored TO mailpulse_sink;

GRANT SELECT ON stored_ids TO mailpulse_sink;

GRANT SELECT ON dead_letters TO mailpulse_sink;

GRANT CREATE TEMPORARY TABLE ON *.* TO mailpulse_sink;

-- A quota without a key is one for all analysts together: the first to use it up locks out the rest.
CREATE QUOTA OR REPLACE mailpulse_analyst_quota KEYED BY user_name
    FOR INTERVAL 1 hour MAX queries = 10000, execution_time = 3600
    TO mailpulse_analyst;
