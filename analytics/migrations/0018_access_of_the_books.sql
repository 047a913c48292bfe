-- server only
-- What is looked for beside the sink (streams.books) reads these; a view asks with the rights of
-- whoever asks it.
GRANT SELECT ON source_slots TO mailpulse_sink;

GRANT SELECT ON source_incidents TO mailpulse_sink;

GRANT SELECT ON source_incident_changes TO mailpulse_sink;

GRANT SELECT ON freshness TO mailpulse_sink;

GRANT SELECT ON source_newest TO mailpulse_sink;

GRANT SELECT ON campaign_rates TO mailpulse_sink;

GRANT SELECT ON sink_progress TO mailpulse_sink;
