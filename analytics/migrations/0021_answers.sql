-- How soon people open. Quantiles are exact (of each first human open whose delivery is known).
CREATE OR REPLACE VIEW time_to_open
(
    campaign_id       LowCardinality(String) COMMENT 'Campaign; an empty text collects what no campaign is known for.',
    messages          UInt64 COMMENT 'Messages with a first human open and a known delivery, each once.',
    within_1_hour     UInt64 COMMENT 'Of these, opened within an hour of their delivery.',
    within_4_hours    UInt64 COMMENT 'Of these, opened within 4 hours of their delivery.',
    within_1_day      UInt64 COMMENT 'Of these, opened within 24 hours of their delivery.',
    within_3_days     UInt64 COMMENT 'Of these, opened within 72 hours of their delivery.',
    seconds_first_quarter Float64 COMMENT 'Seconds from delivery to open that a quarter of the messages took at most.',
    seconds_median    Float64 COMMENT 'Seconds from delivery to open that half of the messages took at most.',
    seconds_third_quarter Float64 COMMENT 'Seconds from delivery to open that three quarters of the messages took at most.',
    seconds_nine_tenths Float64 COMMENT 'Seconds from delivery to open that nine tenths of the messages took at most.'
)
COMMENT 'How soon after delivery people open, one row per campaign. The counts may be added up over campaigns; the seconds must not be added or averaged: ask email_events for quantiles over several campaigns. Of a young campaign late opens are still to come.'
AS SELECT
    e.campaign_id AS campaign_id,
    count() AS messages,
    countIf(e.seconds_since_delivery <= 3600) AS within_1_hour,
    countIf(e.seconds_since_delivery <= 14400) AS within_4_hours,
    countIf(e.seconds_since_delivery <= 86400) AS within_1_day,
    countIf(e.seconds_since_delivery <= 259200) AS within_3_days,
    quantileExactLow(0.25)(assumeNotNull(e.seconds_since_delivery)) AS seconds_first_quarter,
    quantileExactLow(0.5)(assumeNotNull(e.seconds_since_delivery)) AS seconds_median,
    quantileExactLow(0.75)(assumeNotNull(e.seconds_since_delivery)) AS seconds_third_quarter,
    quantileExactLow(0.9)(assumeNotNull(e.seconds_since_delivery)) AS seconds_nine_tenths
FROM events AS e FINAL
WHERE e.event_type = 'opened' AND e.first_human AND e.seconds_since_delivery IS NOT NULL
GROUP BY campaign_id;

-- Does more mail hurt? Recipients by how many messages they were delivered in 30 days, and what
-- became of these messages. A message counts once for each of its outcomes.
CREATE OR REPLACE VIEW recipient_frequency
(
    messages_each     UInt64 COMMENT 'Messages that each of these recipients was delivered in the last 30 days.',
    recipients        UInt64 COMMENT 'Recipients who were delivered so many.',
    delivered         UInt64 COMMENT 'Messages delivered to them: messages_each * recipients.',
    opened            UInt64 COMMENT 'Of these messages, opened by a human.',
    clicked           UInt64 COMMENT 'Of these messages, clicked by a human, unsubscribe links excluded.',
    complained        UInt64 COMMENT 'Of these messages, reported as spam.',
    unsubscribed      UInt64 COMMENT 'Of these messages, unsubscribed.',
    open_rate         Nullable(Float64) COMMENT 'opened / delivered.',
    click_rate        Nullable(Float64) COMMENT 'clicked / delivered.',
    complaint_rate    Nullable(Float64) COMMENT 'complained / delivered.',
    unsubscribe_rate  Nullable(Float64) COMMENT 'unsubscribed / delivered.'
)
COMMENT 'Recipients by how many messages they were delivered in the last 30 days. Each recipient is in one row, so recipients may be added up; rates must not be added or averaged: divide the sums.'
AS SELECT
    messages_each,
    count() AS recipients,
    sum(r.delivered) AS delivered,
    sum(r.opened) AS opened,
    sum(r.clicked) AS clicked,
    sum(r.complained) AS complained,
    sum(r.unsubscribed) AS unsubscribed,
    opened / nullIf(delivered, 0) AS open_rate,
    clicked / nullIf(delivered, 0) AS click_rate,
    complained / nullIf(delivered, 0) AS complaint_rate,
    unsubscribed / nullIf(delivered, 0) AS unsubscribe_rate
FROM
(
    SELECT
        m.identity AS identity,
        count() AS messages_each,
        count() AS delivered,
        countIf(m.opened) AS opened,
        countIf(m.clicked) AS clicked,
        countIf(m.complained) AS complained,
        countIf(m.unsubscribed) AS unsubscribed
    FROM
    (
        SELECT
            any(e.recipient_identity) AS identity,
            countIf(e.event_type = 'delivered' AND e.first_of_kind) > 0 AS delivered,
            countIf(e.event_type = 'opened' AND e.first_human) > 0 AS opened,
            countIf(e.event_type = 'clicked' AND e.first_human) > 0 AS clicked,
            countIf(e.event_type = 'complained' AND e.first_of_kind) > 0 AS complained,
            countIf(e.event_type = 'unsubscribed' AND e.first_of_kind) > 0 AS unsubscribed
        FROM events AS e FINAL
        WHERE e.event_time > now() - INTERVAL 30 DAY AND e.recipient_identity != '' AND e.recipient_certain
        GROUP BY e.message_key
        HAVING delivered
    ) AS m
    GROUP BY m.identity
) AS r
GROUP BY messages_each;

-- Two campaigns side by side, at equal age: what happened within as many seconds of the first delivery
-- as the younger one has had. The interval of the difference is Newcombe's (1998, method 10), of two
-- Wilson intervals at 95 %.
-- Parameters: a and b, campaigns.
-- SELECT rate, value_a, value_b, difference, low, high, is_real FROM compare(a = 'spring', b = 'autumn')
CREATE OR REPLACE VIEW compare
COMMENT 'Two campaigns side by side, at equal age. Parameters: a and b, campaigns. Columns: rate: name in the glossary; numerator_a: of campaign a, messages with this outcome; denominator_a: messages that they are a share of; value_a: numerator_a / denominator_a, NULL without messages; numerator_b: of campaign b; denominator_b: likewise; value_b: likewise; difference: value_a - value_b; low: lower end of its interval at 95 %; high: upper end; is_real: true if the interval excludes 0; age_s: what happened within so many seconds of each campaign\'s first delivery counts. Bounces: campaign_summary.'
AS SELECT
    rate,
    numerator_a,
    denominator_a,
    value_a,
    numerator_b,
    denominator_b,
    value_b,
    value_a - value_b AS difference,
    difference - sqrt(pow(value_a - wilson_a.1, 2) + pow(wilson_b.2 - value_b, 2)) AS low,
    difference + sqrt(pow(wilson_a.2 - value_a, 2) + pow(value_b - wilson_b.1, 2)) AS high,
    ifNull(low > 0 OR high < 0, false) AS is_real,
    age_s
FROM
(
    WITH
        1.959963984540054 AS z
    SELECT
        figures.1 AS rate,
        figures.2 AS numerator_a,
        figures.3 AS denominator_a,
        figures.4 AS numerator_b,
        figures.5 AS denominator_b,
        nullIf(denominator_a, 0) AS n_a,
        nullIf(denominator_b, 0) AS n_b,
        numerator_a / n_a AS value_a,
        numerator_b / n_b AS value_b,
        z * sqrt(value_a * (1 - value_a) / n_a + z * z / (4 * n_a * n_a)) AS half_a,
        z * sqrt(value_b * (1 - value_b) / n_b + z * z / (4 * n_b * n_b)) AS half_b,
        ((value_a + z * z / (2 * n_a) - half_a) / (1 + z * z / n_a), (value_a + z * z / (2 * n_a) + half_a) / (1 + z * z / n_a)) AS wilson_a,
        ((value_b + z * z / (2 * n_b) - half_b) / (1 + z * z / n_b), (value_b + z * z / (2 * n_b) + half_b) / (1 + z * z / n_b)) AS wilson_b,
        age_s
    FROM
    (
        SELECT
            arrayJoin([
                ('open_rate', countIf(side = 'a' AND opened), countIf(side = 'a' AND delivered), countIf(side = 'b' AND opened), countIf(side = 'b' AND delivered)),
                ('click_rate', countIf(side = 'a' AND clicked), countIf(side = 'a' AND delivered), countIf(side = 'b' AND clicked), countIf(side = 'b' AND delivered)),
                ('click_to_open_rate', countIf(side = 'a' AND opened AND clicked), countIf(side = 'a' AND opened), countIf(side = 'b' AND opened AND clicked), countIf(side = 'b' AND opened)),
                ('complaint_rate', countIf(side = 'a' AND complained), countIf(side = 'a' AND delivered), countIf(side = 'b' AND complained), countIf(side = 'b' AND delivered)),
                ('unsubscribe_rate', countIf(side = 'a' AND unsubscribed), countIf(side = 'a' AND delivered), countIf(side = 'b' AND unsubscribed), countIf(side = 'b' AND delivered))
            ]) AS figures,
            any(m.age_s) AS age_s
        FROM
        (
            WITH
            (
                SELECT minOrNull(d.event_time) FROM events AS d FINAL
                WHERE d.campaign_id = {a:String} AND d.event_type = 'delivered' AND d.first_of_kind
            ) AS begun_a,
            (
                SELECT minOrNull(d.event_time) FROM events AS d FINAL
                WHERE d.campaign_id = {b:String} AND d.event_type = 'delivered' AND d.first_of_kind
            ) AS begun_b,
            dateDiff('millisecond', begun_a, now64(3)) / 1000 AS age_a,
            dateDiff('millisecond', begun_b, now64(3)) / 1000 AS age_b,
            least(ifNull(age_a, age_b), ifNull(age_b, age_a)) AS age_s,
            dateDiff('millisecond', if(e.campaign_id = {a:String}, begun_a, begun_b), e.event_time) / 1000 < age_s AS counts
            SELECT
                -- both, when a campaign is compared with itself
                arrayJoin(arrayFilter(s -> e.campaign_id = if(s = 'a', {a:String}, {b:String}), ['a', 'b'])) AS side,
                age_s,
                countIf(counts AND e.event_type = 'delivered' AND e.first_of_kind) > 0 AS delivered,
                delivered AND countIf(counts AND e.event_type = 'opened' AND e.first_human) > 0 AS opened,
                delivered AND countIf(counts AND e.event_type = 'clicked' AND e.first_human) > 0 AS clicked,
                delivered AND countIf(counts AND e.event_type = 'complained' AND e.first_of_kind) > 0 AS complained,
                delivered AND countIf(counts AND e.event_type = 'unsubscribed' AND e.first_of_kind) > 0 AS unsubscribed
            FROM events AS e FINAL
            WHERE e.campaign_id IN ({a:String}, {b:String})
            GROUP BY side, e.message_key
        ) AS m
    )
);

-- Links with their share of the people who clicked.
CREATE OR REPLACE VIEW click_url_group
(
    campaign_id       LowCardinality(String) COMMENT 'Campaign; an empty text collects what no campaign is known for.',
    click_url_group   String COMMENT 'Link, without the parameters that say who clicked, as in links.',
    messages          UInt64 COMMENT 'Messages in which a human clicked it, each once.',
    clicks            UInt64 COMMENT 'Clicks by humans, repeats included.',
    clicked           UInt64 COMMENT 'Messages of the campaign in which a human clicked any of its links, each once.',
    share             Nullable(Float64) COMMENT 'messages / clicked: share of the clickers that clicked this link.',
    click_urls        UInt64 COMMENT 'Different links as they were clicked.',
    click_url         String COMMENT 'One of these, as an example that can be followed.'
)
COMMENT 'Links of each campaign that people clicked, without unsubscribe links, with their share of all clickers. Who clicked two links counts in both, so shares add up to more than 1, and messages must not be added up over links: clicked has each once.'
AS SELECT
    l.campaign_id AS campaign_id,
    l.click_url_group AS click_url_group,
    l.messages AS messages,
    l.clicks AS clicks,
    ifNull(c.clicked, 0) AS clicked,
    messages / nullIf(clicked, 0) AS share,
    l.click_urls AS click_urls,
    l.click_url AS click_url
FROM (SELECT * FROM links WHERE NOT unsubscribe_link AND messages > 0) AS l
LEFT JOIN
(
    SELECT e.campaign_id AS campaign_id, uniqExact(e.message_key) AS clicked
    FROM events AS e FINAL
    WHERE e.event_type = 'clicked' AND e.actor = 'human' AND NOT e.unsubscribe_link
    GROUP BY campaign_id
) AS c ON l.campaign_id = c.campaign_id;
