-- How much of the opening and clicking is done by machines, and how do we know?
SELECT
    event_type,
    actor,
    actor_reason,
    sum(events) AS total,
    total / sum(total) OVER (PARTITION BY event_type) AS share
FROM machine_activity
GROUP BY event_type, actor, actor_reason
ORDER BY event_type, total DESC
