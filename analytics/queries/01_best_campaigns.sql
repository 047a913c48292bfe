-- Which campaigns do people click most, of those that reached at least 100 messages?
SELECT campaign_id, name, delivered, click_rate, open_rate, click_to_open_rate
FROM campaign_summary
WHERE delivered >= 100
ORDER BY click_rate DESC
LIMIT 20
