-- server only
-- What is looked for beside the sink (streams.books) reads these too.
GRANT SELECT ON source_requests TO mailpulse_sink;

GRANT SELECT ON source_refusals TO mailpulse_sink;
