-- Imported history (log_id history-…) was never on the raw topic: the comparison of what was accepted
-- with what is stored leaves it out.
ALTER TABLE stored_from_events MODIFY QUERY
SELECT toStartOfMinute(received_at) AS minute, source, event_id
FROM events
WHERE NOT startsWith(log_id, 'history-');

ALTER TABLE stored_from_events COMMENT COLUMN minute 'Minute in which ingress took in the record that was kept, UTC.';
ALTER TABLE stored_from_events COMMENT COLUMN source 'Source of that record.';
ALTER TABLE stored_from_events COMMENT COLUMN event_id 'Identity of the event.';
