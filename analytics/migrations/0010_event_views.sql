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

-- What people clicked, and what scanners clicked, side by side.
CREATE OR REPLACE VIEW links
(
    campaign_id       LowCardinality(String) COMMENT 'Campaign; an empty text collects what no campaign is known for.',
    click_url         String COMMENT 'Link that was clicked.',
    unsubscribe_link  Bool COMMENT 'True for an unsubscribe link, which never counts as a click.',
    messages          UInt64 COMMENT 'Messages in which a human clicked it, each once.',
    clicks            UInt64 COMMENT 'Clicks by humans, repeats included.',
    machine_messages  UInt64 COMMENT 'Messages in which a machine or scanner clicked it, each once.',
    machine_clicks    UInt64 COMMENT 'Clicks by machines and scanners, repeats included.',
    first_at          DateTime64(3, 'UTC') COMMENT 'First click by anyone, UTC.',
    last_at           DateTime64(3, 'UTC') COMMENT 'Last click by anyone, UTC.'
)
COMMENT 'Links per campaign: clicks by humans and by machines side by side.'
AS SELECT
    e.campaign_id AS campaign_id,
    e.click_url AS click_url,
    e.unsubscribe_link AS unsubscribe_link,
    uniqExactIf(e.message_key, e.actor = 'human') AS messages,
    countIf(e.actor = 'human') AS clicks,
    uniqExactIf(e.message_key, e.actor != 'human') AS machine_messages,
    countIf(e.actor != 'human') AS machine_clicks,
    min(e.event_time) AS first_at,
    max(e.event_time) AS last_at
FROM events AS e FINAL
WHERE e.event_type = 'clicked'
GROUP BY campaign_id, click_url, unsubscribe_link;

-- What machines did, and why it was held to be machines.
CREATE OR REPLACE VIEW machine_activity
(
    campaign_id       LowCardinality(String) COMMENT 'Campaign; an empty text collects what no campaign is known for.',
    event_type        LowCardinality(String) COMMENT 'opened or clicked.',
    actor             LowCardinality(String) COMMENT 'Who did it: human, machine or scanner.',
    actor_reason      LowCardinality(String) COMMENT 'Why the actor was judged so.',
    rules_version     UInt32 COMMENT 'Version of the classification rules that judged it.',
    events            UInt64 COMMENT 'Events, repeats included.',
    messages          UInt64 COMMENT 'Messages, each once.',
    last_at           DateTime64(3, 'UTC') COMMENT 'Last of them, UTC.'
)
COMMENT 'Opens and clicks by actor and by the reason for the verdict.'
AS SELECT
    e.campaign_id AS campaign_id,
    e.event_type AS event_type,
    e.actor AS actor,
    e.actor_reason AS actor_reason,
    e.rules_version AS rules_version,
    count() AS events,
    uniqExact(e.message_key) AS messages,
    max(e.event_time) AS last_at
FROM events AS e FINAL
WHERE e.event_type IN ('opened', 'clicked')
GROUP BY campaign_id, event_type, actor, actor_reason, rules_version;

-- Whom mailing on would hurt: after a hard bounce or a complaint, or soft bounces since the last
-- delivery, within 90 days. ifNull: as in campaign_summary.
CREATE OR REPLACE VIEW recipients_at_risk
(
    recipient         String COMMENT 'Recipient\'s address, or its keyed hash, as the privacy setting says.',
    mailbox_provider  LowCardinality(String) COMMENT 'Who hosts the mailbox.',
    risk              String COMMENT 'The gravest finding: complaint, hard_bounce or soft_bounces.',
    hard_bounces      UInt64 COMMENT 'Hard bounce events in 90 days.',
    soft_bounces      UInt64 COMMENT 'Soft bounce events in 90 days, since the last delivery.',
    complaints        UInt64 COMMENT 'Complaint events in 90 days.',
    last_trouble_at   DateTime64(3, 'UTC') COMMENT 'Last bounce or complaint, UTC.',
    last_delivered_at DateTime64(3, 'UTC') COMMENT 'Last delivery, UTC; 1970 when there was none.',
    last_human_at     DateTime64(3, 'UTC') COMMENT 'Last open or click by a human, UTC; 1970 when there was none.',
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
    suppressed_reason != '' AS suppressed,
    ifNull(s.reason, '') AS suppressed_reason
FROM
(
    SELECT
        e.recipient AS recipient,
        argMax(e.mailbox_provider, e.event_time) AS mailbox_provider,
        maxIf(e.event_time, e.event_type = 'delivered') AS last_delivered_at,
        maxIf(e.event_time, e.actor = 'human') AS last_human_at,
        maxIf(e.event_time, e.event_type IN ('bounced', 'complained')) AS last_trouble_at,
        countIf(e.event_type = 'bounced' AND e.bounce_class = 'hard') AS hard_bounces,
        countIf(e.event_type = 'complained') AS complaints,
        arrayCount(at -> at > last_delivered_at, groupArrayIf(e.event_time, e.event_type = 'bounced' AND e.bounce_class = 'soft')) AS soft_bounces
    FROM events AS e FINAL
    WHERE e.event_time > now() - INTERVAL 90 DAY AND e.recipient != ''
    GROUP BY e.recipient
    HAVING hard_bounces > 0 OR complaints > 0 OR soft_bounces >= 2
) AS r
LEFT JOIN
(
    SELECT recipient, reason FROM suppressions FINAL WHERE until IS NULL OR until > now()
) AS s ON r.recipient = s.recipient;
