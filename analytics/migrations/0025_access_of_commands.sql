-- server only
-- What commands ask with the sink's user: doctor the state of the database, backfill what is stored.
GRANT SELECT ON pipeline_state TO mailpulse_sink;

GRANT SELECT ON stored_among TO mailpulse_sink;
