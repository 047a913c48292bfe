INSERT INTO campaign_minutes
(campaign_id, mailbox_provider, minute, log_id, partition, offset, events, delivered, bounced_hard,
 bounced_soft, bounced_block, bounced_undetermined, bounced_late, suppressed, deferred, opened,
 opened_any, clicked, clicked_any, opens, clicks, machine_opens, machine_clicks, complained,
 unsubscribed, cohort_bounced_late, cohort_opened, cohort_opened_any, cohort_clicked,
 cohort_clicked_any, cohort_opened_clicked, cohort_complained, cohort_unsubscribed,
 opened_at_most, clicked_at_most, cohort_opened_at_most, cohort_clicked_at_most)
SELECT
    concat(['spring-sale', 'welcome', 'newsletter', 'win-back', 'product-news'][c % 5 + 1], '-', toString(c)),
    ['gmail', 'microsoft', 'yahoo', 'apple'][n % 4 + 1],
    toStartOfMinute(now()) - toIntervalMinute(intDiv(k * {days} * 1440, 360)) - toIntervalMinute(c % 7),
    'log', 0, 1,
    d * 2, d, intDiv(d * (1 + c % 3), 150), intDiv(d, 90), intDiv(d, 300), 0, intDiv(d, 400), intDiv(d, 200), 0,
    intDiv(d, 4), intDiv(d, 2), intDiv(d, 25), intDiv(d, 18), intDiv(d, 3), intDiv(d, 22), intDiv(d, 3), intDiv(d, 60),
    intDiv(d + cityHash64(c, n) % 900, 900), intDiv(d, 600), intDiv(d, 400), intDiv(d, 4), intDiv(d, 2), intDiv(d, 25), intDiv(d, 18), intDiv(d, 30), intDiv(d + cityHash64(c, n) % 900, 900), intDiv(d, 600),
    intDiv(d, 3), intDiv(d, 22), intDiv(d, 3), intDiv(d, 22)
FROM
(
    SELECT number % {campaigns} AS c, intDiv(number, {campaigns}) AS n, intDiv(n, 4) AS k,
        100 + cityHash64(number) % 900 AS d
    FROM numbers({campaigns} * 360 * 4)
)
