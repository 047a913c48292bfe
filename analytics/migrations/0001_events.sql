-- Every event that was kept, once. Identity of a row is the sorting key: event_id, behind the
-- campaign and the message, so that what belongs together lies together and compresses well.
-- Nothing of the key ever changes for an event except its campaign; when that moves, the sink
-- writes a tombstone (is_deleted = 1) under the previous campaign in the same insert.
--
-- version = revision * 2^40 + the offset whose processing gave the revision. Revisions come first
-- because they go on counting when the raw topic is made anew, while offsets start again: a
-- correction that comes from a later log then beats what an earlier log wrote, and an event that a
-- provider repeats into a later log (revision 0 again) never beats a correction.
-- shard: cityHash64(campaign_id)
CREATE TABLE IF NOT EXISTS events
(
    campaign_id            LowCardinality(String) COMMENT 'Campaign, from the event or learned from its message; an id of the provider\'s own has the provider before it, as in brevo:4242; empty when unattributed.',
    message_key            UUID COMMENT 'Identity of message and recipient: the unit of every unique count.' CODEC(ZSTD(1)),
    event_time             DateTime64(3, 'UTC') COMMENT 'The time the event is counted at, UTC: occurred_at, or received_at when that is suspect.' CODEC(Delta, ZSTD(1)),
    event_id               UUID COMMENT 'Identity of the event; equal on every retry of the provider.' CODEC(NONE),
    event_type             LowCardinality(String) COMMENT 'What happened: queued, sent, delivered, deferred, bounced, rejected, failed, opened, clicked, complained, unsubscribed, subscribed, autoresponded, suppression_added, suppression_removed or unknown.',
    occurred_at            DateTime64(3, 'UTC') COMMENT 'When it happened, by the provider\'s clock, UTC.' CODEC(Delta, ZSTD(1)),
    received_at            DateTime64(3, 'UTC') COMMENT 'When ingress took it in, UTC.' CODEC(Delta, ZSTD(1)),
    time_suspect           Bool COMMENT 'True when the provider\'s time was missing or implausible, so that arrival stands for it.',
    provider               LowCardinality(String) COMMENT 'Provider that reported it, such as sendgrid.',
    source                 LowCardinality(String) COMMENT 'Source in mailpulse.toml whose hook was called.',
    received_by            LowCardinality(String) COMMENT 'How it reached mailpulse: hook, pull (read from the provider\'s history) or command (entered by an operator).',
    message_id             String COMMENT 'The provider\'s id of the message; empty when it gave none.' CODEC(ZSTD(1)),
    recipient              String COMMENT 'Recipient\'s address as the provider spells it, or its keyed hash, or empty, as the privacy setting says.' CODEC(ZSTD(1)),
    recipient_identity     String COMMENT 'Identity of that address, equal for every spelling of one mailbox; suppressions are kept by it.' CODEC(ZSTD(1)),
    recipient_domain       LowCardinality(String) COMMENT 'Domain of the recipient\'s address, as in its identity; empty when unknown.',
    recipient_certain      Bool COMMENT 'False when the provider named several possible recipients.',
    mailbox_provider       LowCardinality(String) COMMENT 'Who hosts the recipient\'s mailbox: gmail, microsoft, yahoo, apple, or the registrable domain.',
    campaign_source        LowCardinality(String) COMMENT 'Where the campaign was found: none, metadata, tag, provider (an id of its own), sender (the provider\'s field for the sender\'s name), header or learned.',
    bounce_class           LowCardinality(String) COMMENT 'Class of a bounce: hard, soft, block, suppressed or undetermined; none for what is not a bounce.',
    bounce_reason          LowCardinality(String) COMMENT 'Reason of a bounce; none for what is not a bounce.',
    smtp_code              UInt16 COMMENT 'SMTP reply code, such as 550; 0 when there is none.' CODEC(T64, ZSTD(1)),
    enhanced_status        LowCardinality(String) COMMENT 'Enhanced status code (RFC 3463), such as 5.1.1; empty when there is none.',
    diagnostic             String COMMENT 'What the receiving server or the provider said.' CODEC(ZSTD(3)),
    suppression_scope      LowCardinality(String) COMMENT 'What an unsubscribe, a resubscribe or a suppression is limited to, as in group:1234; empty: all mail to the address.',
    actor                  LowCardinality(String) COMMENT 'Who opened or clicked: human, machine or unknown; none for other events. Of earlier rules also scanner, a machine.',
    actor_reason           LowCardinality(String) COMMENT 'Why the actor was judged so.',
    actor_certainty        LowCardinality(String) COMMENT 'How sure that verdict is: certain, high or probable; none for other events.',
    machine_kind           LowCardinality(String) COMMENT 'The provider\'s own word on who opened or clicked.',
    rules_version          UInt32 COMMENT 'Version of the classification rules that judged the event.' CODEC(T64, ZSTD(1)),
    first_of_kind          Bool COMMENT 'True on the one event that counts for its message: first delivery, first open or click by anyone, first complaint, first unsubscribe.',
    first_human            Bool COMMENT 'True on the first human open and on the first human click of a message.',
    unsubscribe_link       Bool COMMENT 'True on a click on an unsubscribe link, which never counts as a click.',
    seconds_since_delivery Nullable(Float32) COMMENT 'Seconds between the message\'s delivery, where known, and this event.' CODEC(ZSTD(1)),
    user_agent             LowCardinality(String) COMMENT 'User agent of an open or click.',
    device                 LowCardinality(String) COMMENT 'Device class of an open or click: desktop, phone, tablet, bot or empty.',
    os                     LowCardinality(String) COMMENT 'Operating system family of an open or click.',
    client                 LowCardinality(String) COMMENT 'Mail client or browser family of an open or click.',
    ip                     String COMMENT 'Client address of an open or click.' CODEC(ZSTD(1)),
    country                LowCardinality(String) COMMENT 'Country of an open or click, ISO 3166-1 alpha-2; empty when unknown.',
    click_url              String COMMENT 'Link that was clicked.' CODEC(ZSTD(3)),
    click_url_group        String COMMENT 'Group of the clicked link: links that differ only in spelling, or in parameters that say who clicked; empty for none.' CODEC(ZSTD(3)),
    tags                   Array(LowCardinality(String)) COMMENT 'Tags or categories of the message.' CODEC(ZSTD(1)),
    metadata               Map(LowCardinality(String), String) COMMENT 'The sender\'s own key-value data.' CODEC(ZSTD(3)),
    native_type            LowCardinality(String) COMMENT 'The provider\'s own name of the event.',
    dedupe_quality         LowCardinality(String) COMMENT 'What event_id is made of: native or composite.',
    rfc_message_id         String COMMENT 'Message-ID header (RFC 5322); empty when unknown.' CODEC(ZSTD(1)),
    log_id                 LowCardinality(String) COMMENT 'Incarnation of the raw topic that the event was read from.',
    partition              UInt32 COMMENT 'Partition of the raw topic.' CODEC(T64, ZSTD(1)),
    offset                 Int64 COMMENT 'Offset of the event in the raw topic: with log_id and partition, its coordinates.' CODEC(ZSTD(1)),
    revision               UInt32 COMMENT '0 when first written; one higher each time later news corrected the event.' CODEC(T64, ZSTD(1)),
    version                UInt64 COMMENT 'revision * 2^40 + the offset whose processing gave this revision; the highest one holds.' CODEC(Delta, ZSTD(1)),
    is_deleted             UInt8 COMMENT '1 on the tombstone that an event leaves under the campaign it moved from; FINAL hides it.' CODEC(ZSTD(1)),
    INDEX received_at_range received_at TYPE minmax GRANULARITY 1,
    INDEX event_time_range event_time TYPE minmax GRANULARITY 1,
    INDEX recipient_filter recipient TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX identity_filter recipient_identity TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(event_time)
ORDER BY (campaign_id, message_key, event_time, event_id)
TTL toDateTime(event_time) + INTERVAL 396 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every event that was kept, once. Read with FINAL, or use the views.';
