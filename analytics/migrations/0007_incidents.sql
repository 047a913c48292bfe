-- Incidents: a rate of a campaign above its line. One row per change, with its newest figures.
-- shard: cityHash64(campaign_id)
CREATE TABLE IF NOT EXISTS incident_changes
(
    campaign_id               LowCardinality(String) COMMENT 'Campaign.',
    opened_at                 DateTime64(6, 'UTC') COMMENT 'When it was opened, by the log\'s time, UTC.',
    incident_id               UUID COMMENT 'Identity of the incident, 32 hexadecimal digits: the same from opened to closed.',
    sequence                  Int32 COMMENT 'Number of the change, from 1. A record with the number of an earlier one only brings newer figures: act once per incident and sequence.',
    state                     LowCardinality(String) COMMENT 'The latest change: opened, escalated to a higher level, eased to a lower one, or closed.',
    rate                      LowCardinality(String) COMMENT 'Name of the rate in the glossary.',
    level                     LowCardinality(String) COMMENT 'watch, warning or critical: the worst of its places now; of a closed incident the worst it had.',
    worst_level               LowCardinality(String) COMMENT 'The highest level that it ever had.',
    mailbox_provider          LowCardinality(String) COMMENT 'Place that the figures are of: a mailbox provider, or an empty text for the campaign as a whole.',
    line                      Float64 COMMENT 'The line of the present level there, as a ratio; 0 if the line was removed.',
    window                    LowCardinality(String) COMMENT 'Which messages are judged: 24h, those sent in the last 24 hours; 7d, those delivered in the last 7 days.',
    numerator                 Int64 COMMENT 'Messages above the line, now.',
    denominator               Int64 COMMENT 'Messages judged, now.',
    value                     Float64 COMMENT 'The rate now; 0 without messages.',
    opened_numerator          Int64 COMMENT 'Messages above the line when it was opened.',
    opened_denominator        Int64 COMMENT 'Messages judged when it was opened.',
    opened_value              Float64 COMMENT 'The rate when it was opened.',
    changed_at                DateTime64(6, 'UTC') COMMENT 'When the latest change was told, by the log\'s time, UTC.',
    as_of                     DateTime64(6, 'UTC') COMMENT 'When these figures were judged, by the log\'s time, UTC.',
    number                    Int32 COMMENT 'How many incidents this campaign and rate have had, this one included.',
    `places.mailbox_provider` Array(LowCardinality(String)) COMMENT 'Per place that is above a line: mailbox provider, or an empty text for the campaign as a whole.',
    `places.level`            Array(LowCardinality(String)) COMMENT 'Per place that is above a line: watch, warning or critical.',
    `places.line`             Array(Float64) COMMENT 'Per place that is above a line: the line of this level, as a ratio.',
    `places.numerator`        Array(Int64) COMMENT 'Per place that is above a line: messages above the line.',
    `places.denominator`      Array(Int64) COMMENT 'Per place that is above a line: messages judged.',
    `places.value`            Array(Float64) COMMENT 'Per place that is above a line: the rate.',
    cause                     LowCardinality(String) COMMENT 'Likely cause: no_deliveries, mailbox_provider, time (mail of one hour or day), or everywhere.',
    cause_name                String COMMENT 'The mailbox provider, hour or day of the likely cause; else empty.',
    cause_share               Float64 COMMENT 'Part of the messages above the line that the likely cause explains.',
    advice                    String COMMENT 'What the figures say of the cause, and what to do, in words for people.' CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree(as_of)
ORDER BY (campaign_id, opened_at, incident_id, sequence)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'History of incidents: each change, with the newest figures before the next. Read with FINAL.';

-- Incidents: one row each, as it is now.
-- columns: those of incident_changes, and closed_at
-- SELECT campaign_id, rate, level, value, opened_value, cause, advice
-- FROM incidents
-- WHERE state != 'closed'
-- ORDER BY opened_at DESC
CREATE OR REPLACE VIEW incidents
(

    campaign_id               LowCardinality(String) COMMENT 'Campaign.',
    opened_at                 DateTime64(6, 'UTC') COMMENT 'When it was opened, by the log\'s time, UTC.',
    incident_id               UUID COMMENT 'Identity of the incident, 32 hexadecimal digits: the same from opened to closed.',
    sequence                  Int32 COMMENT 'Number of the change, from 1. A record with the number of an earlier one only brings newer figures: act once per incident and sequence.',
    state                     LowCardinality(String) COMMENT 'The latest change: opened, escalated to a higher level, eased to a lower one, or closed.',
    rate                      LowCardinality(String) COMMENT 'Name of the rate in the glossary.',
    level                     LowCardinality(String) COMMENT 'watch, warning or critical: the worst of its places now; of a closed incident the worst it had.',
    worst_level               LowCardinality(String) COMMENT 'The highest level that it ever had.',
    mailbox_provider          LowCardinality(String) COMMENT 'Place that the figures are of: a mailbox provider, or an empty text for the campaign as a whole.',
    line                      Float64 COMMENT 'The line of the present level there, as a ratio; 0 if the line was removed.',
    window                    LowCardinality(String) COMMENT 'Which messages are judged: 24h, those sent in the last 24 hours; 7d, those delivered in the last 7 days.',
    numerator                 Int64 COMMENT 'Messages above the line, now.',
    denominator               Int64 COMMENT 'Messages judged, now.',
    value                     Float64 COMMENT 'The rate now; 0 without messages.',
    opened_numerator          Int64 COMMENT 'Messages above the line when it was opened.',
    opened_denominator        Int64 COMMENT 'Messages judged when it was opened.',
    opened_value              Float64 COMMENT 'The rate when it was opened.',
    changed_at                DateTime64(6, 'UTC') COMMENT 'When the latest change was told, by the log\'s time, UTC.',
    as_of                     DateTime64(6, 'UTC') COMMENT 'When these figures were judged, by the log\'s time, UTC.',
    number                    Int32 COMMENT 'How many incidents this campaign and rate have had, this one included.',
    `places.mailbox_provider` Array(LowCardinality(String)) COMMENT 'Per place that is above a line: mailbox provider, or an empty text for the campaign as a whole.',
    `places.level`            Array(LowCardinality(String)) COMMENT 'Per place that is above a line: watch, warning or critical.',
    `places.line`             Array(Float64) COMMENT 'Per place that is above a line: the line of this level, as a ratio.',
    `places.numerator`        Array(Int64) COMMENT 'Per place that is above a line: messages above the line.',
    `places.denominator`      Array(Int64) COMMENT 'Per place that is above a line: messages judged.',
    `places.value`            Array(Float64) COMMENT 'Per place that is above a line: the rate.',
    cause                     LowCardinality(String) COMMENT 'Likely cause: no_deliveries, mailbox_provider, time (mail of one hour or day), or everywhere.',
    cause_name                String COMMENT 'The mailbox provider, hour or day of the likely cause; else empty.',
    cause_share               Float64 COMMENT 'Part of the messages above the line that the likely cause explains.',
    advice                    String COMMENT 'What the figures say of the cause, and what to do, in words for people.',
    closed_at                 Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was closed, UTC; null while it is open.'
)
COMMENT 'Incidents, one row each as it is now, with its figures now and when it was opened.'
AS SELECT
    campaign_id,
    opened_at,
    incident_id,
    sequence,
    state,
    rate,
    level,
    worst_level,
    mailbox_provider,
    line,
    window,
    numerator,
    denominator,
    value,
    opened_numerator,
    opened_denominator,
    opened_value,
    changed_at,
    as_of,
    number,
    `places.mailbox_provider`,
    `places.level`,
    `places.line`,
    `places.numerator`,
    `places.denominator`,
    `places.value`,
    cause,
    cause_name,
    cause_share,
    advice,
    if(state = 'closed', changed_at, NULL) AS closed_at
FROM incident_changes FINAL
ORDER BY sequence DESC
LIMIT 1 BY campaign_id, incident_id;
