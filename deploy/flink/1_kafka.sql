-- The topic of window records. Put the brokers and the topic of your sinks here.

-- A record is remembered for this long, so that a repeat is known: at least as
-- long as an experiment runs. It is the size of the state.
SET 'table.exec.state.ttl' = '8 d';
-- Results change with every record: bring them up to date once a window.
SET 'table.exec.mini-batch.enabled' = 'true';
SET 'table.exec.mini-batch.allow-latency' = '10 s';
SET 'table.exec.mini-batch.size' = '10000';

-- Columns have the names of the record's fields; the schema says what they are.
CREATE TABLE IF NOT EXISTS window_records
(
    `schema` STRING,
    `window_start` TIMESTAMP_LTZ(3),
    `window_end` TIMESTAMP_LTZ(3),
    `agent` STRING,
    `boot_id` STRING,
    `sequence` BIGINT,
    `config_revision` STRING,
    `experiment` STRING,
    `route` STRING,
    `candidate_version` STRING,
    `sample_by` STRING,
    `control_self` BOOLEAN,
    `fingerprint` STRING,
    `lost` MAP<STRING, BIGINT>,
    `complete` BIGINT,
    `own_traffic` BIGINT,
    `unmatched` BIGINT,
    `excluded` BIGINT,
    `not_replayable` BIGINT,
    `unsafe` BIGINT,
    `paused` BIGINT,
    `ended` BIGINT,
    `sampled_out` BIGINT,
    `selected` BIGINT,
    `compared` BIGINT,
    `shed` BIGINT,
    `rate_limited` BIGINT,
    `breaker_open` BIGINT,
    `stopped` BIGINT,
    `equal` BIGINT,
    `ignored` BIGINT,
    `divergent` BIGINT,
    `not_comparable` MAP<STRING, BIGINT>,
    `failed` MAP<STRING, BIGINT>,
    `control_chosen` BIGINT,
    `control_failed` BIGINT,
    `control_shed` BIGINT,
    `unpaired` BIGINT,
    `paired` BIGINT,
    `both` BIGINT,
    `candidate_only` BIGINT,
    `control_only` BIGINT,
    `b` BIGINT,
    `d` BIGINT,
    `excess_squares` BIGINT,
    `late` BIGINT,
    `warming_up` BIGINT,
    `new_connection` BIGINT,
    `key_groups` MAP<STRING, ARRAY<BIGINT>>,
    `excess` MAP<STRING, BIGINT>,
    `reference_ttfb` MAP<STRING, BIGINT>,
    `reference_ttlb` MAP<STRING, BIGINT>,
    `candidate_ttfb` MAP<STRING, BIGINT>,
    `candidate_ttlb` MAP<STRING, BIGINT>,
    `control_ttfb` MAP<STRING, BIGINT>,
    `control_ttlb` MAP<STRING, BIGINT>,
    `difference_ttfb` MAP<STRING, BIGINT>,
    `difference_ttlb` MAP<STRING, BIGINT>,
    `candidate_censored` MAP<STRING, BIGINT>,
    `control_censored` MAP<STRING, BIGINT>,
    `candidate_min_rtt_us` BIGINT,

    arrived AS PROCTIME()
)
WITH (
    'connector' = 'kafka',
    'properties.bootstrap.servers' = 'localhost:9092',
    'properties.group.id' = 'shadowtap-flink',
    'topic' = 'shadowtap.windows',
    'scan.startup.mode' = 'earliest-offset',
    'format' = 'json',
    'json.timestamp-format.standard' = 'ISO-8601',
    -- A message that is no record becomes one without a schema, and is left out.
    'json.ignore-parse-errors' = 'true'
);
