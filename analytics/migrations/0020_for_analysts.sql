-- What analysts read: every column says what it is, and what a view must not be used for stands in its
-- comment. Tables that no question needs are hidden from analysts by rights
-- (analytics.operations_tables); views over these ask with the rights of whoever migrated.
--
-- A column that is added to events is added here too; tests/analytics/test_migrations.py compares.
CREATE OR REPLACE VIEW email_events
(
    campaign_id            LowCardinality(String) COMMENT 'Campaign, from the event or learned from its message; an id of the provider\'s own has the provider before it, as in brevo:4242; empty when unattributed.',
    message_key            UUID COMMENT 'Identity of message and recipient: the unit of every unique count. Of a bounce that names its message by the sender\'s Message-ID alone, that of the message with this Message-ID, once it is known.',
    event_time             DateTime64(3, 'UTC') COMMENT 'The time the event is counted at, UTC: occurred_at, or received_at when that is suspect.',
    event_id               UUID COMMENT 'Identity of the event; equal on every retry of the provider.',
    event_type             LowCardinality(String) COMMENT 'What happened: queued, sent, delivered, deferred, bounced, rejected, failed, opened, clicked, complained, unsubscribed, subscribed, autoresponded, suppression_added, suppression_removed or unknown.',
    occurred_at            DateTime64(3, 'UTC') COMMENT 'When it happened, by the provider\'s clock, UTC.',
    received_at            DateTime64(3, 'UTC') COMMENT 'When ingress took it in, UTC.',
    time_suspect           Bool COMMENT 'True when the provider\'s time was missing or implausible, so that arrival stands for it.',
    provider               LowCardinality(String) COMMENT 'Provider that reported it, such as sendgrid.',
    source                 LowCardinality(String) COMMENT 'Source in mailpulse.toml whose hook was called.',
    received_by            LowCardinality(String) COMMENT 'How it reached mailpulse: hook, pull (read from the provider\'s history) or command (entered by an operator).',
    message_id             String COMMENT 'The provider\'s id of the message; empty when it gave none.',
    recipient              String COMMENT 'Recipient\'s address as the provider spells it, or its keyed hash, or empty, as the privacy setting says.',
    recipient_identity     String COMMENT 'Identity of that address, equal for every spelling of one mailbox; suppressions are kept by it.',
    recipient_domain       LowCardinality(String) COMMENT 'Domain of the recipient\'s address, as in its identity; empty when unknown.',
    recipient_certain      Bool COMMENT 'False when the provider named several possible recipients.',
    mailbox_provider       LowCardinality(String) COMMENT 'Who hosts the recipient\'s mailbox: gmail, microsoft, yahoo, apple, or the registrable domain.',
    campaign_source        LowCardinality(String) COMMENT 'Where the campaign was found: none, metadata, tag, provider (an id of its own), sender (the provider\'s field for the sender\'s name), header or learned.',
    bounce_class           LowCardinality(String) COMMENT 'Class of a bounce: hard, soft, block, suppressed or undetermined; none for what is not a bounce.',
    bounce_reason          LowCardinality(String) COMMENT 'Reason of a bounce; none for what is not a bounce.',
    smtp_code              UInt16 COMMENT 'SMTP reply code, such as 550; 0 when there is none.',
    enhanced_status        LowCardinality(String) COMMENT 'Enhanced status code (RFC 3463), such as 5.1.1; empty when there is none.',
    diagnostic             String COMMENT 'What the receiving server or the provider said.',
    suppression_scope      LowCardinality(String) COMMENT 'What an unsubscribe, a resubscribe or a suppression is limited to, as in group:1234; empty: all mail to the address.',
    actor                  LowCardinality(String) COMMENT 'Who opened or clicked: human, machine or unknown; none for other events. Of earlier rules also scanner, a machine.',
    actor_reason           LowCardinality(String) COMMENT 'Why the actor was judged so.',
    actor_certainty        LowCardinality(String) COMMENT 'How sure that verdict is: certain, high or probable; none for other events.',
    machine_kind           LowCardinality(String) COMMENT 'The provider\'s own word on who opened or clicked.',
    rules_version          UInt32 COMMENT 'Version of the classification rules that judged the event.',
    first_of_kind          Bool COMMENT 'True on the one event that counts for its message: first delivery, first open or click by anyone, first complaint, first unsubscribe.',
    first_human            Bool COMMENT 'True on the first human open and on the first human click of a message.',
    unsubscribe_link       Bool COMMENT 'True on a click on an unsubscribe link, which never counts as a click.',
    seconds_since_delivery Nullable(Float32) COMMENT 'Seconds between the message\'s delivery, where known, and this event.',
    user_agent             LowCardinality(String) COMMENT 'User agent of an open or click.',
    device                 LowCardinality(String) COMMENT 'Device class of an open or click: desktop, phone, tablet, bot or empty.',
    os                     LowCardinality(String) COMMENT 'Operating system family of an open or click.',
    client                 LowCardinality(String) COMMENT 'Mail client or browser family of an open or click.',
    ip                     String COMMENT 'Client address of an open or click.',
    country                LowCardinality(String) COMMENT 'Country of an open or click, ISO 3166-1 alpha-2; empty when unknown.',
    click_url              String COMMENT 'Link that was clicked.',
    click_url_group        String COMMENT 'Group of the clicked link: links that differ only in spelling, or in parameters that say who clicked; empty for none.',
    tags                   Array(LowCardinality(String)) COMMENT 'Tags or categories of the message.',
    metadata               Map(LowCardinality(String), String) COMMENT 'The sender\'s own key-value data.',
    native_type            LowCardinality(String) COMMENT 'The provider\'s own name of the event.',
    dedupe_quality         LowCardinality(String) COMMENT 'What event_id is made of: native or composite.',
    rfc_message_id         String COMMENT 'Message-ID header (RFC 5322); empty when unknown.',
    log_id                 LowCardinality(String) COMMENT 'Incarnation of the raw topic that the event was read from.',
    partition              UInt32 COMMENT 'Partition of the raw topic.',
    offset                 Int64 COMMENT 'Offset of the event in the raw topic: with log_id and partition, its coordinates.',
    revision               UInt32 COMMENT '0 when first written; one higher each time later news corrected the event; and 4096 higher with each epoch of the rules that wrote it anew.'
)
COMMENT 'Every event once, in its last revision: one row per event, not per message. Opens and clicks have a row for each repeat and for machines; count messages with countIf(first_human), countIf(first_of_kind) or uniqExact(message_key). Aggregate before a join: joined to one row per campaign, each event repeats the figures of its campaign.'
AS SELECT
    campaign_id,
    message_key,
    event_time,
    event_id,
    event_type,
    occurred_at,
    received_at,
    time_suspect,
    provider,
    source,
    received_by,
    message_id,
    recipient,
    recipient_identity,
    recipient_domain,
    recipient_certain,
    mailbox_provider,
    campaign_source,
    bounce_class,
    bounce_reason,
    smtp_code,
    enhanced_status,
    diagnostic,
    suppression_scope,
    actor,
    actor_reason,
    actor_certainty,
    machine_kind,
    rules_version,
    first_of_kind,
    first_human,
    unsubscribe_link,
    seconds_since_delivery,
    user_agent,
    device,
    os,
    client,
    ip,
    country,
    click_url,
    click_url_group,
    tags,
    metadata,
    native_type,
    dedupe_quality,
    rfc_message_id,
    log_id,
    partition,
    offset,
    revision
FROM events FINAL;

ALTER TABLE freshness MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER;

ALTER TABLE reconciliation MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER;

-- How far the database itself is: its migrations, and the last reconciliation.
CREATE OR REPLACE VIEW pipeline_state
(
    migrations     Array(UInt32) COMMENT 'Numbers of the migrations that were applied, in order.',
    reconciled_at  Nullable(DateTime64(3, 'UTC')) COMMENT 'When accepted and stored events were last compared, UTC; NULL: never, or not within four days.',
    missing        UInt64 COMMENT 'Accepted, but not stored, over all settled minutes, as of then.',
    unexplained    UInt64 COMMENT 'Stored, but not accepted, over all settled minutes, as of then.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
COMMENT 'One row: the migrations of this database and its last reconciliation.'
AS SELECT
    (SELECT arraySort(groupUniqArray(number)) FROM schema_migrations) AS migrations,
    if(count() = 0, NULL, max(p.finished_at)) AS reconciled_at,
    argMax(p.missing, p.finished_at) AS missing,
    argMax(p.unexplained, p.finished_at) AS unexplained
FROM reconciliation_passes AS p;

-- Letters, not records: what is dead-lettered again is the same letter.
CREATE OR REPLACE VIEW dead_letter_counts
(
    minute   DateTime('UTC') COMMENT 'Minute in which it was received (ingest) or of the record\'s own time (streams, sink), UTC.',
    stage    LowCardinality(String) COMMENT 'Who gave up: ingest, enrich, campaigns or sink.',
    reason   LowCardinality(String) COMMENT 'Stable code of the reason, such as not_json.',
    source   LowCardinality(String) COMMENT 'Source in mailpulse.toml; empty when unknown.',
    topic    LowCardinality(String) COMMENT 'Topic of the record; empty when it came by HTTP.',
    letters  UInt64 COMMENT 'Dead letters, each once.',
    last_at  DateTime64(3, 'UTC') COMMENT 'Last of them, UTC.',
    sample   String COMMENT 'What exactly went wrong with the last one, for a person.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
COMMENT 'What could not be processed in the last 90 days, counted by minute, stage, reason, source and topic. The letters themselves: mailpulse dlq ls.'
AS SELECT
    toStartOfMinute(toDateTime(d.occurred_at, 'UTC')) AS minute,
    d.stage AS stage,
    d.reason AS reason,
    d.source AS source,
    d.topic AS topic,
    count() AS letters,
    max(d.occurred_at) AS last_at,
    argMax(d.detail, d.occurred_at) AS sample
FROM dead_letters AS d FINAL
GROUP BY minute, stage, reason, source, topic;

-- How many of some events are stored, for mailpulse backfill. Parameter: ids, of events.
CREATE OR REPLACE VIEW stored_among
DEFINER = CURRENT_USER SQL SECURITY DEFINER
COMMENT 'How many of some events are stored. Parameter: ids, of events, at most 64 days old. Columns: events: of these that are stored, each once.'
AS SELECT uniqExact(s.event_id) AS events
FROM stored_ids AS s
WHERE s.event_id IN {ids:Array(UUID)};

ALTER TABLE campaign_timeline MODIFY COMMENT 'The course of a campaign over time. Parameters: campaign; from and to, UTC, to is exclusive; step in seconds, whole minutes below a day or whole days; zone, such as Europe/Vienna, in whose days, hours and weeks the steps are. Columns: bucket: begin of the step, in the zone; all others as in campaign_summary. Counts may be added up over steps; rates must not be added or averaged: divide the sums.';

ALTER TABLE deliverability_by_day MODIFY COMMENT 'One row per day and mailbox provider over all campaigns. Parameter: zone, such as Europe/Vienna, whose days they are. Columns: day: day in the zone; mailbox_provider: who hosts the mailboxes; all others as in campaign_summary. Counts may be added up over days; rates must not be added or averaged: divide the sums.';

ALTER TABLE deliverability_daily MODIFY COMMENT 'One row per day of UTC and mailbox provider over all campaigns: counts and rates. Counts may be added up over days; rates must not be added or averaged: divide the sums.';

ALTER TABLE campaign_summary MODIFY COMMENT 'One row per campaign: counts and rates since its first event; campaign_id is empty for what no campaign is known for. Counts may be added up over campaigns; rates must not be added or averaged: divide the sums, as in sum(cohort_clicked) / sum(delivered).';

ALTER TABLE mailbox_providers MODIFY COMMENT 'One row per campaign and mailbox provider: counts and rates. Counts may be added up over rows; rates must not be added or averaged: divide the sums.';

ALTER TABLE campaign_rates_now MODIFY COMMENT 'The newest rolling rates, one row per campaign and window. Windows overlap: choose one, and never add up over windows. Rates must not be added or averaged: divide the sums.';

ALTER TABLE links MODIFY COMMENT 'One row per link of a campaign: clicks by humans, machines and unknown side by side. A message with two links is in two rows, so messages must not be added up over links: campaign_summary.clicked has each once.';

ALTER TABLE bounce_reasons MODIFY COMMENT 'Why messages bounced, per campaign, mailbox provider, class, reason and status. A message that bounced for two reasons is in two rows, so messages must not be added up over reasons to count bounced messages: campaign_summary.bounced has each once.';

ALTER TABLE machine_activity MODIFY COMMENT 'Opens and clicks by actor, and by reason and certainty of the verdict. A message that was opened by a human and by a machine is in two rows, so messages must not be added up over rows: campaign_summary has each once.';
