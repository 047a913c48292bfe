-- Every event once, in its last revision: the table for questions that no other view answers.
CREATE OR REPLACE VIEW email_events
COMMENT 'Every event once, in its last revision.'
AS SELECT * EXCEPT (version, is_deleted) FROM events FINAL;

-- Why messages bounced.
CREATE OR REPLACE VIEW bounce_reasons
(
    campaign_id       LowCardinality(String) COMMENT 'Campaign; an empty text collects what no campaign is known for.',
    mailbox_provider  LowCardinality(String) COMMENT 'Who hosts the recipients\' mailboxes.',
    bounce_class      LowCardinality(String) COMMENT 'Class of the bounce: hard, soft, block, suppressed or undetermined.',
    bounce_reason     LowCardinality(String) COMMENT 'Reason of the bounce.',
    enhanced_status   LowCardinality(String) COMMENT 'Enhanced status code (RFC 3463); empty when there is none.',
    messages          UInt64 COMMENT 'Messages with such a bounce, each once.',
    events            UInt64 COMMENT 'Such bounce events, repeats included.',
    first_at          DateTime64(3, 'UTC') COMMENT 'First of them, UTC.',
    last_at           DateTime64(3, 'UTC') COMMENT 'Last of them, UTC.',
    latest_diagnostic String COMMENT 'What the receiving server said last.'
)
COMMENT 'Why messages bounced, per campaign, mailbox provider, class, reason and status.'
AS SELECT
    e.campaign_id AS campaign_id,
    e.mailbox_provider AS mailbox_provider,
    e.bounce_class AS bounce_class,
    e.bounce_reason AS bounce_reason,
    e.enhanced_status AS enhanced_status,
    uniqExact(e.message_key) AS messages,
    count() AS events,
    min(e.event_time) AS first_at,
    max(e.event_time) AS last_at,
    argMax(e.diagnostic, (e.event_time, e.event_id)) AS latest_diagnostic
FROM events AS e FINAL
WHERE e.event_type IN ('bounced', 'rejected', 'failed') AND e.bounce_class != 'none'
GROUP BY campaign_id, mailbox_provider, bounce_class, bounce_reason, enhanced_status;

-- What people clicked, and what machines clicked, side by side: one row per link of a campaign.
-- A group (streams/classify/links.py) has lost the listed parameters. Here it loses those that have
-- a value per message as well: on one page of one campaign (a group without its query), a parameter
-- of 20 or more messages that has at least 0.8 values per message. Messages, not clicks, since one
-- reader may click twice. uniq may err by a percent, which only matters that close to the line.
CREATE OR REPLACE VIEW links
(
    campaign_id       LowCardinality(String) COMMENT 'Campaign; an empty text collects what no campaign is known for.',
    click_url_group   String COMMENT 'Link, without the parameters that say who clicked: those that are listed, and those with a value per message.',
    unsubscribe_link  Bool COMMENT 'True for an unsubscribe link, which never counts as a click.',
    messages          UInt64 COMMENT 'Messages in which a human clicked it, each once.',
    clicks            UInt64 COMMENT 'Clicks by humans, repeats included.',
    machine_messages  UInt64 COMMENT 'Messages in which a machine clicked it, each once.',
    machine_clicks    UInt64 COMMENT 'Clicks by machines, repeats included.',
    unknown_messages  UInt64 COMMENT 'Messages in which it was clicked and the evidence leaves open by whom, each once.',
    unknown_clicks    UInt64 COMMENT 'Clicks of which the evidence leaves open who made them, repeats included.',
    click_urls        UInt64 COMMENT 'Different links as they were clicked; more than 1 where they are personal or spelled in several ways.',
    click_url         String COMMENT 'One of these, as an example that can be followed.',
    first_at          DateTime64(3, 'UTC') COMMENT 'First click by anyone, UTC.',
    last_at           DateTime64(3, 'UTC') COMMENT 'Last click by anyone, UTC.'
)
COMMENT 'Links per campaign: clicks by humans and by machines side by side.'
AS SELECT
    c.campaign_id AS campaign_id,
    if(
        empty(p.names),
        c.link,
        concat(
            cutQueryStringAndFragment(c.link),
            if(empty(arrayFilter(pair -> pair != '' AND NOT has(p.names, splitByChar('=', pair)[1]), splitByChar('&', queryString(c.link))) AS kept), '', '?'),
            arrayStringConcat(kept, '&'),
            if(empty(fragment(c.link)), '', '#'),
            fragment(c.link)
        )
    ) AS click_url_group,
    c.unsubscribe_link AS unsubscribe_link,
    uniqExactIf(c.message_key, c.actor = 'human') AS messages,
    countIf(c.actor = 'human') AS clicks,
    uniqExactIf(c.message_key, c.actor IN ('machine', 'scanner')) AS machine_messages,
    countIf(c.actor IN ('machine', 'scanner')) AS machine_clicks,
    uniqExactIf(c.message_key, c.actor = 'unknown') AS unknown_messages,
    countIf(c.actor = 'unknown') AS unknown_clicks,
    uniqExact(c.url) AS click_urls,
    min(c.url) AS click_url,
    min(c.event_time) AS first_at,
    max(c.event_time) AS last_at
FROM
(
    SELECT
        e.campaign_id AS campaign_id,
        e.click_url_group AS link,
        cutQueryString(e.click_url_group) AS page,
        e.click_url AS url,
        e.unsubscribe_link AS unsubscribe_link,
        e.message_key AS message_key,
        e.actor AS actor,
        e.event_time AS event_time
    FROM events AS e FINAL
    WHERE e.event_type = 'clicked'
) AS c
LEFT JOIN
(
    SELECT campaign_id, page, groupArray(name) AS names
    FROM
    (
        SELECT
            e.campaign_id AS campaign_id,
            cutQueryString(e.click_url_group) AS page,
            splitByChar('=', pair)[1] AS name
        FROM events AS e FINAL
        ARRAY JOIN splitByChar('&', queryString(e.click_url_group)) AS pair
        WHERE e.event_type = 'clicked' AND e.click_url_group LIKE '%?%'
        GROUP BY campaign_id, page, name
        HAVING uniq(e.message_key) >= 20 AND uniq(pair) >= 0.8 * uniq(e.message_key)
    )
    GROUP BY campaign_id, page
) AS p ON c.campaign_id = p.campaign_id AND c.page = p.page
GROUP BY campaign_id, click_url_group, unsubscribe_link;

-- Who opened and clicked, why it was judged so, and how surely.
CREATE OR REPLACE VIEW machine_activity
(
    campaign_id       LowCardinality(String) COMMENT 'Campaign; an empty text collects what no campaign is known for.',
    event_type        LowCardinality(String) COMMENT 'opened or clicked.',
    actor             LowCardinality(String) COMMENT 'Who did it: human, machine or unknown.',
    actor_reason      LowCardinality(String) COMMENT 'Why the actor was judged so.',
    actor_certainty   LowCardinality(String) COMMENT 'How sure that verdict is: certain, high or probable.',
    rules_version     UInt32 COMMENT 'Version of the classification rules that judged it.',
    events            UInt64 COMMENT 'Events, repeats included.',
    messages          UInt64 COMMENT 'Messages, each once.',
    last_at           DateTime64(3, 'UTC') COMMENT 'Last of them, UTC.'
)
COMMENT 'Opens and clicks by actor, and by reason and certainty of the verdict.'
AS SELECT
    e.campaign_id AS campaign_id,
    e.event_type AS event_type,
    e.actor AS actor,
    e.actor_reason AS actor_reason,
    e.actor_certainty AS actor_certainty,
    e.rules_version AS rules_version,
    count() AS events,
    uniqExact(e.message_key) AS messages,
    max(e.event_time) AS last_at
FROM events AS e FINAL
WHERE e.event_type IN ('opened', 'clicked')
GROUP BY campaign_id, event_type, actor, actor_reason, actor_certainty, rules_version;

-- Whom mailing on would hurt: after a hard bounce or a complaint, or soft bounces since the last
-- delivery, within 90 days. ifNull: as in campaign_summary.
CREATE OR REPLACE VIEW recipients_at_risk
(
    recipient         String COMMENT 'Recipient\'s address in its newest spelling, or its keyed hash, as the privacy setting says.',
    mailbox_provider  LowCardinality(String) COMMENT 'Who hosts the mailbox.',
    risk              String COMMENT 'The gravest finding: complaint, hard_bounce or soft_bounces.',
    hard_bounces      UInt64 COMMENT 'Hard bounce events in 90 days.',
    soft_bounces      UInt64 COMMENT 'Soft bounce events in 90 days, since the last delivery.',
    complaints        UInt64 COMMENT 'Complaint events in 90 days.',
    last_trouble_at   DateTime64(3, 'UTC') COMMENT 'Last bounce or complaint, UTC.',
    last_delivered_at DateTime64(3, 'UTC') COMMENT 'Last delivery, UTC; 1970 when there was none.',
    last_human_at     DateTime64(3, 'UTC') COMMENT 'Last open or click by a human, UTC; 1970 when there was none.',
    last_sign_at      DateTime64(3, 'UTC') COMMENT 'Last open or click by anyone, UTC; 1970 when there was none. Judge by this who no longer reads: no verdict counts against a person.',
    suppressed        Bool COMMENT 'Whether the address is on the suppression list now.',
    suppressed_reason String COMMENT 'Why it is on the suppression list; empty when it is not.'
)
COMMENT 'Recipients that should not be mailed on without a look, newest trouble of 90 days.'
AS SELECT
    r.recipient AS recipient,
    r.mailbox_provider AS mailbox_provider,
    multiIf(r.complaints > 0, 'complaint', r.hard_bounces > 0, 'hard_bounce', 'soft_bounces') AS risk,
    r.hard_bounces AS hard_bounces,
    r.soft_bounces AS soft_bounces,
    r.complaints AS complaints,
    r.last_trouble_at AS last_trouble_at,
    r.last_delivered_at AS last_delivered_at,
    r.last_human_at AS last_human_at,
    r.last_sign_at AS last_sign_at,
    suppressed_reason != '' AS suppressed,
    ifNull(s.reason, '') AS suppressed_reason
FROM
(
    SELECT
        e.recipient_identity AS identity,
        argMax(e.recipient, e.event_time) AS recipient,
        argMax(e.mailbox_provider, e.event_time) AS mailbox_provider,
        maxIf(e.event_time, e.event_type = 'delivered') AS last_delivered_at,
        maxIf(e.event_time, e.actor = 'human') AS last_human_at,
        maxIf(e.event_time, e.event_type IN ('opened', 'clicked')) AS last_sign_at,
        maxIf(e.event_time, e.event_type IN ('bounced', 'complained')) AS last_trouble_at,
        countIf(e.event_type = 'bounced' AND e.bounce_class = 'hard') AS hard_bounces,
        countIf(e.event_type = 'complained') AS complaints,
        arrayCount(at -> at > last_delivered_at, groupArrayIf(e.event_time, e.event_type = 'bounced' AND e.bounce_class = 'soft')) AS soft_bounces
    FROM events AS e FINAL
    WHERE e.event_time > now() - INTERVAL 90 DAY AND e.recipient_identity != ''
    GROUP BY e.recipient_identity
    HAVING hard_bounces > 0 OR complaints > 0 OR soft_bounces >= 2
) AS r
LEFT JOIN
(
    SELECT recipient, reason FROM suppressions FINAL WHERE until IS NULL OR until > now()
) AS s ON r.identity = s.recipient;
