// Package publish delivers redacted records: to Kafka, as JSON lines to a
// file, and to a terminal.
//
// Its input is a redact.Record, the only type that a sink takes. A Publisher
// decides by the cap per fingerprint whether a record is published, puts it
// into a bounded queue for each sink, and keeps the deliveries line of the
// ledger: every record handed to Publish ends, for each sink, as acknowledged,
// suppressed or dropped with a reason, or is in flight.
//
// Publish never blocks its caller or waits for a sink: a full queue drops the
// newest record and counts it. Window records, which many come at once and none
// may miss, wait for room as long as PublishWindow's caller says.
//
// ReadTopics is the way back: it reads topics to their end, for reports.
//
// What it does not do: it redacts nothing and sees no clear value; it does not
// keep records on disk while a broker is away.
package publish
