// Package verdict says from windows of counts what a candidate's divergences
// mean: which of them are noise, how often it diverges at most, whether it is
// slower, and whether one may promote it.
//
// In: Window records, of any number of agents, in any order, and Settings. Out:
// a Report with a class for each fingerprint, and for each route and experiment
// one of the words promote, hold and insufficient with its reasons. A Collector
// makes the windows from compared pairs; it is what an agent runs.
//
//	m := verdict.NewMerge()
//	for each record { w, err := verdict.ParseWindow(record); ...; m.Add(w) }
//	r := m.Report(verdict.DefaultSettings())
//	os.Exit(r.Word.ExitCode())
//
// The package is pure: it reads no clock, no file, no network and no
// randomness. The same windows give the same Report in whatever order they
// come, and repeats of a record count once.
//
// # Evidence
//
// A control is a second instance of the reference version that gets a share of
// the replays too. What differs between reference and control is noise; the
// question is whether the candidate differs more. It is not asked of each
// request: one stale cache entry spoils many in a row. The unit of evidence is
// (route, fingerprint, key group, window), and it counts once: for the candidate
// if more candidate-only than control-only differences fell into it, for the
// control if fewer, else not at all. b and d are the numbers of these. A unit is
// over all agents, since all of them may meet the same stale entry: the B and D
// of their windows, summed, call a burst the candidate's that 20 agents saw.
//
// LogEvidence of b and d is a test martingale under "no more often than the
// control" (uniform mixture over [1/2, 1]), so one may look at it after each
// window. The t-th fingerprint of an experiment, in order of first sight, is a
// Candidate when its evidence reaches Threshold(t, alpha): the chance that any
// fingerprint ever is one without cause is at most alpha. The window that first
// showed a fingerprint is left out of its b and d, since it was chosen by it.
//
// # Bounds
//
// Upper and Lower hold at every look at once (uniform mixture too), UpperOnce
// for one look that was fixed beforehand. Everything is computed in logarithms,
// for counts up to 10^9.
//
// # Limits
//
// The evidence takes the windows of one key group to be independent of each
// other. A difference of one side that stays with the same few requests for
// many windows is taken for the candidate's own; so it is, unless it is chance
// which of two equal instances has it.
//
// The bound on the share of divergent pairs speaks of requests as they were
// sampled. With sample.by other than request it speaks of the sampled keys
// only, and the Report says so.
package verdict
