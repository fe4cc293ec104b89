// Package report makes of windows and published divergences the page that an
// engineer reads: what differs, in how many ways, how often, is it noise, is it
// slower, may I promote, and how sure is that.
//
// In: window records and divergence records, as published, one by one and in
// any order, and the ledger's counts where there is an agent to ask. Out: a
// Document, and that as text, as JSON and as one HTML file.
//
//	b, err := report.New(report.Config{})
//	for each record { err := b.Record(value) } // an error concerns this record alone
//	d, err := b.Document(verdict.DefaultSettings())
//	err = d.WriteText(os.Stdout, report.TextOptions{})
//	os.Exit(d.Word.ExitCode())
//
// Records come from files and topics that anybody may have written to: each is
// checked, what can't be right is refused and counted, and the memory is bounded
// by Config. Classes, bounds and words are diff/verdict's; this package adds
// what they look like: an example of each cause, how it went over time, and the
// times as histograms.
//
// A Document depends on the records alone, not on their order, and holds no
// clock's time: the same records give the same bytes. Two exceptions, which it
// counts: records that contradict each other (the first counts), and those
// beyond a bound (the first count).
package report
