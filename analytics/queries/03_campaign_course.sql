-- How did the busiest campaign go, hour by hour, in the last week?
WITH (SELECT argMax(campaign_id, events) FROM campaign_summary) AS busiest
SELECT toStartOfHour(minute) AS hour, sum(delivered) AS delivered, sum(opened) AS opened, sum(clicked) AS clicked
FROM campaign_minutes FINAL
WHERE campaign_id = busiest AND minute >= now() - INTERVAL 7 DAY
GROUP BY hour
ORDER BY hour
