-- How much of a campaign is sent, by the number of recipients that its facts give (campaigns).
-- Generated figures follow schemas/glossary.py; tests/analytics/test_migrations.py compares them.
-- ifNull: with join_use_nulls = 1 of the caller's the join gives NULL, which the columns don't take.
CREATE OR REPLACE VIEW campaign_summary
(
    campaign_id          LowCardinality(String) COMMENT 'Campaign; an empty text collects what no campaign is known for.',
    name                 String COMMENT 'Name for people, from whoever runs the campaign; empty when unknown.',
    owner                String COMMENT 'Who answers for the campaign; empty when unknown.',
    first_minute         DateTime('UTC') COMMENT 'Minute of the campaign\'s first event, UTC.',
    last_minute          DateTime('UTC') COMMENT 'Minute of the campaign\'s last event, UTC.',
    events               Int64 COMMENT 'Events kept, of every type; duplicates are dropped before.',
    unidentified         Int64 COMMENT 'Events that can\'t be told per message: without a message id, or the recipient is not certain; in no count of messages.',
    delivered            Int64 COMMENT 'Messages that a provider said the receiving server took.',
    bounced_hard         Int64 COMMENT 'Messages never delivered that bounced for good: the address does not work.',
    bounced_soft         Int64 COMMENT 'Messages never delivered that bounced for a passing reason.',
    bounced_block        Int64 COMMENT 'Messages never delivered that were refused for reputation, policy or content.',
    bounced_undetermined Int64 COMMENT 'Messages never delivered that bounced without a usable reason.',
    bounced_late         Int64 COMMENT 'Messages that bounced at or after their delivery, whatever the reason.',
    suppressed           Int64 COMMENT 'Messages not attempted: the address is on a suppression list.',
    deferred             Int64 COMMENT 'Deferral events: the provider goes on trying.',
    rejected             Int64 COMMENT 'Messages that the provider itself rejected or failed to render.',
    opened               Int64 COMMENT 'Messages with a first human open.',
    opened_any           Int64 COMMENT 'Messages with a first open by anyone, machines included.',
    clicked              Int64 COMMENT 'Messages with a first human click, unsubscribe links excluded.',
    clicked_any          Int64 COMMENT 'Messages with a first click by anyone, unsubscribe links excluded.',
    opens                Int64 COMMENT 'Open events by humans, repeats included.',
    clicks               Int64 COMMENT 'Click events by humans, repeats included, unsubscribe excluded.',
    machine_opens        Int64 COMMENT 'Open events by machines, repeats included.',
    machine_clicks       Int64 COMMENT 'Click events by machines, scanners above all, repeats included, unsubscribe excluded.',
    unsubscribe_clicks   Int64 COMMENT 'Click events on unsubscribe links, whoever made them: no verdict counts against a person.',
    complained           Int64 COMMENT 'Messages reported as spam by their recipient.',
    unsubscribed         Int64 COMMENT 'Messages whose recipient unsubscribed.',
    cohort_bounced_late  Int64 COMMENT 'Of the messages delivered here, bounced at or after their delivery.',
    cohort_opened        Int64 COMMENT 'Of the messages delivered here, opened by a human.',
    cohort_opened_any    Int64 COMMENT 'Of the messages delivered here, opened by anyone.',
    cohort_clicked       Int64 COMMENT 'Of the messages delivered here, clicked by a human.',
    cohort_clicked_any   Int64 COMMENT 'Of the messages delivered here, clicked by anyone.',
    cohort_opened_clicked Int64 COMMENT 'Of the messages delivered here, both opened and clicked by a human.',
    cohort_complained    Int64 COMMENT 'Of the messages delivered here, reported as spam.',
    cohort_unsubscribed  Int64 COMMENT 'Of the messages delivered here, unsubscribed.',
    attempt_sent         Int64 COMMENT 'Of the messages first attempted here, delivered or bounced in-band.',
    attempt_bounced_hard Int64 COMMENT 'Of the messages first attempted here, never delivered and bounced for good.',
    attempt_bounced_soft Int64 COMMENT 'Of the messages first attempted here, never delivered and bounced for a passing reason.',
    attempt_bounced_block Int64 COMMENT 'Of the messages first attempted here, never delivered and refused for reputation, policy or content.',
    attempt_bounced_undetermined Int64 COMMENT 'Of the messages first attempted here, never delivered and bounced without a usable reason.',
    events_stale         Int64 COMMENT 'Events told more than 30 days after they happened, counted in the minute in which they came.',
    delivered_stale      Int64 COMMENT 'Messages whose delivery is such a stale event.',
    cohort_bounced_late_stale Int64 COMMENT 'Of the messages in delivered_stale here, bounced at or after their delivery.',
    cohort_complained_stale Int64 COMMENT 'Of the messages in delivered_stale here, reported as spam.',
    cohort_unsubscribed_stale Int64 COMMENT 'Of the messages in delivered_stale here, unsubscribed.',
    unknown_opens        Int64 COMMENT 'Open events of which nobody can know who made them, Apple\'s prefetch above all, repeats included.',
    unknown_clicks       Int64 COMMENT 'Click events of which the evidence leaves open who made them, repeats included, unsubscribe excluded.',
    opened_or_unknown    Int64 COMMENT 'Messages with a first open that is a human\'s or unknown.',
    opened_at_most       Int64 COMMENT 'Messages with a first open that may be a human\'s: it is, it is unknown, or it is only probably a machine\'s.',
    clicked_or_unknown   Int64 COMMENT 'Messages with a first click that is a human\'s or unknown, unsubscribe links excluded.',
    clicked_at_most      Int64 COMMENT 'Messages with a first click that may be a human\'s: it is, it is unknown, or it is only probably a machine\'s; unsubscribe links excluded.',
    cohort_opened_or_unknown Int64 COMMENT 'Of the messages delivered here, opened by a human or by an unknown actor.',
    cohort_opened_at_most Int64 COMMENT 'Of the messages delivered here, opened by an actor that may be human: not surely a machine.',
    cohort_clicked_or_unknown Int64 COMMENT 'Of the messages delivered here, clicked by a human or by an unknown actor.',
    cohort_clicked_at_most Int64 COMMENT 'Of the messages delivered here, clicked by an actor that may be human: not surely a machine.',
    bounced              Int64 COMMENT 'Messages bounced in-band: hard + soft + block + undetermined.',
    sent                 Int64 COMMENT 'Recipients attempted: delivered + bounced in-band.',
    clicked_unopened     Int64 COMMENT 'Of the messages delivered here, clicked but not opened by a human: their images were not loaded.',
    delivery_rate        Nullable(Float64) COMMENT 'Delivered / sent.',
    bounce_rate          Nullable(Float64) COMMENT 'Bounced in-band / sent; late bounces and suppressed messages never count.',
    hard_bounce_rate     Nullable(Float64) COMMENT 'Hard bounces in-band / sent.',
    soft_bounce_rate     Nullable(Float64) COMMENT 'Soft bounces in-band / sent.',
    block_bounce_rate    Nullable(Float64) COMMENT 'Block bounces in-band / sent.',
    late_bounce_rate     Nullable(Float64) COMMENT 'Messages that bounced at or after their delivery / delivered.',
    open_rate            Nullable(Float64) COMMENT 'Messages opened by a human / delivered.',
    open_rate_with_machine Nullable(Float64) COMMENT 'Messages opened by anyone / delivered.',
    click_rate           Nullable(Float64) COMMENT 'Messages clicked by a human / delivered.',
    click_to_open_rate   Nullable(Float64) COMMENT 'Messages both opened and clicked / messages opened, all by humans; never called click rate.',
    complaint_rate       Nullable(Float64) COMMENT 'Messages reported as spam / delivered.',
    unsubscribe_rate     Nullable(Float64) COMMENT 'Messages whose recipient unsubscribed / delivered.',
    flow_open_rate       Nullable(Float64) COMMENT 'First human opens that happened in the window / delivered in it; can exceed 1.',
    flow_click_rate      Nullable(Float64) COMMENT 'First human clicks that happened in the window / delivered in it; can exceed 1.',
    flow_complaint_rate  Nullable(Float64) COMMENT 'Complaints that happened in the window / delivered in it; can exceed 1.',
    open_rate_with_unknown Nullable(Float64) COMMENT 'Messages opened by a human or by an unknown actor / delivered.',
    open_rate_at_most    Nullable(Float64) COMMENT 'Messages opened by an actor that may be human / delivered: the upper end of open_rate\'s interval.',
    click_rate_with_unknown Nullable(Float64) COMMENT 'Messages clicked by a human or by an unknown actor / delivered.',
    click_rate_at_most   Nullable(Float64) COMMENT 'Messages clicked by an actor that may be human / delivered: the upper end of click_rate\'s interval.',
    flow_open_rate_with_unknown Nullable(Float64) COMMENT 'First opens by a human or by an unknown actor, in the minute they happened / delivered in the window; can exceed 1.',
    flow_open_rate_at_most Nullable(Float64) COMMENT 'First opens by an actor that may be human, in the minute they happened / delivered in the window; can exceed 1.',
    flow_click_rate_with_unknown Nullable(Float64) COMMENT 'First clicks by a human or by an unknown actor, in the minute they happened / delivered in the window; can exceed 1.',
    flow_click_rate_at_most Nullable(Float64) COMMENT 'First clicks by an actor that may be human, in the minute they happened / delivered in the window; can exceed 1.',
    expected_recipients  Nullable(Int64) COMMENT 'How many recipients the campaign is meant for, from whoever runs it; NULL when not given.',
    sent_of_expected     Nullable(Float64) COMMENT 'Sent so far / expected_recipients; above 1 when it was sent to more; NULL when not given.'
)
COMMENT 'One row per campaign: counts and rates since its first event.'
AS SELECT
    campaign_id,
    ifNull(c.name, '') AS name,
    ifNull(c.owner, '') AS owner,
    first_minute,
    last_minute,
    events,
    unidentified,
    delivered,
    bounced_hard,
    bounced_soft,
    bounced_block,
    bounced_undetermined,
    bounced_late,
    suppressed,
    deferred,
    rejected,
    opened,
    opened_any,
    clicked,
    clicked_any,
    opens,
    clicks,
    machine_opens,
    machine_clicks,
    unsubscribe_clicks,
    complained,
    unsubscribed,
    cohort_bounced_late,
    cohort_opened,
    cohort_opened_any,
    cohort_clicked,
    cohort_clicked_any,
    cohort_opened_clicked,
    cohort_complained,
    cohort_unsubscribed,
    attempt_sent,
    attempt_bounced_hard,
    attempt_bounced_soft,
    attempt_bounced_block,
    attempt_bounced_undetermined,
    events_stale,
    delivered_stale,
    cohort_bounced_late_stale,
    cohort_complained_stale,
    cohort_unsubscribed_stale,
    unknown_opens,
    unknown_clicks,
    opened_or_unknown,
    opened_at_most,
    clicked_or_unknown,
    clicked_at_most,
    cohort_opened_or_unknown,
    cohort_opened_at_most,
    cohort_clicked_or_unknown,
    cohort_clicked_at_most,
    bounced_hard + bounced_soft + bounced_block + bounced_undetermined AS bounced,
    delivered + bounced_hard + bounced_soft + bounced_block + bounced_undetermined AS sent,
    cohort_clicked - cohort_opened_clicked AS clicked_unopened,
    delivered / nullIf(sent, 0) AS delivery_rate,
    bounced / nullIf(sent, 0) AS bounce_rate,
    bounced_hard / nullIf(sent, 0) AS hard_bounce_rate,
    bounced_soft / nullIf(sent, 0) AS soft_bounce_rate,
    bounced_block / nullIf(sent, 0) AS block_bounce_rate,
    cohort_bounced_late / nullIf(delivered, 0) AS late_bounce_rate,
    cohort_opened / nullIf(delivered, 0) AS open_rate,
    cohort_opened_any / nullIf(delivered, 0) AS open_rate_with_machine,
    cohort_clicked / nullIf(delivered, 0) AS click_rate,
    cohort_opened_clicked / nullIf(cohort_opened, 0) AS click_to_open_rate,
    cohort_complained / nullIf(delivered, 0) AS complaint_rate,
    cohort_unsubscribed / nullIf(delivered, 0) AS unsubscribe_rate,
    opened / nullIf(delivered, 0) AS flow_open_rate,
    clicked / nullIf(delivered, 0) AS flow_click_rate,
    complained / nullIf(delivered, 0) AS flow_complaint_rate,
    cohort_opened_or_unknown / nullIf(delivered, 0) AS open_rate_with_unknown,
    cohort_opened_at_most / nullIf(delivered, 0) AS open_rate_at_most,
    cohort_clicked_or_unknown / nullIf(delivered, 0) AS click_rate_with_unknown,
    cohort_clicked_at_most / nullIf(delivered, 0) AS click_rate_at_most,
    opened_or_unknown / nullIf(delivered, 0) AS flow_open_rate_with_unknown,
    opened_at_most / nullIf(delivered, 0) AS flow_open_rate_at_most,
    clicked_or_unknown / nullIf(delivered, 0) AS flow_click_rate_with_unknown,
    clicked_at_most / nullIf(delivered, 0) AS flow_click_rate_at_most,
    if(c.expected_recipients > 0, c.expected_recipients, NULL) AS expected_recipients,
    sent / if(c.expected_recipients > 0, c.expected_recipients, NULL) AS sent_of_expected
FROM
(
    SELECT
        m.campaign_id AS campaign_id,
        minIf(m.minute, m.events > 0) AS first_minute,
        maxIf(m.minute, m.events > 0) AS last_minute,
        sum(m.events) AS events,
        sum(m.unidentified) AS unidentified,
        sum(m.delivered) AS delivered,
        sum(m.bounced_hard) AS bounced_hard,
        sum(m.bounced_soft) AS bounced_soft,
        sum(m.bounced_block) AS bounced_block,
        sum(m.bounced_undetermined) AS bounced_undetermined,
        sum(m.bounced_late) AS bounced_late,
        sum(m.suppressed) AS suppressed,
        sum(m.deferred) AS deferred,
        sum(m.rejected) AS rejected,
        sum(m.opened) AS opened,
        sum(m.opened_any) AS opened_any,
        sum(m.clicked) AS clicked,
        sum(m.clicked_any) AS clicked_any,
        sum(m.opens) AS opens,
        sum(m.clicks) AS clicks,
        sum(m.machine_opens) AS machine_opens,
        sum(m.machine_clicks) AS machine_clicks,
        sum(m.unsubscribe_clicks) AS unsubscribe_clicks,
        sum(m.complained) AS complained,
        sum(m.unsubscribed) AS unsubscribed,
        sum(m.cohort_bounced_late) AS cohort_bounced_late,
        sum(m.cohort_opened) AS cohort_opened,
        sum(m.cohort_opened_any) AS cohort_opened_any,
        sum(m.cohort_clicked) AS cohort_clicked,
        sum(m.cohort_clicked_any) AS cohort_clicked_any,
        sum(m.cohort_opened_clicked) AS cohort_opened_clicked,
        sum(m.cohort_complained) AS cohort_complained,
        sum(m.cohort_unsubscribed) AS cohort_unsubscribed,
        sum(m.attempt_sent) AS attempt_sent,
        sum(m.attempt_bounced_hard) AS attempt_bounced_hard,
        sum(m.attempt_bounced_soft) AS attempt_bounced_soft,
        sum(m.attempt_bounced_block) AS attempt_bounced_block,
        sum(m.attempt_bounced_undetermined) AS attempt_bounced_undetermined,
        sum(m.events_stale) AS events_stale,
        sum(m.delivered_stale) AS delivered_stale,
        sum(m.cohort_bounced_late_stale) AS cohort_bounced_late_stale,
        sum(m.cohort_complained_stale) AS cohort_complained_stale,
        sum(m.cohort_unsubscribed_stale) AS cohort_unsubscribed_stale,
        sum(m.unknown_opens) AS unknown_opens,
        sum(m.unknown_clicks) AS unknown_clicks,
        sum(m.opened_or_unknown) AS opened_or_unknown,
        sum(m.opened_at_most) AS opened_at_most,
        sum(m.clicked_or_unknown) AS clicked_or_unknown,
        sum(m.clicked_at_most) AS clicked_at_most,
        sum(m.cohort_opened_or_unknown) AS cohort_opened_or_unknown,
        sum(m.cohort_opened_at_most) AS cohort_opened_at_most,
        sum(m.cohort_clicked_or_unknown) AS cohort_clicked_or_unknown,
        sum(m.cohort_clicked_at_most) AS cohort_clicked_at_most
    FROM campaign_minutes AS m FINAL
    GROUP BY m.campaign_id
    HAVING events != 0
) AS totals
LEFT JOIN (SELECT campaign_id, name, owner, expected_recipients FROM campaigns FINAL) AS c USING (campaign_id);

-- What the stored events say is missing among themselves. A message is judged only if its earlier
-- events must have come while its source was stored:
-- - an open or click, if the message's sending was reported too; or its campaign began a week or
--   more after the source did; or the source had been stored for 30 days then;
-- - a delivery, if it came five days or more after the source's first queued or sent: servers try a
--   deferred message for so long (RFC 5321, section 4.5.4.1). A source with no day on which most
--   deliveries have one is taken not to report them.
-- Events of the last hour are left out: those before them may be on their way. Messages are those
-- that the provider gave an id and one recipient.
CREATE OR REPLACE VIEW gaps
(
    day         Date COMMENT 'Day of the event that lacks an earlier one: of a message\'s first open or click, or of its delivery, UTC.',
    source      LowCardinality(String) COMMENT 'Source in mailpulse.toml that reported this event.',
    kind        String COMMENT 'engaged_without_delivered: opened or clicked, but no delivery is stored; delivered_without_sent: delivered, but neither queued nor sent is stored, though the source reports them.',
    messages    UInt64 COMMENT 'Messages that lack the earlier event.',
    of_messages UInt64 COMMENT 'All messages of this day and source that were opened or clicked first, or delivered.',
    share       Float64 COMMENT 'messages / of_messages.',
    first_at    DateTime64(3, 'UTC') COMMENT 'First of these messages\' events, UTC.',
    last_at     DateTime64(3, 'UTC') COMMENT 'Last of them, UTC.',
    suggestion  String COMMENT 'What the figures suggest, in words for people.'
)
COMMENT 'Events that must have been there but are not stored, per day, source and kind, last 62 days.'
AS SELECT
    day,
    source,
    kind,
    messages,
    of_messages,
    messages / of_messages AS share,
    first_at,
    last_at,
    multiIf(
        kind = 'engaged_without_delivered' AND deliveries = 0,
        'No delivery of this source was ever stored. Switch on the event for deliveries at the provider; if it has none, rates per delivery are not possible.',
        kind = 'engaged_without_delivered' AND share >= 0.9,
        'Almost no delivery of these messages was stored. Check at the provider that the event for deliveries is still switched on, and that its requests were accepted when these messages were sent.',
        kind = 'engaged_without_delivered',
        'Some deliveries were not stored. Requests may have failed until the provider gave up: compare its log of webhooks at the time of these messages, and read the dead letters.',
        share >= 0.9,
        'The provider reported queued or sent on other days, but almost never on this one. Check at the provider that these events are still switched on, and that their requests were accepted.',
        'Some messages have a delivery but neither queued nor sent. Requests may have failed until the provider gave up: compare its log of webhooks, and read the dead letters.'
    ) AS suggestion
FROM
(
    SELECT
        toDate(at) AS day,
        j.source AS source,
        kind,
        countIf(is_missing) AS messages,
        count() AS of_messages,
        minIf(at, is_missing) AS first_at,
        maxIf(at, is_missing) AS last_at,
        any(ifNull(s.deliveries, 0)) AS deliveries,
        max(1 - messages / of_messages) OVER (PARTITION BY source, kind) AS best
    FROM
    (
        SELECT
            found.1 AS kind,
            found.2 AS source,
            found.3 AS at,
            found.4 AS is_missing,
            m.is_sending_seen AS is_sending_seen,
            m.campaign_id AS campaign_id
        FROM
        (
            SELECT
                e.message_key AS message_key,
                max(e.campaign_id) AS campaign_id,
                countIf(e.event_type IN ('queued', 'sent')) = 0 AS is_unsent,
                countIf(e.event_type IN ('queued', 'sent', 'deferred')) > 0 AS is_sending_seen,
                countIf(e.event_type = 'delivered') = 0 AS is_undelivered,
                arrayConcat(
                    if(countIf(e.event_type IN ('opened', 'clicked')) = 0, [], [(
                        'engaged_without_delivered',
                        toString(argMinIf(e.source, e.event_time, e.event_type IN ('opened', 'clicked'))),
                        minIf(e.event_time, e.event_type IN ('opened', 'clicked')),
                        is_undelivered
                    )]),
                    if(is_undelivered, [], [(
                        'delivered_without_sent',
                        toString(argMinIf(e.source, e.event_time, e.event_type = 'delivered')),
                        minIf(e.event_time, e.event_type = 'delivered'),
                        is_unsent
                    )])
                ) AS events
            FROM events AS e FINAL
            WHERE e.event_time > now() - INTERVAL 67 DAY
                AND e.event_type IN ('queued', 'sent', 'deferred', 'delivered', 'opened', 'clicked')
                AND e.message_id != '' AND e.recipient_certain
            GROUP BY e.message_key
        ) AS m
        ARRAY JOIN m.events AS found
        WHERE found.3 > now() - INTERVAL 62 DAY AND found.3 < now() - INTERVAL 1 HOUR
            AND (found.1 != 'engaged_without_delivered' OR NOT m.is_undelivered OR m.message_key GLOBAL NOT IN
            (
                SELECT d.message_key FROM events AS d FINAL
                WHERE d.event_type = 'delivered' AND d.event_time <= now() - INTERVAL 67 DAY
                    AND d.message_key GLOBAL IN
                    (
                        SELECT o.message_key FROM events AS o FINAL
                        WHERE o.event_type IN ('opened', 'clicked') AND o.event_time > now() - INTERVAL 62 DAY
                    )
            ))
    ) AS j
    LEFT JOIN
    (
        SELECT
            e.source AS source,
            min(e.received_at) AS stored_from,
            countIf(e.event_type = 'delivered') AS deliveries,
            countIf(e.event_type IN ('queued', 'sent')) AS reports,
            minIf(e.event_time, e.event_type IN ('queued', 'sent')) AS first_report_at
        FROM events AS e
        WHERE e.is_deleted = 0
        GROUP BY e.source
    ) AS s ON j.source = s.source
    LEFT JOIN
    (
        SELECT
            e.campaign_id AS campaign_id,
            minIf(e.event_time, e.event_type NOT IN ('opened', 'clicked')) AS began_at,
            countIf(e.event_type NOT IN ('opened', 'clicked')) > 0
                AND began_at <= minIf(e.event_time, e.event_type IN ('opened', 'clicked')) AS is_begun
        FROM events AS e FINAL
        WHERE e.campaign_id != ''
        GROUP BY e.campaign_id
    ) AS c ON j.campaign_id = c.campaign_id
    WHERE if(
        kind = 'engaged_without_delivered',
        j.is_sending_seen
            OR at >= s.stored_from + INTERVAL 30 DAY
            OR ifNull(c.is_begun AND c.began_at >= s.stored_from + INTERVAL 7 DAY, 0),
        s.reports > 0 AND at >= s.first_report_at + INTERVAL 5 DAY
    )
    GROUP BY day, source, kind
)
WHERE messages > 0 AND (kind = 'engaged_without_delivered' OR best >= 0.5);

-- In which five minutes something came, by source and event type: what the rhythm of a source is
-- learned from. Rows that come twice change nothing: the newest time is a maximum.
-- shard: cityHash64(source)
CREATE TABLE IF NOT EXISTS source_slots
(
    source     LowCardinality(String) COMMENT 'Source in mailpulse.toml.',
    event_type LowCardinality(String) COMMENT 'What happened, as in events.',
    slot       DateTime('UTC') COMMENT 'Begin of five minutes, UTC.' CODEC(Delta, ZSTD(1)),
    newest     SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'When ingress took in the newest such event of these minutes, UTC.' CODEC(Delta, ZSTD(1))
)
ENGINE = AggregatingMergeTree
ORDER BY (source, event_type, slot)
TTL slot + INTERVAL 98 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Five minutes in which events came by a hook, per source and event type, for 14 weeks.';

CREATE MATERIALIZED VIEW IF NOT EXISTS source_slots_from_events TO source_slots
(
    source     LowCardinality(String) COMMENT 'Source in mailpulse.toml.',
    event_type LowCardinality(String) COMMENT 'What happened, as in events.',
    slot       DateTime('UTC') COMMENT 'Begin of five minutes, UTC.',
    newest     SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'When ingress took in the newest such event of an insert, UTC.'
)
AS SELECT
    source,
    event_type,
    toStartOfFiveMinutes(toDateTime(received_at, 'UTC')) AS slot,
    max(received_at) AS newest
FROM events
WHERE received_by = 'hook' AND is_deleted = 0
GROUP BY source, event_type, slot;

-- Incidents of sources: nothing came for longer than the rhythm explains. One row per change.
-- shard: cityHash64(source)
CREATE TABLE IF NOT EXISTS source_incident_changes
(
    source       LowCardinality(String) COMMENT 'Source in mailpulse.toml.',
    event_type   LowCardinality(String) COMMENT 'Event type that does not come; an empty text: nothing comes from the source.',
    opened_at    DateTime64(6, 'UTC') COMMENT 'When it was opened, UTC.',
    incident_id  UUID COMMENT 'Identity of the incident, 32 hexadecimal digits: the same from opened to closed.',
    sequence     Int32 COMMENT 'Number of the change, from 1: act once per incident and sequence.',
    state        LowCardinality(String) COMMENT 'The latest change: opened or closed.',
    level        LowCardinality(String) COMMENT 'critical: nothing comes from the source; warning: one event type does not come.',
    silent_since DateTime64(6, 'UTC') COMMENT 'When the last event before the silence came in, UTC.',
    usual_gap_s  Int64 COMMENT 'How long the longest gap of a usual week takes from then on, seconds.',
    explained_s  Int64 COMMENT 'How long a silence from then on the rhythm would have explained, seconds.',
    resumed_at   Nullable(DateTime64(6, 'UTC')) COMMENT 'Of a closed incident, when the newest event came in, UTC; NULL: nothing came, but no rhythm is known any more.',
    changed_at   DateTime64(6, 'UTC') COMMENT 'When the latest change was told, UTC.',
    as_of        DateTime64(6, 'UTC') COMMENT 'Through which time what came was known, UTC.',
    advice       String COMMENT 'What to look at, in words for people.' CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree(as_of)
ORDER BY (source, event_type, opened_at, incident_id, sequence)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'History of the incidents of sources: each change. Read with FINAL.';

CREATE OR REPLACE VIEW source_incidents
(
    source       LowCardinality(String) COMMENT 'Source in mailpulse.toml.',
    event_type   LowCardinality(String) COMMENT 'Event type that does not come; an empty text: nothing comes from the source.',
    opened_at    DateTime64(6, 'UTC') COMMENT 'When it was opened, UTC.',
    incident_id  UUID COMMENT 'Identity of the incident, 32 hexadecimal digits: the same from opened to closed.',
    sequence     Int32 COMMENT 'Number of the change, from 1: act once per incident and sequence.',
    state        LowCardinality(String) COMMENT 'The latest change: opened or closed.',
    level        LowCardinality(String) COMMENT 'critical: nothing comes from the source; warning: one event type does not come.',
    silent_since DateTime64(6, 'UTC') COMMENT 'When the last event before the silence came in, UTC.',
    usual_gap_s  Int64 COMMENT 'How long the longest gap of a usual week takes from then on, seconds.',
    explained_s  Int64 COMMENT 'How long a silence from then on the rhythm would have explained, seconds.',
    resumed_at   Nullable(DateTime64(6, 'UTC')) COMMENT 'Of a closed incident, when the newest event came in, UTC; NULL: nothing came, but no rhythm is known any more.',
    changed_at   DateTime64(6, 'UTC') COMMENT 'When the latest change was told, UTC.',
    as_of        DateTime64(6, 'UTC') COMMENT 'Through which time what came was known, UTC.',
    advice       String COMMENT 'What to look at, in words for people.'
)
COMMENT 'Silences of sources that their rhythm does not explain, as they are now: one row each.'
AS SELECT
    c.source AS source,
    c.event_type AS event_type,
    argMax(c.opened_at, c.sequence) AS opened_at,
    c.incident_id AS incident_id,
    max(c.sequence) AS sequence,
    argMax(c.state, c.sequence) AS state,
    argMax(c.level, c.sequence) AS level,
    argMax(c.silent_since, c.sequence) AS silent_since,
    argMax(c.usual_gap_s, c.sequence) AS usual_gap_s,
    argMax(c.explained_s, c.sequence) AS explained_s,
    argMax(tuple(c.resumed_at), c.sequence).1 AS resumed_at,
    argMax(c.changed_at, c.sequence) AS changed_at,
    argMax(c.as_of, c.sequence) AS as_of,
    argMax(c.advice, if(c.state = 'closed', 0, c.sequence)) AS advice
FROM source_incident_changes AS c FINAL
GROUP BY source, event_type, incident_id;
