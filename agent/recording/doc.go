// Package recording keeps what the replay of a capture came to, in a folder, so
// that it can be compared again without the candidate.
//
// In: Events, in the order in which the capture's exchanges were complete. Out:
// the same Events, from Reader. It compares and redacts nothing: a recording
// holds requests, answers and credentials in the clear. The folder has mode 0700
// and its files 0600.
//
// # Format
//
// The folder has two files. head.json is one JSON object:
//
//	format         "shadowtap.recording.v2"; a later version that older readers
//	               would read wrongly has another name. Version 1 has no control
//	               and no again below, and is read too
//	agent_version  the program that wrote it
//	config         the configuration as YAML, without sinks and whatever else
//	               does not decide about records
//	times          whether records made of it carry what differs from run to run
//
// events.jsonl.zst is a zstd stream (RFC 8878) of lines, each a JSON object with
// one of these:
//
//	tick      the capture's clock, in nanoseconds since the Unix epoch
//	exchange  a complete exchange: time, the choice of each experiment, the
//	          replays, and where there are some the whole exchange. A replay has
//	          the candidate's answer, or the error word, in control the end of
//	          the pair (result and reason as in the ledger) with the control's
//	          answer, and in again what both answered when asked once more
//	lost      exchanges that did not become complete: time, choices, the
//	          ledger's result, and how many
//	end       the last line: the number of events before it, and the capture's
//	          ledger by line and result
//
// Bodies are in base64 (RFC 4648 section 4). A text that is not UTF-8 is an
// object with the key base64 in place of a string. Numbers are integers, times
// are nanoseconds since the Unix epoch, durations nanoseconds. Readers leave out
// keys that they do not know.
//
// A line is at most as long as MaxLine says for the configuration's
// capture.max_body. A recording without its last line was cut short, by a crash
// or a full disk; it is read as far as it is whole.
package recording
