-- What the records say, summed over all agents: what "shadowtap report" would
-- count of them. A period is an experiment with one candidate_version and one
-- config_revision. Counts are exact; times are within a bucket, 2 %.

-- The records that count.
CREATE OR REPLACE VIEW shadowtap.windows AS
SELECT *
FROM shadowtap.window_records FINAL
WHERE wrong = '';

-- The sums of each period and route; route '' has what belongs to none.
-- b, d and excess_squares are sums of the agents' own units: for evidence take
-- those of shadowtap.fingerprints.
CREATE OR REPLACE VIEW shadowtap.totals AS
SELECT
    w.experiment AS experiment, w.candidate_version AS candidate_version, w.config_revision AS config_revision, w.route AS route,
    min(w.window_start) AS first, max(w.window_end) AS last, uniqExact(w.agent) AS agents,
    sumMap(w.lost) AS lost,
    sum(w.complete) AS complete,
    sum(w.own_traffic) AS own_traffic,
    sum(w.unmatched) AS unmatched,
    sum(w.excluded) AS excluded,
    sum(w.not_replayable) AS not_replayable,
    sum(w.unsafe) AS unsafe,
    sum(w.paused) AS paused,
    sum(w.ended) AS ended,
    sum(w.sampled_out) AS sampled_out,
    sum(w.selected) AS selected,
    sum(w.compared) AS compared,
    sum(w.shed) AS shed,
    sum(w.rate_limited) AS rate_limited,
    sum(w.breaker_open) AS breaker_open,
    sum(w.stopped) AS stopped,
    sum(w.equal) AS equal,
    sum(w.ignored) AS ignored,
    sum(w.divergent) AS divergent,
    sumMap(w.not_comparable) AS not_comparable,
    sumMap(w.failed) AS failed,
    sum(w.control_chosen) AS control_chosen,
    sum(w.control_failed) AS control_failed,
    sum(w.control_shed) AS control_shed,
    sum(w.unpaired) AS unpaired,
    sum(w.paired) AS paired,
    sum(w.both) AS both,
    sum(w.candidate_only) AS candidate_only,
    sum(w.control_only) AS control_only,
    sum(w.b) AS b,
    sum(w.d) AS d,
    sum(w.excess_squares) AS excess_squares,
    sum(w.late) AS late,
    sum(w.warming_up) AS warming_up,
    sum(w.new_connection) AS new_connection,
    minIf(w.candidate_min_rtt_us, w.candidate_min_rtt_us > 0) AS candidate_min_rtt_us
FROM shadowtap.windows AS w
WHERE w.fingerprint = ''
GROUP BY w.experiment, w.candidate_version, w.config_revision, w.route;

-- The ways to differ. first and last are the starts of the windows that showed
-- one; paired counts from the first on.
--
-- b and d are units of evidence: key groups of a window in which the candidate
-- differed more often than the control over all agents, and less often. The
-- agents' excess is summed before it is counted: one stale entry that 50 agents
-- see is one unit, and not 50. b, d, squares and excess_share leave the first
-- window out, because a difference is looked at only because it was seen there.
CREATE OR REPLACE VIEW shadowtap.fingerprints AS
WITH
    seen AS
    (
        SELECT
            w.experiment AS experiment, w.candidate_version AS candidate_version, w.config_revision AS config_revision, w.route AS route,
            w.fingerprint AS fingerprint, w.window_start AS start,
            sum(w.divergent) AS n, sum(w.both) AS n_both, sum(w.candidate_only) AS n_candidate, sum(w.control_only) AS n_control,
            mapValues(sumMap(w.excess)) AS units
        FROM shadowtap.windows AS w
        WHERE w.fingerprint != '' AND (w.divergent > 0 OR w.both > 0 OR w.control_only > 0)
        GROUP BY w.experiment, w.candidate_version, w.config_revision, w.route, w.fingerprint, w.window_start
    ),
    counted AS
    (
        SELECT *, arrayCount(x -> x > 0, units) AS n_b, arrayCount(x -> x < 0, units) AS n_d, arraySum(x -> x * x, units) AS n_squares
        FROM seen
    ),
    sums AS
    (
        SELECT
            experiment, candidate_version, config_revision, route, fingerprint,
            min(start) AS first, max(start) AS last,
            sum(n) AS divergent, sum(n_both) AS both, sum(n_candidate) AS candidate_only, sum(n_control) AS control_only,
            sum(n_b) - argMin(n_b, start) AS b, sum(n_d) - argMin(n_d, start) AS d, sum(n_squares) - argMin(n_squares, start) AS squares,
            toInt64(sum(n_candidate) - argMin(n_candidate, start)) - toInt64(sum(n_control) - argMin(n_control, start)) AS later_excess
        FROM counted
        GROUP BY experiment, candidate_version, config_revision, route, fingerprint
    ),
    pairs AS
    (
        SELECT *, sum(n) OVER (PARTITION BY experiment, candidate_version, config_revision, route ORDER BY start DESC) AS since
        FROM
        (
            SELECT
                w.experiment AS experiment, w.candidate_version AS candidate_version, w.config_revision AS config_revision, w.route AS route,
                w.window_start AS start, sum(w.paired) AS n
            FROM shadowtap.windows AS w
            WHERE w.fingerprint = '' AND w.paired > 0
            GROUP BY w.experiment, w.candidate_version, w.config_revision, w.route, w.window_start
        )
    )
SELECT
    s.experiment AS experiment, s.candidate_version AS candidate_version, s.config_revision AS config_revision, s.route AS route,
    s.fingerprint AS fingerprint, s.first AS first, s.last AS last,
    s.divergent AS divergent, p.since AS paired, s.both AS both, s.candidate_only AS candidate_only, s.control_only AS control_only,
    s.b AS b, s.d AS d, s.squares AS squares,
    s.later_excess / nullIf(p.since - if(p.start = s.first, p.n, 0), 0) AS excess_share
FROM sums AS s
ASOF LEFT JOIN pairs AS p
    ON s.experiment = p.experiment AND s.candidate_version = p.candidate_version AND s.config_revision = p.config_revision AND s.route = p.route
    AND s.first <= p.start;

-- How the compared requests spread over the 1,024 key groups.
CREATE OR REPLACE VIEW shadowtap.key_groups AS
SELECT experiment, candidate_version, config_revision, route, g.1 AS key_group, g.2 AS compared, g.3 AS divergent
FROM
(
    SELECT
        w.experiment AS experiment, w.candidate_version AS candidate_version, w.config_revision AS config_revision, w.route AS route,
        sumMap(mapKeys(w.key_groups), arrayMap(x -> x.1, mapValues(w.key_groups)), arrayMap(x -> x.2, mapValues(w.key_groups))) AS sums
    FROM shadowtap.windows AS w
    WHERE w.fingerprint = ''
    GROUP BY w.experiment, w.candidate_version, w.config_revision, w.route
)
ARRAY JOIN arrayZip(sums.1, sums.2, sums.3) AS g;

-- The times: of which answer, up to which byte. Bucket i > 0 has times over
-- 1.02^(i-1) and up to 1.02^i microseconds, bucket 0 those from -1 to 1, bucket
-- -i the negatives of i. gave_up are the waits that ended without an answer.
CREATE OR REPLACE VIEW shadowtap.histograms AS
SELECT experiment, candidate_version, config_revision, route, h.1 AS answer, h.2 AS until, h.3 AS times, h.4 AS gave_up
FROM
(
    SELECT
        w.experiment AS experiment, w.candidate_version AS candidate_version, w.config_revision AS config_revision, w.route AS route,
        CAST(map(), 'Map(Int16, UInt64)') AS none,
        [
            ('reference', 'first_byte', sumMap(w.reference_ttfb), none),
            ('reference', 'last_byte', sumMap(w.reference_ttlb), none),
            ('candidate', 'first_byte', sumMap(w.candidate_ttfb), sumMap(w.candidate_censored)),
            ('candidate', 'last_byte', sumMap(w.candidate_ttlb), none),
            ('control', 'first_byte', sumMap(w.control_ttfb), sumMap(w.control_censored)),
            ('control', 'last_byte', sumMap(w.control_ttlb), none),
            ('difference', 'first_byte', sumMap(w.difference_ttfb), none),
            ('difference', 'last_byte', sumMap(w.difference_ttlb), none)
        ] AS all
    FROM shadowtap.windows AS w
    WHERE w.fingerprint = ''
    GROUP BY w.experiment, w.candidate_version, w.config_revision, w.route
)
ARRAY JOIN all AS h;

-- Percentiles in microseconds, each the middle of its bucket: at most 1 % off.
-- difference is that of candidate minus control, request by request. A wait that
-- was given up is longer than what was measured, as far as anybody knows: where
-- at_least is true, the percentile is at least the value.
CREATE OR REPLACE VIEW shadowtap.latency AS
WITH
    ranked AS
    (
        SELECT
            experiment, candidate_version, config_revision, route, answer, until,
            arraySort(mapKeys(times)) AS buckets,
            arrayCumSum(arrayMap(i -> times[i], buckets)) AS sums,
            arrayFilter(i -> gave_up[i] > 0, mapKeys(gave_up)) AS waits,
            arraySum(mapValues(times)) + arraySum(mapValues(gave_up)) AS n,
            -- Of the bucket in which the shortest wait was given up: its lower
            -- edge. Without one, a bucket beyond all.
            if(empty(waits), 32767, toInt32(arrayMin(waits))) AS cut,
            multiIf(cut > 0, pow(1.02, cut - 1), cut < 0, -pow(1.02, -cut), -1) AS cut_us,
            arrayMap(q -> buckets[arrayFirstIndex(s -> s >= greatest(1, ceil(q * n)), sums)], [0.5, 0.9, 0.99]) AS at,
            arrayMap(q -> sums[-1] < greatest(1, ceil(q * n)), [0.5, 0.9, 0.99]) AS beyond,
            arrayMap((i, out) -> out OR i >= cut, at, beyond) AS open,
            arrayMap((i, out) -> multiIf(out, cut_us, i > 0, pow(1.02, i - 0.5), i < 0, -pow(1.02, -i - 0.5), 0.), at, open) AS us
        FROM shadowtap.histograms
    )
SELECT
    experiment, candidate_version, config_revision, route, answer, until, n,
    us[1] AS p50_us, us[2] AS p90_us, us[3] AS p99_us,
    CAST(open[1], 'Bool') AS p50_at_least, CAST(open[2], 'Bool') AS p90_at_least, CAST(open[3], 'Bool') AS p99_at_least
FROM ranked
WHERE n > 0;

-- What was not looked at of the requests that would have been, by cause.
-- Exchanges that were lost before their route was known (route '') would have
-- been selected as often as others.
CREATE OR REPLACE VIEW shadowtap.unseen AS
WITH shares AS
(
    SELECT
        *,
        sum(selected) OVER (PARTITION BY experiment, candidate_version, config_revision) AS all_selected,
        sum(complete) OVER (PARTITION BY experiment, candidate_version, config_revision) AS all_complete,
        if(all_complete > 0, all_selected / all_complete, 1) AS share
    FROM shadowtap.totals
)
SELECT experiment, candidate_version, config_revision, route, cause.1 AS bucket, sum(cause.2) AS requests
FROM shares
ARRAY JOIN if(route = '',
    arrayMap((word, n) -> (CAST(word, 'String'), toUInt64(n * share + 0.5)), mapKeys(lost), mapValues(lost)),
    arrayConcat(arrayMap((word, n) -> (CAST(word, 'String'), n), mapKeys(lost), mapValues(lost)),
        [('shed', shed), ('rate_limited', rate_limited), ('breaker_open', breaker_open), ('stopped', stopped)])) AS cause
GROUP BY experiment, candidate_version, config_revision, route, bucket
HAVING requests > 0;

-- Each start of an agent. missing are holes in its sequence: records that never
-- came. repeats were left out.
CREATE OR REPLACE VIEW shadowtap.agents AS
SELECT
    agent, boot_id, min(since) AS first, max(till) AS last, count() AS records,
    if(boot_id = '', 0, max(sequence) - min(sequence) + 1 - count()) AS missing,
    sum(n) - count() AS repeats
FROM
(
    SELECT agent, boot_id, sequence, capture, min(first) AS since, max(last) AS till, sum(arrivals) AS n
    FROM shadowtap.record_arrivals
    GROUP BY agent, boot_id, sequence, capture
)
GROUP BY agent, boot_id;

-- Records that contradict another of the same agent, boot_id and sequence, as
-- when two agents have one name. While there are any, promote nothing: which of
-- them was counted is left to chance.
CREATE OR REPLACE VIEW shadowtap.conflicts AS
SELECT agent, boot_id, sequence, min(first) AS since, max(last) AS till
FROM shadowtap.record_arrivals
GROUP BY agent, boot_id, sequence, capture
HAVING min(least) != max(most);

-- Records that are not counted because their numbers can't be right.
CREATE OR REPLACE VIEW shadowtap.refused AS
SELECT wrong, agent, boot_id, sequence, window_start, experiment, route, fingerprint
FROM shadowtap.window_records FINAL
WHERE wrong != '';
