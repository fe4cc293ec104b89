package exchange

// MaxExperiments bounds the experiments of one agent, so that a Decision is a
// small value without pointers.
const MaxExperiments = 16

// Want says how much of an exchange is to be kept.
type Want uint8

const (
	// WantFrame: follow the framing and count; nothing is buffered.
	WantFrame Want = iota
	// WantList: keep the heads' words and the bodies' lengths and digests.
	WantList
	// WantWhole: keep heads and bodies, up to the limit.
	WantWhole
)

// Selection is the result of sampling for one experiment, in the order in
// which the reasons are looked at. Its String is the ledger's result label.
type Selection uint8

const (
	Unmatched Selection = iota
	OwnTraffic
	Excluded
	NotReplayable
	Unsafe
	Paused
	Ended
	SampledOut
	Selected
	NumSelections
)

var selectionWords = [NumSelections]string{
	"unmatched", "own_traffic", "excluded", "not_replayable", "unsafe", "paused", "ended", "sampled_out", "selected",
}

// String gives the ledger's result label.
func (s Selection) String() string { return selectionWords[s] }

// PauseReason says why an experiment's replay is paused.
type PauseReason uint8

const (
	PauseNone PauseReason = iota
	// PauseOff: an operator's off over the admin socket.
	PauseOff
	// PauseOffFile: named in the off file.
	PauseOffFile
	// PauseDisabled: enabled is false.
	PauseDisabled
	// PauseGuard: the guard saw the reference suffer.
	PauseGuard
	NumPauseReasons
)

var pauseWords = [NumPauseReasons]string{"", "off", "off_file", "disabled", "guard"}

// String gives the ledger's reason label.
func (p PauseReason) String() string { return pauseWords[p] }

// Choice is the decision for one experiment.
type Choice struct {
	Selection Selection
	// Pause is set when Selection is Paused.
	Pause PauseReason
	// Doubt is set when Selection is NotReplayable.
	Doubt Doubt
	// Route is the index of the matched route of the experiment, valid unless
	// Selection is Unmatched or OwnTraffic.
	Route uint16
}

// Decision is what sampling says about one request: how much to keep, and a
// choice for each experiment. It rides with the exchange.
type Decision struct {
	Want Want
	// Len is the number of experiments in Choices.
	Len     uint8
	Choices [MaxExperiments]Choice
}

// Doubt is why a request is not replayed though its framing could be followed.
type Doubt uint8

const (
	DoubtNone Doubt = iota
	// DoubtTEAndCL: both Transfer-Encoding and Content-Length.
	DoubtTEAndCL
	// DoubtTE: Transfer-Encoding is something other than exactly "chunked".
	DoubtTE
	// DoubtTEIn10: Transfer-Encoding in HTTP/1.0.
	DoubtTEIn10
	// DoubtCL: Content-Lengths that differ or are no number.
	DoubtCL
	// DoubtHost: more than one Host, or none in HTTP/1.1.
	DoubtHost
	// DoubtConnect: the method is CONNECT.
	DoubtConnect
	// DoubtUpgrade: the request asks for another protocol than a WebSocket.
	DoubtUpgrade
	// DoubtTarget: the target is neither origin-form nor "*".
	DoubtTarget
	// DoubtUrgent: the stream carried TCP urgent data.
	DoubtUrgent
	// DoubtOverlap: a retransmission carried other bytes.
	DoubtOverlap
	// DoubtSyntax: the head breaks a rule of RFC 9112 (obs-fold, bare CR, ...).
	DoubtSyntax
	// DoubtChunk: a chunk size line that readers may take differently.
	DoubtChunk
	// DoubtWebSocket: the request asks for a WebSocket (RFC 6455 section 4.1).
	DoubtWebSocket
	// DoubtEventStream: the answer is a stream of server-sent events, which may
	// not end and is another one each time.
	DoubtEventStream
	// DoubtMalformed: an HTTP/2 message that breaks a rule of RFC 9113 section
	// 8.1.1 to 8.3, in a way that leaves its meaning open.
	DoubtMalformed
	// DoubtPushed: the server promised the request, nobody sent it.
	DoubtPushed
	// DoubtGRPCStream: a gRPC call whose client streams.
	DoubtGRPCStream
	NumDoubts
)

var doubtWords = [NumDoubts]string{
	"", "te_and_cl", "te", "te_in_1_0", "cl", "host", "connect", "upgrade", "target", "urgent", "overlap", "syntax", "chunk",
	"websocket", "event_stream",
	"malformed", "pushed", "grpc_stream",
}

// String gives the ledger's reason label.
func (d Doubt) String() string { return doubtWords[d] }

// HeadField is a field of a head that is only lent.
type HeadField struct{ Name, Value []byte }

// Head is a request's head at the moment it was parsed. All its bytes are lent
// for the call of Keep.
type Head struct {
	// Flow is the connection.
	Flow *Flow
	// ISN and Offset are those of Exchange.
	ISN    uint32
	Offset uint64
	// Time is the tap's time of the first byte, in ns since the Unix epoch.
	Time           int64
	Method, Target []byte
	// Fields are the field lines. HTTP/2's pseudo-header fields are left out,
	// and :authority stands first, as host.
	Fields []HeadField
	// Doubt is what the head alone gives reason to doubt.
	Doubt Doubt
	// Stream is the HTTP/2 stream, 0 in HTTP/1.
	Stream uint32
	// GRPC says that it opens a gRPC call (content-type application/grpc).
	GRPC bool
}

// Get returns the value of the first field of that name, nil without one.
func (h *Head) Get(name string) []byte {
	for i := range h.Fields {
		f := &h.Fields[i]
		if len(f.Name) == len(name) && equalFold(f.Name, name) {
			return f.Value
		}
	}
	return nil
}

// Keeper decides what is kept. It is called once for each request, from the
// goroutine of the connection's shard, and must not keep a reference to h.
type Keeper interface {
	Keep(h *Head) Decision
}

func equalFold(b []byte, s string) bool {
	for i := 0; i < len(s); i++ {
		x, y := b[i], s[i]
		if x == y {
			continue
		}
		if 'A' <= x && x <= 'Z' {
			x += 'a' - 'A'
		}
		if 'A' <= y && y <= 'Z' {
			y += 'a' - 'A'
		}
		if x != y {
			return false
		}
	}
	return true
}

// EqualFoldToken says whether b is the token s, without regard to ASCII case.
// White space around a token is the caller's to remove.
func EqualFoldToken(b []byte, s string) bool {
	return len(b) == len(s) && equalFold(b, s)
}
