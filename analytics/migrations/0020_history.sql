-- Imported history (log_id history-…) was never on the raw topic: the comparison of what was accepted
-- with what is stored leaves it out.
ALTER TABLE stored_from_events MODIFY QUERY
SELECT toStartOfMinute(received_at) AS minute, source, event_id
FROM events
WHERE NOT startsWith(log_id, 'history-');

ALTER TABLE events COMMENT COLUMN received_by 'How it reached mailpulse: hook, pull (read from the provider\'s history) or command (entered by an operator, or imported: then log_id begins with history-).';
ALTER TABLE events COMMENT COLUMN received_at 'When ingress took the event in, UTC; of imported history the event\'s own time.';
ALTER TABLE events COMMENT COLUMN log_id 'Incarnation of the raw topic that the event was read from; history-… for an import.';
