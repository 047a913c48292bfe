"""The embedded ClickHouse engine and the process that owns its directory."""
