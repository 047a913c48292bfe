-- Who should not be mailed again without a look, and is on no suppression list yet?
SELECT recipient, mailbox_provider, risk, hard_bounces, soft_bounces, complaints, last_trouble_at
FROM recipients_at_risk
WHERE NOT suppressed
ORDER BY last_trouble_at DESC
LIMIT 50
