-- Why do messages bounce, over all campaigns, and what did the servers say last?
SELECT bounce_class, bounce_reason, enhanced_status, sum(messages) AS messages, argMax(latest_diagnostic, last_at) AS latest
FROM bounce_reasons
GROUP BY bounce_class, bounce_reason, enhanced_status
ORDER BY messages DESC
LIMIT 20
