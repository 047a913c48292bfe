-- At which mailbox provider does each campaign do worst?
SELECT campaign_id, mailbox_provider, sent, bounce_rate, complaint_rate, open_rate
FROM mailbox_providers
WHERE sent >= 20
ORDER BY bounce_rate DESC
LIMIT 1 BY campaign_id
