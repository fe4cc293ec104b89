-- Where the results go: a topic for each, whose latest message of a key is right.
-- Any other sink that takes updates by key will do, JDBC for instance.

CREATE TABLE IF NOT EXISTS shadowtap_totals
(
    `experiment` STRING,
    `candidate_version` STRING,
    `config_revision` STRING,
    `route` STRING,
    `first` TIMESTAMP_LTZ(3),
    `last` TIMESTAMP_LTZ(3),
    `agents` BIGINT,
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
    `candidate_min_rtt_us` BIGINT,
    PRIMARY KEY (`experiment`, `candidate_version`, `config_revision`, `route`) NOT ENFORCED
)
WITH (
    'connector' = 'upsert-kafka',
    'properties.bootstrap.servers' = 'localhost:9092',
    'topic' = 'shadowtap.totals',
    'key.format' = 'json',
    'value.format' = 'json',
    'value.json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE IF NOT EXISTS shadowtap_words
(
    `experiment` STRING,
    `candidate_version` STRING,
    `config_revision` STRING,
    `route` STRING,
    `list` STRING,
    `word` STRING,
    `n` BIGINT,
    PRIMARY KEY (`experiment`, `candidate_version`, `config_revision`, `route`, `list`, `word`) NOT ENFORCED
)
WITH (
    'connector' = 'upsert-kafka',
    'properties.bootstrap.servers' = 'localhost:9092',
    'topic' = 'shadowtap.words',
    'key.format' = 'json',
    'value.format' = 'json',
    'value.json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE IF NOT EXISTS shadowtap_fingerprints
(
    `experiment` STRING,
    `candidate_version` STRING,
    `config_revision` STRING,
    `route` STRING,
    `fingerprint` STRING,
    `first` TIMESTAMP_LTZ(3),
    `last` TIMESTAMP_LTZ(3),
    `divergent` BIGINT,
    `paired` BIGINT,
    `both` BIGINT,
    `candidate_only` BIGINT,
    `control_only` BIGINT,
    `b` BIGINT,
    `d` BIGINT,
    `squares` BIGINT,
    PRIMARY KEY (`experiment`, `candidate_version`, `config_revision`, `route`, `fingerprint`) NOT ENFORCED
)
WITH (
    'connector' = 'upsert-kafka',
    'properties.bootstrap.servers' = 'localhost:9092',
    'topic' = 'shadowtap.fingerprints',
    'key.format' = 'json',
    'value.format' = 'json',
    'value.json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE IF NOT EXISTS shadowtap_key_groups
(
    `experiment` STRING,
    `candidate_version` STRING,
    `config_revision` STRING,
    `route` STRING,
    `key_group` INT,
    `compared` BIGINT,
    `divergent` BIGINT,
    PRIMARY KEY (`experiment`, `candidate_version`, `config_revision`, `route`, `key_group`) NOT ENFORCED
)
WITH (
    'connector' = 'upsert-kafka',
    'properties.bootstrap.servers' = 'localhost:9092',
    'topic' = 'shadowtap.key-groups',
    'key.format' = 'json',
    'value.format' = 'json',
    'value.json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE IF NOT EXISTS shadowtap_histograms
(
    `experiment` STRING,
    `candidate_version` STRING,
    `config_revision` STRING,
    `route` STRING,
    `answer` STRING,
    `until` STRING,
    `gave_up` BOOLEAN,
    `bucket` INT,
    `n` BIGINT,
    PRIMARY KEY (`experiment`, `candidate_version`, `config_revision`, `route`, `answer`, `until`, `gave_up`, `bucket`) NOT ENFORCED
)
WITH (
    'connector' = 'upsert-kafka',
    'properties.bootstrap.servers' = 'localhost:9092',
    'topic' = 'shadowtap.histograms',
    'key.format' = 'json',
    'value.format' = 'json',
    'value.json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE IF NOT EXISTS shadowtap_latency
(
    `experiment` STRING,
    `candidate_version` STRING,
    `config_revision` STRING,
    `route` STRING,
    `answer` STRING,
    `until` STRING,
    `n` BIGINT,
    `p50_us` DOUBLE,
    `p90_us` DOUBLE,
    `p99_us` DOUBLE,
    `p50_at_least` BOOLEAN,
    `p90_at_least` BOOLEAN,
    `p99_at_least` BOOLEAN,
    PRIMARY KEY (`experiment`, `candidate_version`, `config_revision`, `route`, `answer`, `until`) NOT ENFORCED
)
WITH (
    'connector' = 'upsert-kafka',
    'properties.bootstrap.servers' = 'localhost:9092',
    'topic' = 'shadowtap.latency',
    'key.format' = 'json',
    'value.format' = 'json',
    'value.json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE IF NOT EXISTS shadowtap_unseen
(
    `experiment` STRING,
    `candidate_version` STRING,
    `config_revision` STRING,
    `route` STRING,
    `bucket` STRING,
    `requests` BIGINT,
    PRIMARY KEY (`experiment`, `candidate_version`, `config_revision`, `route`, `bucket`) NOT ENFORCED
)
WITH (
    'connector' = 'upsert-kafka',
    'properties.bootstrap.servers' = 'localhost:9092',
    'topic' = 'shadowtap.unseen',
    'key.format' = 'json',
    'value.format' = 'json',
    'value.json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE IF NOT EXISTS shadowtap_agents
(
    `agent` STRING,
    `boot_id` STRING,
    `first` TIMESTAMP_LTZ(3),
    `last` TIMESTAMP_LTZ(3),
    `records` BIGINT,
    `missing` BIGINT,
    PRIMARY KEY (`agent`, `boot_id`) NOT ENFORCED
)
WITH (
    'connector' = 'upsert-kafka',
    'properties.bootstrap.servers' = 'localhost:9092',
    'topic' = 'shadowtap.agents',
    'key.format' = 'json',
    'value.format' = 'json',
    'value.json.timestamp-format.standard' = 'ISO-8601'
);

-- One job for all, so that the records are read and kept once.
EXECUTE STATEMENT SET
BEGIN
    INSERT INTO shadowtap_totals SELECT * FROM totals;
    INSERT INTO shadowtap_words SELECT * FROM words;
    INSERT INTO shadowtap_fingerprints SELECT * FROM fingerprints;
    INSERT INTO shadowtap_key_groups SELECT * FROM key_groups;
    INSERT INTO shadowtap_histograms SELECT * FROM histograms;
    INSERT INTO shadowtap_latency SELECT * FROM latency;
    INSERT INTO shadowtap_unseen SELECT * FROM unseen;
    INSERT INTO shadowtap_agents SELECT * FROM agents;
END;
