-- Which campaigns bounce too much, and is it bad addresses or bad reputation?
SELECT campaign_id, sent, bounce_rate, hard_bounce_rate, soft_bounce_rate, block_bounce_rate
FROM campaign_summary
WHERE sent >= 100
ORDER BY bounce_rate DESC
LIMIT 20
