-- server only
-- What the sink needs to carry erasures out (analytics.sink.eraser): it looks for a person's rows,
-- changes those of events, and deletes those of suppressions.
GRANT SELECT ON events TO mailpulse_sink;

GRANT SELECT ON suppressions TO mailpulse_sink;

GRANT SELECT ON scoped_suppressions TO mailpulse_sink;

GRANT ALTER UPDATE, ALTER DELETE ON * TO mailpulse_sink;
