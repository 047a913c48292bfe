-- How long after delivery do people open, by mailbox provider?
SELECT mailbox_provider, count() AS opens, quantiles(0.25, 0.5, 0.9)(seconds_since_delivery) AS seconds
FROM email_events
WHERE event_type = 'opened' AND first_human AND seconds_since_delivery IS NOT NULL
GROUP BY mailbox_provider
ORDER BY opens DESC
