-- What the records say, summed over all agents: what "shadowtap report" would
-- count of them. A period is an experiment with one candidate_version and one
-- config_revision. Counts are exact; times are within a bucket, 2 %.

-- The records that count, each once. Those of capture files have no boot_id, so
-- that repeats of them can't be told: they are left out.
CREATE TEMPORARY VIEW windows AS
SELECT *
FROM
(
    SELECT *, ROW_NUMBER() OVER (PARTITION BY agent, boot_id, `sequence` ORDER BY arrived) AS nth
    FROM window_records
    WHERE `schema` = 'shadowtap.window.v1' AND boot_id <> '' AND experiment <> '' AND window_end > window_start
        AND complete BETWEEN 0 AND 4294967296 AND paired BETWEEN 0 AND 4294967296 AND divergent BETWEEN 0 AND 4294967296 AND late BETWEEN 0 AND 4294967296
        AND CASE
            WHEN fingerprint <> '' THEN `both` + candidate_only <= divergent AND b <= candidate_only AND d <= control_only AND excess_squares >= b + d
            ELSE complete = own_traffic + unmatched + excluded + not_replayable + unsafe + paused + ended + sampled_out + selected
                AND selected = compared + shed + rate_limited + breaker_open + stopped
                AND compared >= `equal` + ignored + divergent
                AND control_chosen = paired + control_failed + control_shed + unpaired
                AND control_chosen <= selected AND paired <= compared
                AND `both` + candidate_only + control_only <= paired AND `both` + candidate_only <= divergent
        END
)
WHERE nth = 1;

-- The sums of each period and route; route '' has what belongs to none. The
-- counts by word are in words. b, d and excess_squares are sums of the agents'
-- own units: for evidence take those of fingerprints.
CREATE TEMPORARY VIEW totals AS
SELECT
    experiment, candidate_version, config_revision, route,
    MIN(window_start) AS `first`, MAX(window_end) AS `last`, COUNT(DISTINCT agent) AS agents,
    SUM(`complete`) AS `complete`,
    SUM(`own_traffic`) AS `own_traffic`,
    SUM(`unmatched`) AS `unmatched`,
    SUM(`excluded`) AS `excluded`,
    SUM(`not_replayable`) AS `not_replayable`,
    SUM(`unsafe`) AS `unsafe`,
    SUM(`paused`) AS `paused`,
    SUM(`ended`) AS `ended`,
    SUM(`sampled_out`) AS `sampled_out`,
    SUM(`selected`) AS `selected`,
    SUM(`compared`) AS `compared`,
    SUM(`shed`) AS `shed`,
    SUM(`rate_limited`) AS `rate_limited`,
    SUM(`breaker_open`) AS `breaker_open`,
    SUM(`stopped`) AS `stopped`,
    SUM(`equal`) AS `equal`,
    SUM(`ignored`) AS `ignored`,
    SUM(`divergent`) AS `divergent`,
    SUM(`control_chosen`) AS `control_chosen`,
    SUM(`control_failed`) AS `control_failed`,
    SUM(`control_shed`) AS `control_shed`,
    SUM(`unpaired`) AS `unpaired`,
    SUM(`paired`) AS `paired`,
    SUM(`both`) AS `both`,
    SUM(`candidate_only`) AS `candidate_only`,
    SUM(`control_only`) AS `control_only`,
    SUM(`b`) AS `b`,
    SUM(`d`) AS `d`,
    SUM(`excess_squares`) AS `excess_squares`,
    SUM(`late`) AS `late`,
    SUM(`warming_up`) AS `warming_up`,
    SUM(`new_connection`) AS `new_connection`,
    COALESCE(MIN(CASE WHEN candidate_min_rtt_us > 0 THEN candidate_min_rtt_us END), 0) AS candidate_min_rtt_us
FROM windows
WHERE fingerprint = ''
GROUP BY experiment, candidate_version, config_revision, route;

-- The counts that have a word: lost, not_comparable and failed.
CREATE TEMPORARY VIEW words AS
SELECT experiment, candidate_version, config_revision, route, list, word, SUM(n) AS n
FROM
(
    SELECT experiment, candidate_version, config_revision, route, 'lost' AS list, h.word AS word, h.n AS n
    FROM windows CROSS JOIN UNNEST(lost) AS h (word, n)
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'not_comparable' AS list, h.word AS word, h.n AS n
    FROM windows CROSS JOIN UNNEST(not_comparable) AS h (word, n)
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'failed' AS list, h.word AS word, h.n AS n
    FROM windows CROSS JOIN UNNEST(failed) AS h (word, n)
)
GROUP BY experiment, candidate_version, config_revision, route, list, word;

-- The ways to differ, by window. b and d are units of evidence: key groups in
-- which the candidate differed more often than the control over all agents, and
-- less often. The agents' excess is summed before it is counted: one stale entry
-- that 50 agents see is one unit, and not 50.
CREATE TEMPORARY VIEW units AS
SELECT
    experiment, candidate_version, config_revision, route, fingerprint, window_start,
    COUNT(CASE WHEN excess > 0 THEN 1 END) AS b, COUNT(CASE WHEN excess < 0 THEN 1 END) AS d, SUM(excess * excess) AS squares
FROM
(
    SELECT experiment, candidate_version, config_revision, route, fingerprint, window_start, g.key_group AS key_group, SUM(g.n) AS excess
    FROM windows CROSS JOIN UNNEST(excess) AS g (key_group, n)
    WHERE fingerprint <> ''
    GROUP BY experiment, candidate_version, config_revision, route, fingerprint, window_start, g.key_group
)
GROUP BY experiment, candidate_version, config_revision, route, fingerprint, window_start;

CREATE TEMPORARY VIEW seen AS
SELECT
    experiment, candidate_version, config_revision, route, fingerprint,
    MIN(window_start) AS `first`, MAX(window_start) AS `last`,
    SUM(divergent) AS divergent, SUM(`both`) AS `both`, SUM(candidate_only) AS candidate_only, SUM(control_only) AS control_only
FROM windows
WHERE fingerprint <> '' AND (divergent > 0 OR `both` > 0 OR control_only > 0)
GROUP BY experiment, candidate_version, config_revision, route, fingerprint;

-- The ways to differ. first and last are the starts of the windows that
-- showed one; paired counts from the first on. b, d and squares leave the first
-- window out, because a difference is looked at only because it was seen there.
CREATE TEMPORARY VIEW fingerprints AS
SELECT
    s.experiment, s.candidate_version, s.config_revision, s.route, s.fingerprint, s.`first`, s.`last`,
    s.divergent, COALESCE(p.paired, 0) AS paired, s.`both`, s.candidate_only, s.control_only,
    COALESCE(u.b, 0) AS b, COALESCE(u.d, 0) AS d, COALESCE(u.squares, 0) AS squares
FROM seen AS s
LEFT JOIN
(
    SELECT s.experiment, s.candidate_version, s.config_revision, s.route, s.fingerprint, SUM(u.b) AS b, SUM(u.d) AS d, SUM(u.squares) AS squares
    FROM seen AS s
    JOIN units AS u
        ON u.experiment = s.experiment AND u.candidate_version = s.candidate_version AND u.config_revision = s.config_revision AND u.route = s.route
        AND u.fingerprint = s.fingerprint AND u.window_start > s.`first`
    GROUP BY s.experiment, s.candidate_version, s.config_revision, s.route, s.fingerprint
) AS u
    ON u.experiment = s.experiment AND u.candidate_version = s.candidate_version AND u.config_revision = s.config_revision AND u.route = s.route
    AND u.fingerprint = s.fingerprint
LEFT JOIN
(
    SELECT s.experiment, s.candidate_version, s.config_revision, s.route, s.fingerprint, SUM(p.paired) AS paired
    FROM seen AS s
    JOIN
    (
        SELECT experiment, candidate_version, config_revision, route, window_start, SUM(paired) AS paired
        FROM windows
        WHERE fingerprint = '' AND paired > 0
        GROUP BY experiment, candidate_version, config_revision, route, window_start
    ) AS p
        ON p.experiment = s.experiment AND p.candidate_version = s.candidate_version AND p.config_revision = s.config_revision AND p.route = s.route
        AND p.window_start >= s.`first`
    GROUP BY s.experiment, s.candidate_version, s.config_revision, s.route, s.fingerprint
) AS p
    ON p.experiment = s.experiment AND p.candidate_version = s.candidate_version AND p.config_revision = s.config_revision AND p.route = s.route
    AND p.fingerprint = s.fingerprint;

-- How the compared requests spread over the 1,024 key groups.
CREATE TEMPORARY VIEW key_groups AS
SELECT experiment, candidate_version, config_revision, route, CAST(g.key_group AS INT) AS key_group, SUM(g.n[1]) AS compared, SUM(g.n[2]) AS divergent
FROM windows CROSS JOIN UNNEST(key_groups) AS g (key_group, n)
WHERE fingerprint = ''
GROUP BY experiment, candidate_version, config_revision, route, g.key_group;

-- The times, by bucket: of which answer, up to which byte. Bucket i > 0 has
-- times over 1.02^(i-1) and up to 1.02^i microseconds, bucket 0 those from -1 to
-- 1, bucket -i the negatives of i. gave_up are the waits that ended without an
-- answer.
CREATE TEMPORARY VIEW histograms AS
SELECT experiment, candidate_version, config_revision, route, answer, until, gave_up, bucket, SUM(n) AS n
FROM
(
    SELECT experiment, candidate_version, config_revision, route, 'reference' AS answer, 'first_byte' AS until, FALSE AS gave_up, CAST(h.bucket AS INT) AS bucket, h.n AS n
    FROM windows CROSS JOIN UNNEST(reference_ttfb) AS h (bucket, n)
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'reference' AS answer, 'last_byte' AS until, FALSE AS gave_up, CAST(h.bucket AS INT) AS bucket, h.n AS n
    FROM windows CROSS JOIN UNNEST(reference_ttlb) AS h (bucket, n)
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'candidate' AS answer, 'first_byte' AS until, FALSE AS gave_up, CAST(h.bucket AS INT) AS bucket, h.n AS n
    FROM windows CROSS JOIN UNNEST(candidate_ttfb) AS h (bucket, n)
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'candidate' AS answer, 'last_byte' AS until, FALSE AS gave_up, CAST(h.bucket AS INT) AS bucket, h.n AS n
    FROM windows CROSS JOIN UNNEST(candidate_ttlb) AS h (bucket, n)
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'control' AS answer, 'first_byte' AS until, FALSE AS gave_up, CAST(h.bucket AS INT) AS bucket, h.n AS n
    FROM windows CROSS JOIN UNNEST(control_ttfb) AS h (bucket, n)
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'control' AS answer, 'last_byte' AS until, FALSE AS gave_up, CAST(h.bucket AS INT) AS bucket, h.n AS n
    FROM windows CROSS JOIN UNNEST(control_ttlb) AS h (bucket, n)
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'difference' AS answer, 'first_byte' AS until, FALSE AS gave_up, CAST(h.bucket AS INT) AS bucket, h.n AS n
    FROM windows CROSS JOIN UNNEST(difference_ttfb) AS h (bucket, n)
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'difference' AS answer, 'last_byte' AS until, FALSE AS gave_up, CAST(h.bucket AS INT) AS bucket, h.n AS n
    FROM windows CROSS JOIN UNNEST(difference_ttlb) AS h (bucket, n)
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'candidate' AS answer, 'first_byte' AS until, TRUE AS gave_up, CAST(h.bucket AS INT) AS bucket, h.n AS n
    FROM windows CROSS JOIN UNNEST(candidate_censored) AS h (bucket, n)
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'control' AS answer, 'first_byte' AS until, TRUE AS gave_up, CAST(h.bucket AS INT) AS bucket, h.n AS n
    FROM windows CROSS JOIN UNNEST(control_censored) AS h (bucket, n)
)
GROUP BY experiment, candidate_version, config_revision, route, answer, until, gave_up, bucket;

-- What was not looked at of the requests that would have been, by cause.
-- Exchanges that were lost before their route was known (route '') would have
-- been selected as often as others.
CREATE TEMPORARY VIEW unseen AS
SELECT experiment, candidate_version, config_revision, route, bucket, SUM(requests) AS requests
FROM
(
    SELECT experiment, candidate_version, config_revision, route, word AS bucket, n AS requests FROM words WHERE list = 'lost' AND route <> ''
    UNION ALL
    SELECT w.experiment, w.candidate_version, w.config_revision, w.route, w.word, CAST(FLOOR(w.n * p.share + 0.5) AS BIGINT)
    FROM words AS w
    JOIN
    (
        SELECT experiment, candidate_version, config_revision, CASE WHEN SUM(complete) > 0 THEN CAST(SUM(selected) AS DOUBLE) / SUM(complete) ELSE 1 END AS share
        FROM windows
        WHERE fingerprint = ''
        GROUP BY experiment, candidate_version, config_revision
    ) AS p
        ON p.experiment = w.experiment AND p.candidate_version = w.candidate_version AND p.config_revision = w.config_revision
    WHERE w.list = 'lost' AND w.route = ''
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'shed', shed FROM totals WHERE route <> ''
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'rate_limited', rate_limited FROM totals WHERE route <> ''
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'breaker_open', breaker_open FROM totals WHERE route <> ''
    UNION ALL
    SELECT experiment, candidate_version, config_revision, route, 'stopped', stopped FROM totals WHERE route <> ''
)
GROUP BY experiment, candidate_version, config_revision, route, bucket
HAVING SUM(requests) > 0;

-- Each start of an agent. missing are holes in its sequence: records that never
-- came.
CREATE TEMPORARY VIEW agents AS
SELECT
    agent, boot_id, MIN(window_start) AS `first`, MAX(window_end) AS `last`, COUNT(*) AS records,
    MAX(`sequence`) - MIN(`sequence`) + 1 - COUNT(*) AS missing
FROM windows
GROUP BY agent, boot_id;
