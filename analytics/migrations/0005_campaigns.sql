-- Facts about campaigns, from whoever runs them; the newest facts hold.
-- shard: cityHash64(campaign_id)
CREATE TABLE IF NOT EXISTS campaigns
(
    campaign_id         LowCardinality(String) COMMENT 'Campaign.',
    name                String COMMENT 'Name for people.',
    owner               String COMMENT 'Who answers for it.',
    started_at          Nullable(DateTime64(3, 'UTC')) COMMENT 'When sending started, UTC; null when not given.',
    expected_recipients Nullable(Int64) COMMENT 'How many recipients it is meant for; null when not given.',
    tags                Array(String) COMMENT 'Tags.',
    updated_at          DateTime64(6, 'UTC') COMMENT 'When these facts were written, UTC: the version of the row.',
    is_deleted          UInt8 COMMENT '1 when the facts were withdrawn; FINAL hides it.'
)
ENGINE = ReplacingMergeTree(updated_at, is_deleted)
ORDER BY campaign_id
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Facts about campaigns. Read with FINAL.';
