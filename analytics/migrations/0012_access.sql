-- server only
-- Roles and limits. They are granted to users that the operator makes; mailpulse stores no
-- passwords:  CREATE USER ada IDENTIFIED BY '…'; GRANT mailpulse_analyst TO ada;
CREATE SETTINGS PROFILE IF NOT EXISTS mailpulse_analyst_limits SETTINGS
    readonly = 2,
    session_timezone = 'UTC',
    max_execution_time = 60 MAX 600,
    max_memory_usage = 4000000000 MAX 16000000000,
    max_threads = 4 MAX 16;

CREATE ROLE IF NOT EXISTS mailpulse_analyst SETTINGS PROFILE mailpulse_analyst_limits;

CREATE ROLE IF NOT EXISTS mailpulse_sink;

CREATE QUOTA IF NOT EXISTS mailpulse_analyst_quota
    FOR INTERVAL 1 hour MAX queries = 10000, execution_time = 3600
    TO mailpulse_analyst;

GRANT SELECT, SHOW ON * TO mailpulse_analyst;

GRANT INSERT, SHOW ON * TO mailpulse_sink;

GRANT SELECT ON schema_migrations TO mailpulse_sink;
