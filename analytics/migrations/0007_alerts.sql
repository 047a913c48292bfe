-- Rates that crossed a line: one row when it was raised, one more when it was cleared.
-- shard: cityHash64(campaign_id)
CREATE TABLE IF NOT EXISTS alerts
(
    campaign_id      LowCardinality(String) COMMENT 'Campaign.',
    mailbox_provider LowCardinality(String) COMMENT 'Mailbox provider, or an empty text for the campaign as a whole.',
    alert_id         UUID COMMENT 'Identity of the crossing; the same on raised and cleared.',
    rate             LowCardinality(String) COMMENT 'Name of the rate in the glossary.',
    level            LowCardinality(String) COMMENT 'watch, warning or critical.',
    state            LowCardinality(String) COMMENT 'raised, or cleared when the rate fell below 80 % of the line.',
    line             Float64 COMMENT 'The line that was crossed, as a ratio.',
    window           LowCardinality(String) COMMENT 'Window the rate was taken over.',
    numerator        Int64 COMMENT 'Count above the line.',
    denominator      Int64 COMMENT 'Count below the line.',
    value            Float64 COMMENT 'The rate.',
    low              Float64 COMMENT 'Its lower Wilson bound at 95 %.',
    as_of            DateTime64(6, 'UTC') COMMENT 'End of the window, UTC.',
    raised_at        DateTime64(6, 'UTC') COMMENT 'When this crossing was raised, UTC.'
)
ENGINE = ReplacingMergeTree(as_of)
ORDER BY (campaign_id, raised_at, alert_id, state)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Alerts, raised and cleared. Read with FINAL.';
