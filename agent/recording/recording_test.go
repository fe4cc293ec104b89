package recording_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/agent/recording"
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

var anyText = rapid.OneOf(rapid.StringN(0, 20, 60), rapid.Custom(func(t *rapid.T) string {
	return string(rapid.SliceOfN(rapid.Byte(), 0, 30).Draw(t, "bytes"))
}))

func fields(t *rapid.T, what string) (h exchange.Header) {
	for range rapid.IntRange(0, 3).Draw(t, what) {
		h = append(h, exchange.Field{Name: anyText.Draw(t, "name"), Value: anyText.Draw(t, "value")})
	}
	return h
}

func body(t *rapid.T) exchange.Body {
	b := exchange.Body{Bytes: rapid.SliceOfN(rapid.Byte(), -1, 200).Draw(t, "body")}
	if rapid.Bool().Draw(t, "nil") {
		b.Bytes = nil
	}
	b.Size = int64(len(b.Bytes))
	if b.Truncated = rapid.Bool().Draw(t, "truncated"); b.Truncated {
		b.Size += rapid.Int64Range(0, 1<<40).Draw(t, "more")
	}
	if b.Digested = rapid.Bool().Draw(t, "digested"); b.Digested {
		b.Digest = sha256.Sum256(b.Bytes)
	}
	return b
}

var framings = rapid.SampledFrom([]exchange.Framing{exchange.FramingNone, exchange.FramingLength, exchange.FramingChunked, exchange.FramingClose, exchange.FramingTunnel, exchange.FramingH2})

func response(t *rapid.T) *exchange.Response {
	r := &exchange.Response{
		Status: rapid.IntRange(100, 999).Draw(t, "status"), Reason: anyText.Draw(t, "reason"), Proto: "HTTP/1.1",
		Header: fields(t, "headers"), Trailer: fields(t, "trailers"), Body: body(t), Framing: framings.Draw(t, "framing"),
		FirstByte: rapid.Int64().Draw(t, "first"), LastByte: rapid.Int64().Draw(t, "last"),
	}
	for range rapid.IntRange(0, 2).Draw(t, "interim") {
		r.Interim = append(r.Interim, 103)
	}
	return r
}

func word[T ~uint8](t *rapid.T, what string, from, end T) T {
	return T(rapid.IntRange(int(from), int(end)-1).Draw(t, what))
}

func address(t *rapid.T) netip.AddrPort {
	if rapid.Bool().Draw(t, "six") {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))), rapid.Uint16().Draw(t, "port"))
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address"))), rapid.Uint16().Draw(t, "port"))
}

// event draws an event as the pipeline makes it, and as a Reader gives it: they
// differ in what only a replay needs.
func event(t *rapid.T) *recording.Event {
	e := &recording.Event{Kind: rapid.SampledFrom([]recording.Kind{recording.Complete, recording.Lost, recording.Tick}).Draw(t, "kind"), Time: rapid.Int64().Draw(t, "time")}
	if e.Kind == recording.Tick {
		return e
	}
	var d exchange.Decision
	for i := range rapid.IntRange(0, exchange.MaxExperiments).Draw(t, "experiments") {
		c := exchange.Choice{Selection: word(t, "selection", exchange.Unmatched, exchange.NumSelections), Route: rapid.Uint16().Draw(t, "route")}
		switch c.Selection {
		case exchange.Paused:
			c.Pause = word(t, "pause", exchange.PauseNone, exchange.NumPauseReasons)
		case exchange.NotReplayable:
			c.Doubt = word(t, "doubt", exchange.DoubtNone, exchange.NumDoubts)
		case exchange.Selected:
			d.Want = exchange.WantWhole
			if e.Kind == recording.Complete {
				e.Pairs = append(e.Pairs, pair(t, i))
			}
		}
		d.Choices[i], d.Len = c, uint8(i+1)
		e.Choices = append(e.Choices, c)
	}
	if e.Kind == recording.Lost {
		e.Result, e.N = word(t, "result", exchange.ResultNoRequest, exchange.NumResults), rapid.Uint64Range(1, 1<<32).Draw(t, "n")
	}
	if len(e.Pairs) == 0 {
		return e
	}
	x := &exchange.Exchange{
		ID: exchange.ID(anyText.Draw(t, "id")), Flow: exchange.Flow{Domain: anyText.Draw(t, "domain"), Client: address(t), Server: address(t)},
		ISN: rapid.Uint32().Draw(t, "isn"), Offset: rapid.Uint64().Draw(t, "offset"), Reused: rapid.Bool().Draw(t, "reused"), Decision: d,
		Doubt: word(t, "doubt", exchange.DoubtNone, exchange.NumDoubts), Stream: rapid.Uint32().Draw(t, "stream"), Pushed: rapid.Bool().Draw(t, "pushed"),
		Request: &exchange.Request{
			Method: anyText.Draw(t, "method"), Target: anyText.Draw(t, "target"), Proto: anyText.Draw(t, "proto"), Host: anyText.Draw(t, "host"), Scheme: anyText.Draw(t, "scheme"),
			Header: fields(t, "headers"), Trailer: fields(t, "trailers"), Body: body(t), Framing: framings.Draw(t, "framing"),
			FirstByte: rapid.Int64().Draw(t, "first"), LastByte: rapid.Int64().Draw(t, "last"),
		},
		Response: response(t),
	}
	if rapid.Bool().Draw(t, "reset") {
		x.Reset = &exchange.Reset{ByServer: rapid.Bool().Draw(t, "by server"), Code: rapid.Uint32().Draw(t, "code")}
	}
	if rapid.Bool().Draw(t, "grpc") {
		x.GRPC = &exchange.GRPC{Kind: word(t, "kind", exchange.GRPCUnary, exchange.NumGRPCKinds), Status: anyText.Draw(t, "status"), Message: anyText.Draw(t, "message"), Requests: 1, Responses: rapid.Uint32().Draw(t, "responses")}
	}
	e.Exchange = x
	return e
}

func pair(t *rapid.T, experiment int) recording.Pair {
	p := recording.Pair{Experiment: experiment, Stale: rapid.Bool().Draw(t, "stale"), Result: word(t, "result", replay.Compared, replay.NumResults)}
	if p.Result != replay.Compared {
		return p
	}
	p.Outcome = outcome(t, replay.Compared)
	if rapid.Bool().Draw(t, "control") {
		c := &replay.ControlOutcome{PairEnd: rapid.SampledFrom(replay.PairEnds()).Draw(t, "end")}
		if c.Result != replay.Paired && rapid.Bool().Draw(t, "asked") {
			c.Outcome = outcome(t, word(t, "result", replay.Compared, replay.NumResults))
		}
		if c.Result == replay.Paired {
			p.Outcome.Error, p.Outcome.Detail, p.Outcome.Response = "", "", response(t)
			c.Outcome = outcome(t, replay.Compared)
			c.Outcome.Error, c.Outcome.Detail, c.Outcome.Response = "", "", response(t)
		}
		p.Outcome.Control = c
	}
	if rapid.Bool().Draw(t, "again") {
		p.Again = &replay.Again{Result: word(t, "result", replay.Compared, replay.NumResults)}
		if p.Again.Result == replay.Compared {
			p.Again.Candidate = outcome(t, replay.Compared)
			if rapid.Bool().Draw(t, "control") {
				p.Again.Control = outcome(t, replay.Compared)
			}
		}
	}
	return p
}

func outcome(t *rapid.T, r replay.Result) *replay.Outcome {
	o := &replay.Outcome{
		Result: r, Reused: rapid.Bool().Draw(t, "reused"), Address: anyText.Draw(t, "address"),
		Start: rapid.Int64().Draw(t, "start"), FirstByte: rapid.Int64().Draw(t, "first"), LastByte: rapid.Int64().Draw(t, "last"),
		MinRTT: time.Duration(rapid.Int64().Draw(t, "rtt")), Setup: time.Duration(rapid.Int64().Draw(t, "setup")), Lag: time.Duration(rapid.Int64().Draw(t, "lag")),
		TraceID: anyText.Draw(t, "trace"), FreshTraceID: anyText.Draw(t, "fresh"),
	}
	if rapid.Bool().Draw(t, "failed") {
		o.Error, o.Detail = rapid.SampledFrom(replay.ErrorWords()).Draw(t, "word"), anyText.Draw(t, "detail")
	} else {
		o.Response = response(t)
	}
	return o
}

// write makes a recording of events in a folder of its own.
func write(t interface {
	Helper()
	Fatal(...any)
}, dir string, events []*recording.Event) {
	t.Helper()
	w, err := recording.Create(recording.Config{Dir: dir, Head: recording.Head{AgentVersion: "1.2.3", Config: "version: 1\n"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(ledger); err != nil {
		t.Fatal(err)
	}
}

var ledger = map[string]map[string]uint64{"exchanges": {"complete": 3, "gap": 0}}

func read(r *recording.Reader) (events []*recording.Event, err error) {
	for {
		e, err := r.Next()
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
}

// What is written comes back, any byte of it, but for what only a replay needs.
func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recording")
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(rapid.Custom(event), 0, 3).Draw(t, "events")
		var given []*recording.Event
		for _, e := range events {
			g := *e
			if e.Exchange != nil {
				x, q := *e.Exchange, *e.Exchange.Request
				q.Head, q.Wire = []byte("GET / HTTP/1.1\r\n\r\n"), []byte("wire")
				x.Request, g.Exchange = &q, &x
			}
			given = append(given, &g)
		}
		write(t, dir, given)
		r, err := recording.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if want := (recording.Head{Format: recording.Format, AgentVersion: "1.2.3", Config: "version: 1\n"}); r.Head() != want {
			t.Fatalf("head %+v", r.Head())
		}
		got, err := read(r)
		if err != io.EOF {
			t.Fatal(err)
		}
		if len(got) != len(events) {
			t.Fatalf("%d events of %d", len(got), len(events))
		}
		for i := range got {
			if !reflect.DeepEqual(got[i], events[i]) {
				t.Fatalf("event %d\n got %+v\nwant %+v", i, got[i], events[i])
			}
		}
		if _, err := r.Next(); err != io.EOF || !reflect.DeepEqual(r.Ledger(), ledger) {
			t.Fatalf("behind the end: %v, %v", err, r.Ledger())
		}
	})
}

// some are a few events with bodies that do not compress to nothing.
func some(n int) (events []*recording.Event) {
	for i := range n {
		x := &exchange.Exchange{
			ID: exchange.ID(fmt.Sprintf("%016x", i)), Flow: exchange.Flow{Client: netip.MustParseAddrPort("10.0.0.1:40000"), Server: netip.MustParseAddrPort("10.0.0.2:80")},
			Request:  &exchange.Request{Method: "GET", Target: "/", Proto: "HTTP/1.1", FirstByte: int64(i)},
			Response: &exchange.Response{Status: 200, Proto: "HTTP/1.1"},
		}
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		x.Response.Body = exchange.Body{Bytes: bytes.Repeat(sum[:], 100), Size: 3200}
		x.Decision = exchange.Decision{Want: exchange.WantWhole, Len: 1, Choices: [exchange.MaxExperiments]exchange.Choice{{Selection: exchange.Selected}}}
		events = append(events, &recording.Event{
			Time: int64(i), Choices: []exchange.Choice{{Selection: exchange.Selected}}, Exchange: x,
			Pairs: []recording.Pair{{Outcome: &replay.Outcome{Response: &exchange.Response{Status: 200, Proto: "HTTP/1.1"}}}},
		}, &recording.Event{Kind: recording.Tick, Time: int64(i)})
	}
	return events
}

// A recording that is cut anywhere gives the events that are whole, and says so.
// What was written is there but for a block or two, whatever happens then.
func TestCut(t *testing.T) {
	dir := t.TempDir()
	events := some(1200)
	write(t, dir, events)
	head, file := contents(t, dir)
	least := -1
	for i := range 60 {
		n := len(file) * i / 60
		if i == 59 {
			n = len(file) - 1
		}
		r, err := recording.NewReader("made", head, bytes.NewReader(file[:n]))
		if err != nil {
			t.Fatal(err)
		}
		got, err := read(r)
		if want := fmt.Sprintf("read the recording made: the recording was cut short behind event %d", len(got)); !errors.Is(err, recording.ErrCut) || err.Error() != want {
			t.Fatalf("cut at %d of %d: %v, want %s", n, len(file), err, want)
		}
		if len(got) < least {
			t.Errorf("cut at %d: %d events, fewer than %d before", n, len(got), least)
		}
		least = len(got)
		for k := range got {
			if got[k].Time != events[k].Time || got[k].Kind != events[k].Kind {
				t.Fatalf("cut at %d: event %d is another", n, k)
			}
		}
	}
	// The bodies are 6 MB in base64.
	if least < len(events)*3/4 {
		t.Errorf("%d of %d events are left when the last byte is missing", least, len(events))
	}
}

// A writer that ends without Close, as by kill -9, leaves what went out.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	w, err := recording.Create(recording.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range some(1200) {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	r, err := recording.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := read(r)
	if !errors.Is(err, recording.ErrCut) || len(got) < 1200 {
		t.Errorf("%d events, %v", len(got), err)
	}
}

func contents(t *testing.T, dir string) (head, events []byte) {
	t.Helper()
	var err error
	if head, err = os.ReadFile(filepath.Join(dir, "head.json")); err != nil {
		t.Fatal(err)
	}
	if events, err = os.ReadFile(filepath.Join(dir, "events.jsonl.zst")); err != nil {
		t.Fatal(err)
	}
	return head, events
}

// Nobody but the user may read it.
func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	write(t, dir, some(1))
	for name, want := range map[string]os.FileMode{"": 0o700, "head.json": 0o600, "events.jsonl.zst": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, open, nil)
	if info, err := os.Stat(open); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("a folder that was there: %v, %v", info.Mode(), err)
	}
}

// A folder with anything else stays as it is; a recording is replaced, also one
// that was left behind a crash.
func TestFolder(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		err   string
	}{
		{"not there", nil, ""},
		{"a recording", map[string]string{"head.json": goodHead, "events.jsonl.zst": "old"}, ""},
		{"one of an older program", map[string]string{"head.json": `{"format":"shadowtap.recording.v1"}`, "events.jsonl.zst": "old"}, ""},
		{"a head alone", map[string]string{"head.json": `{"format":"shadowtap.recording.v1"}`}, ""},
		{"a head that was not whole", map[string]string{"head.json.new": `{"for`}, ""},
		{"somebody's", map[string]string{"notes.txt": "x"}, "it holds notes.txt"},
		{"somebody's beside ours", map[string]string{"head.json": `{"format":"shadowtap.recording.v1"}`, "notes.txt": "x"}, "it holds notes.txt"},
		{"of that name", map[string]string{"head.json": `{"format":"other"}`}, "holds no recording"},
		{"of the other name", map[string]string{"events.jsonl.zst": "x"}, "holds no recording"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "x")
			if tt.files != nil {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			w, err := recording.Create(recording.Config{Dir: dir})
			if tt.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := w.Close(nil); err != nil {
					t.Fatal(err)
				}
				r, err := recording.Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if events, err := read(r); len(events) != 0 || err != io.EOF {
					t.Errorf("%d events, %v", len(events), err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want %s", err, tt.err)
			}
			for name, text := range tt.files {
				if data, err := os.ReadFile(filepath.Join(dir, name)); string(data) != text {
					t.Errorf("%s: %q, %v", name, data, err)
				}
			}
		})
	}
	if _, err := recording.Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "head.json") {
		t.Errorf("an empty folder: %v", err)
	}
}

// A recording ends at its bound: what is before it can be read, and the error
// stays.
func TestBound(t *testing.T) {
	dir := t.TempDir()
	w, err := recording.Create(recording.Config{Dir: dir, MaxBytes: 40_000})
	if err != nil {
		t.Fatal(err)
	}
	var first error
	for _, e := range some(2400) {
		if err := w.Write(e); err != nil && first == nil {
			first = err
		}
	}
	if !errors.Is(first, recording.ErrFull) || w.Close(nil) != first {
		t.Errorf("%v, then %v", first, w.Close(nil))
	}
	info, err := os.Stat(filepath.Join(dir, "events.jsonl.zst"))
	if err != nil || info.Size() > 40_000 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	r, err := recording.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := read(r); !errors.Is(err, recording.ErrCut) {
		t.Error(err)
	}
}

const goodHead = `{"format":"shadowtap.recording.v2"}`

// pack is a zstd frame of blocks as they are (RFC 8878 section 3.1.1), which costs
// a fuzz target nothing.
func pack(text string) []byte {
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x58} // a window of 2 MiB
	for b := []byte(text); ; {
		n := min(len(b), 100_000)
		head := uint32(n) << 3
		if n == len(b) {
			head |= 1
		}
		out = append(append(out, byte(head), byte(head>>8), byte(head>>16)), b[:n]...)
		if b = b[n:]; len(b) == 0 {
			return out
		}
	}
}

const (
	answer = `{"status":200,"proto":"HTTP/1.1","header":[],"framing":"none","body":{"bytes":null,"size":0},"first_byte":1,"last_byte":2}`
	whole  = `{"id":"a","client":"10.0.0.1:1","server":"10.0.0.2:80","isn":0,"offset":0,"request":{"method":"GET","target":"/","proto":"HTTP/1.1","host":"","header":[["a","b"]],"framing":"none","body":{"bytes":null,"size":0},"first_byte":1,"last_byte":2},"response":` + answer + `}`
	sound  = `{"exchange":{"time":1,"choices":[{"selection":"selected","route":0}],"whole":` + whole + `,"replays":[{"experiment":0,"result":"compared","response":` + answer + `}]}}`
	leg    = `{"result":"compared","response":` + answer + `}`
	pairs  = `{"exchange":{"time":1,"choices":[{"selection":"selected","route":0}],"whole":` + whole + `,"replays":[{"experiment":0,"result":"compared","response":` + answer +
		`,"control":{"result":"paired","outcome":` + leg + `},"again":{"result":"compared","candidate":` + leg + `,"control":` + leg + `}}]}}`
)

// What a program wrote before there were controls is read as it was meant.
func TestFirstVersion(t *testing.T) {
	for _, tt := range []struct{ name, head string }{{"v1", `{"format":"shadowtap.recording.v1"}`}, {"v2", goodHead}} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := recording.NewReader("made", []byte(tt.head), bytes.NewReader(pack(sound+"\n"+`{"end":{"events":1}}`+"\n")))
			if err != nil {
				t.Fatal(err)
			}
			events, err := read(r)
			if err != io.EOF || len(events) != 1 {
				t.Fatal(events, err)
			}
			if p := events[0].Pairs[0]; p.Outcome == nil || p.Outcome.Response.Status != 200 || p.Outcome.Control != nil || p.Again != nil {
				t.Errorf("%+v", p)
			}
		})
	}
}

// What no writer writes is an error that says where and what.
func TestDamage(t *testing.T) {
	in := func(line, old, new string) string {
		if !strings.Contains(line, old) {
			t.Fatalf("no %s", old)
		}
		return strings.Replace(line, old, new, 1) + "\n"
	}
	with := func(old, new string) string { return in(sound, old, new) }
	control := func(old, new string) string { return in(pairs, old, new) }
	for _, tt := range []struct{ name, text, want string }{
		{"a sound one", sound + "\n" + `{"end":{"events":1}}` + "\n", "EOF"},
		{"more keys", `{"tick":1,"later":{}}` + "\n" + `{"end":{"events":1}}` + "\n", "EOF"},
		{"a count that is wrong", sound + "\n" + `{"end":{"events":2}}` + "\n", "event 2: the end says 2 events, there were 1"},
		{"something behind the end", `{"end":{"events":0}}` + "\n" + sound + "\n", "event 1: something stands behind the end"},
		{"nothing", "{}\n", "event 1: a line must have one of tick, lost, exchange and end"},
		{"two things", `{"tick":1,"end":{}}` + "\n", "event 1: a line must have one of"},
		{"no JSON", "x\n", "event 1: invalid character 'x'"},
		{"half a line", sound[:90], "cut short behind event 0"},
		{"a status", with(`"status":200`, `"status":1000`), "response.status: 1000 is none"},
		{"a selection", with(`"selected"`, `"elected"`), `choices[0]: selection: "elected" is not known`},
		{"a result", with(`"compared"`, `"equal"`), `replays[0].result: "equal" is not known`},
		{"a replay of another experiment", with(`"experiment":0`, `"experiment":1`), "replays: that of experiment 0 is not in its place"},
		{"a replay that nobody asked for", with(`"selection":"selected"`, `"selection":"ended"`), "replays: they do not fit the choices"},
		{"no replay", with(`"replays":[`, `"no":[`), "replays: that of experiment 0 is not in its place"},
		{"an answer and an error", with(`"result":"compared"`, `"result":"compared","error":"timeout"`), "replays[0].response: there must be one, or an error word"},
		{"neither", with(`"result":"compared","response"`, `"result":"compared","no"`), "replays[0].response: there must be one, or an error word"},
		{"an error word", with(`"result":"compared","response"`, `"result":"compared","error":"bad luck","no"`), `replays[0].error: "bad luck" is not known`},
		{"a sound pair", pairs + "\n" + `{"end":{"events":1}}` + "\n", "EOF"},
		{"an end of a pair", control(`"paired"`, `"married"`), `replays[0].control.result: "married" for "" is not known`},
		{"a reason of its", control(`"paired"`, `"shed","reason":"connect"`), `replays[0].control.result: "shed" for "connect" is not known`},
		{"a pair of one", control(`"outcome":`, `"no":`), "replays[0].control.result: a pair without two answers"},
		{"a pair with one that failed", control(`"outcome":`+leg, `"outcome":{"result":"compared","error":"timeout"}`), "replays[0].control.result: a pair without two answers"},
		{"a control's answer", control(`"outcome":{"result":"compared","response"`, `"outcome":{"result":"compared","no"`), "replays[0].control.outcome.response: there must be one, or an error word"},
		{"a control's result", control(`"outcome":{"result":"compared"`, `"outcome":{"result":"equal"`), `replays[0].control.outcome.result: "equal" is not known`},
		{"a control of nothing", control(`"experiment":0,"result":"compared"`, `"experiment":0,"result":"shed"`), "replays[0].result: nothing was compared, and there is a control or again"},
		{"again without the candidate", control(`"candidate":`, `"no":`), "replays[0].again.candidate: there must be one where both were asked, and only there"},
		{"again with one that was not asked", control(`"again":{"result":"compared"`, `"again":{"result":"shed"`), "replays[0].again.candidate: there must be one where both were asked"},
		{"a result of again", control(`"again":{"result":"compared"`, `"again":{"result":"converged"`), `replays[0].again.result: "converged" is not known`},
		{"a status of again", control(`"control":`+leg, `"control":`+strings.Replace(leg, `"status":200`, `"status":-1`, 1)), "replays[0].again.control.response.status: -1 is none"},
		{"a body's size", with(`"bytes":null,"size":0`, `"bytes":"AA==","size":0`), "request.body: 1 bytes of 0, truncated false"},
		{"a digest", with(`"bytes":null,"size":0`, `"bytes":null,"size":0,"sha256":"AAAA"`), "request.body: a SHA-256 of 3 bytes"},
		{"a framing", with(`"framing":"none"`, `"framing":"some"`), `request.framing: "some" is not known`},
		{"an address", with(`10.0.0.1:1`, `nowhere`), "client: "},
		{"a number of lost ones", `{"lost":{"result":"gap","count":99999999999}}` + "\n", "count: 99999999999 is out of range"},
		{"a result of lost ones", `{"lost":{"result":"gone","count":1}}` + "\n", `result: "gone" is not known`},
		{"too many experiments", `{"exchange":{"choices":[` + strings.Repeat(`{"selection":"ended"},`, 16) + `{"selection":"ended"}]}}` + "\n", "choices: 17 of them, at most 16"},
		{"a long line", `{"tick":` + strings.Repeat(" ", 200_000) + "1}\n", "a line of more than 100000 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := recording.NewReader("made", []byte(goodHead), bytes.NewReader(pack(tt.text)))
			if err != nil {
				t.Fatal(err)
			}
			r.MaxLine = 100_000
			_, err = read(r)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if _, again := r.Next(); again != err {
				t.Errorf("then %v", again)
			}
		})
	}
	for head, want := range map[string]string{"": "head.json: ", "{}": `format "": this program reads shadowtap.recording.v2 and shadowtap.recording.v1`, `{"format":"shadowtap.recording.v3"}`: `format "shadowtap.recording.v3"`} {
		if _, err := recording.NewReader("made", []byte(head), strings.NewReader("")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("head %q: %v, want %s", head, err, want)
		}
	}
	// Bytes that are no zstd are damage, not an end.
	r, err := recording.NewReader("made", []byte(goodHead), strings.NewReader("this is something else altogether"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read(r); err == nil || errors.Is(err, recording.ErrCut) || err == io.EOF {
		t.Error(err)
	}
}

// A line is never longer than a reader of the same configuration takes.
func TestMaxLine(t *testing.T) {
	for _, tt := range []struct {
		body int64
		want int
	}{{0, 66 << 20}, {3 << 20, 66 * 5 << 20}, {1 << 40, 1 << 30}, {-1, 1 << 30}} {
		if got := recording.MaxLine(tt.body); got != tt.want {
			t.Errorf("%d: %d, want %d", tt.body, got, tt.want)
		}
	}
	w, err := recording.Create(recording.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	e := some(1)[0]
	e.Exchange.Response.Body = exchange.Body{Bytes: make([]byte, 60<<20), Size: 60 << 20}
	if err := w.Write(e); err == nil || !strings.Contains(err.Error(), "at most 69206016") {
		t.Error(err)
	}
	if w.Close(nil) == nil {
		t.Error("closed without an error")
	}
}
