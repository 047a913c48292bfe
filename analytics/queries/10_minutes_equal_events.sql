-- Do the counts of campaign_summary and a recount of single events agree? (They should: no rows.)
SELECT campaign_id, delivered, recount.delivered_events, opened, recount.opened_events, clicked, recount.clicked_events
FROM campaign_summary
FULL JOIN
(
    SELECT
        campaign_id,
        countIf(event_type = 'delivered' AND first_of_kind) AS delivered_events,
        countIf(event_type = 'opened' AND first_human) AS opened_events,
        countIf(event_type = 'clicked' AND first_human) AS clicked_events
    FROM email_events
    GROUP BY campaign_id
) AS recount USING (campaign_id)
WHERE (delivered, opened, clicked) != (recount.delivered_events, recount.opened_events, recount.clicked_events)
