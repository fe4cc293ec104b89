-- From the topic into the tables. Reading begins with the last statement but
-- one, so this file comes last. Put the brokers and the topic of your sinks here.

CREATE TABLE IF NOT EXISTS shadowtap.windows_queue
(
    schema LowCardinality(String),
    window_start DateTime64(6, 'UTC'),
    window_end DateTime64(6, 'UTC'),
    agent LowCardinality(String),
    boot_id LowCardinality(String),
    sequence UInt64,
    config_revision LowCardinality(String),
    experiment LowCardinality(String),
    route LowCardinality(String),
    candidate_version LowCardinality(String),
    sample_by LowCardinality(String),
    control_self Bool,
    fingerprint LowCardinality(String),
    lost Map(LowCardinality(String), UInt64),
    complete UInt64,
    own_traffic UInt64,
    unmatched UInt64,
    excluded UInt64,
    not_replayable UInt64,
    unsafe UInt64,
    paused UInt64,
    ended UInt64,
    sampled_out UInt64,
    selected UInt64,
    compared UInt64,
    shed UInt64,
    rate_limited UInt64,
    breaker_open UInt64,
    stopped UInt64,
    equal UInt64,
    ignored UInt64,
    divergent UInt64,
    not_comparable Map(LowCardinality(String), UInt64),
    failed Map(LowCardinality(String), UInt64),
    control_chosen UInt64,
    control_failed UInt64,
    control_shed UInt64,
    unpaired UInt64,
    paired UInt64,
    both UInt64,
    candidate_only UInt64,
    control_only UInt64,
    b UInt64,
    d UInt64,
    excess_squares UInt64,
    late UInt64,
    warming_up UInt64,
    new_connection UInt64,
    key_groups Map(UInt16, Tuple(UInt64, UInt64)),
    excess Map(UInt16, Int64),
    reference_ttfb Map(Int16, UInt64),
    reference_ttlb Map(Int16, UInt64),
    candidate_ttfb Map(Int16, UInt64),
    candidate_ttlb Map(Int16, UInt64),
    control_ttfb Map(Int16, UInt64),
    control_ttlb Map(Int16, UInt64),
    difference_ttfb Map(Int16, UInt64),
    difference_ttlb Map(Int16, UInt64),
    candidate_censored Map(Int16, UInt64),
    control_censored Map(Int16, UInt64),
    candidate_min_rtt_us UInt64
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = 'localhost:9092',
    kafka_topic_list = 'shadowtap.windows',
    kafka_group_name = 'shadowtap-clickhouse',
    kafka_format = 'JSONEachRow',
    kafka_num_consumers = 1,
    -- A message that can't be read goes to shadowtap.unreadable and stops nothing.
    kafka_handle_error_mode = 'stream',
    -- Later versions of v1 may add fields.
    input_format_skip_unknown_fields = 1,
    date_time_input_format = 'best_effort';

CREATE MATERIALIZED VIEW IF NOT EXISTS shadowtap.unreadable_mv TO shadowtap.unreadable AS
SELECT _topic AS topic, _partition AS partition, _offset AS offset, _error AS error, substring(_raw_message, 1, 4096) AS message
FROM shadowtap.windows_queue
WHERE _error != '';

CREATE MATERIALIZED VIEW IF NOT EXISTS shadowtap.windows_mv TO shadowtap.window_records AS
SELECT *, cityHash64(*) AS content
FROM shadowtap.windows_queue
WHERE _error = '';
