-- Percentiles in microseconds, each the middle of its bucket: at most 1 % off.
-- difference is that of candidate minus control, request by request. A wait that
-- was given up is longer than what was measured, as far as anybody knows: where
-- at_least is true, the percentile is at least the value.
CREATE TEMPORARY VIEW latency AS
WITH
    sides AS
    (
        SELECT
            experiment, candidate_version, config_revision, route, answer, until, SUM(n) AS n,
            -- Of the bucket in which the shortest wait was given up; without one a
            -- bucket beyond all.
            COALESCE(MIN(CASE WHEN gave_up THEN bucket END), 32767) AS cut
        FROM histograms
        WHERE n > 0
        GROUP BY experiment, candidate_version, config_revision, route, answer, until
    ),
    cumulated AS
    (
        SELECT
            experiment, candidate_version, config_revision, route, answer, until, bucket,
            SUM(n) OVER (PARTITION BY experiment, candidate_version, config_revision, route, answer, until ORDER BY bucket) AS upto
        FROM histograms
        WHERE n > 0 AND NOT gave_up
    ),
    ranked AS
    (
        SELECT
            s.experiment, s.candidate_version, s.config_revision, s.route, s.answer, s.until, s.n, s.cut,
            COALESCE(MIN(CASE WHEN r.upto >= GREATEST(1, CEIL(0.50 * s.n)) THEN r.bucket END), 32767) AS p50,
            COALESCE(MIN(CASE WHEN r.upto >= GREATEST(1, CEIL(0.90 * s.n)) THEN r.bucket END), 32767) AS p90,
            COALESCE(MIN(CASE WHEN r.upto >= GREATEST(1, CEIL(0.99 * s.n)) THEN r.bucket END), 32767) AS p99
        FROM sides AS s
        LEFT JOIN cumulated AS r
            ON r.experiment = s.experiment AND r.candidate_version = s.candidate_version AND r.config_revision = s.config_revision AND r.route = s.route
            AND r.answer = s.answer AND r.until = s.until
        GROUP BY s.experiment, s.candidate_version, s.config_revision, s.route, s.answer, s.until, s.n, s.cut
    )
SELECT
    experiment, candidate_version, config_revision, route, answer, until, n,
    CASE
        WHEN p50 < cut THEN CASE WHEN p50 > 0 THEN POWER(1.02e0, p50 - 0.5e0) WHEN p50 < 0 THEN -POWER(1.02e0, -p50 - 0.5e0) ELSE 0e0 END
        WHEN cut > 0 THEN POWER(1.02e0, cut - 1) WHEN cut < 0 THEN -POWER(1.02e0, -cut) ELSE -1e0
    END AS p50_us,
    CASE
        WHEN p90 < cut THEN CASE WHEN p90 > 0 THEN POWER(1.02e0, p90 - 0.5e0) WHEN p90 < 0 THEN -POWER(1.02e0, -p90 - 0.5e0) ELSE 0e0 END
        WHEN cut > 0 THEN POWER(1.02e0, cut - 1) WHEN cut < 0 THEN -POWER(1.02e0, -cut) ELSE -1e0
    END AS p90_us,
    CASE
        WHEN p99 < cut THEN CASE WHEN p99 > 0 THEN POWER(1.02e0, p99 - 0.5e0) WHEN p99 < 0 THEN -POWER(1.02e0, -p99 - 0.5e0) ELSE 0e0 END
        WHEN cut > 0 THEN POWER(1.02e0, cut - 1) WHEN cut < 0 THEN -POWER(1.02e0, -cut) ELSE -1e0
    END AS p99_us,
    p50 >= cut AS p50_at_least, p90 >= cut AS p90_at_least, p99 >= cut AS p99_at_least
FROM ranked;
