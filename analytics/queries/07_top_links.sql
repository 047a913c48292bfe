-- Which links do people click, scanners left out?
SELECT campaign_id, click_url_group, messages, clicks, machine_clicks
FROM links
WHERE NOT unsubscribe_link
ORDER BY messages DESC
LIMIT 20
