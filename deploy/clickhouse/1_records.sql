-- Where window records are kept: each once, whatever was delivered twice.

CREATE DATABASE IF NOT EXISTS shadowtap;

-- Columns have the names of the record's fields; the schema says what they are.
CREATE TABLE IF NOT EXISTS shadowtap.window_records
(
    schema LowCardinality(String),
    window_start DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    window_end DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    agent LowCardinality(String),
    boot_id LowCardinality(String),
    sequence UInt64 CODEC(Delta, ZSTD),
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
    candidate_min_rtt_us UInt64,

    -- What is not in the record. content tells records apart that claim to be
    -- the same one. Those of capture files have no boot_id and are told apart by
    -- it alone: capture is content there, else 0.
    content UInt64,
    capture UInt64 MATERIALIZED if(boot_id = '', content, 0),

    -- Why the record is not counted: the first field that can't be right.
    wrong LowCardinality(String) MATERIALIZED multiIf(
        schema != 'shadowtap.window.v1', 'schema',
        window_end <= window_start, 'window_end',
        experiment = '', 'experiment',
        arrayMax([complete, selected, compared, control_chosen, paired, divergent, both, candidate_only, control_only, late, warming_up, new_connection]) > 4294967296, 'out of range',
        fingerprint != '' AND both + candidate_only > divergent, 'divergent',
        fingerprint != '' AND (b != arrayCount(x -> x > 0, mapValues(excess)) OR d != arrayCount(x -> x < 0, mapValues(excess))
            OR excess_squares != arraySum(x -> x * x, mapValues(excess))), 'excess',
        fingerprint != '', '',
        complete != own_traffic + unmatched + excluded + not_replayable + unsafe + paused + ended + sampled_out + selected, 'complete',
        selected != compared + shed + rate_limited + breaker_open + stopped, 'selected',
        compared != equal + ignored + divergent + arraySum(mapValues(not_comparable)), 'compared',
        control_chosen != paired + control_failed + control_shed + unpaired, 'control_chosen',
        control_chosen > selected OR paired > compared OR both + candidate_only + control_only > paired, 'paired',
        both + candidate_only + arraySum(mapValues(failed)) > divergent, 'divergent',
        '')
)
ENGINE = ReplacingMergeTree
-- A repeat has all of these the same, so that one row stays of it.
ORDER BY (experiment, candidate_version, config_revision, route, fingerprint, window_start, agent, boot_id, sequence, capture)
PARTITION BY toDate(window_start)
TTL toDateTime(window_start) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1;

-- Which records came, how often, and whether always with the same content: a
-- merge of window_records forgets that.
CREATE TABLE IF NOT EXISTS shadowtap.record_arrivals
(
    agent LowCardinality(String),
    boot_id LowCardinality(String),
    sequence UInt64 CODEC(Delta, ZSTD),
    capture UInt64,
    arrivals SimpleAggregateFunction(sum, UInt64),
    least SimpleAggregateFunction(min, UInt64),
    most SimpleAggregateFunction(max, UInt64),
    first SimpleAggregateFunction(min, DateTime64(6, 'UTC')),
    last SimpleAggregateFunction(max, DateTime64(6, 'UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY (agent, boot_id, sequence, capture)
TTL toDateTime(last) + INTERVAL 30 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS shadowtap.record_arrivals_mv TO shadowtap.record_arrivals AS
SELECT agent, boot_id, sequence, capture, toUInt64(1) AS arrivals, content AS least, content AS most, window_start AS first, window_end AS last
FROM shadowtap.window_records
WHERE wrong = '';

-- Messages that are no window record at all.
CREATE TABLE IF NOT EXISTS shadowtap.unreadable
(
    arrived DateTime DEFAULT now(),
    topic LowCardinality(String),
    partition UInt64,
    offset UInt64,
    error String,
    message String
)
ENGINE = MergeTree
ORDER BY arrived
TTL arrived + INTERVAL 7 DAY;
