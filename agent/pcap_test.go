package agent_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/shadowtap/shadowtap/agent"
	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/recording"
	"github.com/shadowtap/shadowtap/agent/report"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/diff/verdict"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// made is a little-endian pcap file of raw IPv4 packets
// (draft-ietf-opsawg-pcap; RFC 791, RFC 9293), one connection after the other,
// 10 ms apart.
type made struct {
	bytes.Buffer
	port uint16
	at   int64 // ms
}

func newMade() *made {
	m := &made{at: 1_700_000_000_000}
	m.le32(0xa1b2c3d4)
	m.Write([]byte{2, 0, 4, 0})
	m.le32(0, 0, 262144, 101) // zone, accuracy, snap length, LINKTYPE_RAW
	return m
}

func (m *made) le32(values ...uint32) {
	for _, v := range values {
		m.Write(binary.LittleEndian.AppendUint32(nil, v))
	}
}

func (m *made) segment(fromClient bool, flags byte, seq, acked uint32, payload string) {
	from, to, sport, dport := []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}, 20000+m.port, uint16(80)
	if !fromClient {
		from, to, sport, dport = to, from, dport, sport
	}
	be := binary.BigEndian
	ip := be.AppendUint16([]byte{0x45, 0}, uint16(40+len(payload)))
	ip = append(ip, 0, 1, 0x40, 0, 64, 6, 0, 0)
	ip = append(append(ip, from...), to...)
	tcp := be.AppendUint16(be.AppendUint16(nil, sport), dport)
	tcp = be.AppendUint32(be.AppendUint32(tcp, seq), acked)
	tcp = append(tcp, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	n := uint32(len(ip) + len(tcp) + len(payload))
	m.le32(uint32(m.at/1000), uint32(m.at%1000*1000), n, n)
	m.Write(ip)
	m.Write(tcp)
	m.WriteString(payload)
	m.at += 10
}

// say is a connection on which each side says something in turn.
func (m *made) say(turns ...string) {
	const fin, syn, ack = 1, 2, 16
	c, s := uint32(1000), uint32(9000)
	m.port++
	m.segment(true, syn, c, 0, "")
	m.segment(false, syn|ack, s, c+1, "")
	c, s = c+1, s+1
	for i, text := range turns {
		if m.segment(i%2 == 0, ack, []uint32{c, s}[i%2], []uint32{s, c}[i%2], text); i%2 == 0 {
			c += uint32(len(text))
		} else {
			s += uint32(len(text))
		}
	}
	m.segment(true, fin|ack, c, s, "")
	m.segment(false, fin|ack, s, c+1, "")
	m.segment(true, ack, c+1, s+1, "")
}

func (m *made) save(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made.pcap")
	if err := os.WriteFile(path, m.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// answerOf is what both versions say of a value. The candidate differs for those
// that end with 7 or 9.
func answerOf(n int, candidate bool) (status int, body string) {
	square, status := n*n, 200
	if candidate && n%10 == 7 {
		square++
	}
	if candidate && n%10 == 9 {
		return 404, `{"error":"no such value"}`
	}
	return status, fmt.Sprintf(`{"value":%d,"square":%d,"mail":"user%d@example.com"}`, n, square, n%4)
}

// traffic is a capture of exchanges, two a connection, some of them unsafe, lost
// or not matched.
func traffic(n int) *made {
	m := newMade()
	m.say("POST /api/4 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 204 No Content\r\n\r\n") // makes the 4 stale
	for i := 0; i < n; i += 2 {
		var turns []string
		for k := i; k < i+2; k++ {
			status, body := answerOf(k, false)
			turns = append(turns,
				fmt.Sprintf("GET /api/%d?password=secret%d HTTP/1.1\r\nHost: example.com\r\nAuthorization: Bearer abc%d\r\n\r\n", k, k%3, k%5),
				fmt.Sprintf("HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body))
		}
		m.say(turns...)
	}
	m.say("POST /api/1 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 204 No Content\r\n\r\n")
	m.say("GET /other HTTP/1.1\r\nHost: example.com\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n")
	m.say("GET /api/5 HTTP/1.1\r\nHost: example.com\r\n\r\n") // no answer
	return m
}

// candidate serves answerOf, each answer as late as the seed says; 0 is at once.
func candidate(t *testing.T) (url string, seed *atomic.Uint64) {
	seed = new(atomic.Uint64)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/api/"))
		if err != nil {
			http.Error(w, "not a number", http.StatusBadRequest)
			return
		}
		if s := seed.Load(); s > 0 {
			<-time.After(time.Duration(rand.New(rand.NewPCG(s, uint64(n))).IntN(20)) * time.Millisecond)
		}
		status, body := answerOf(n, true)
		w.Header()["Date"] = nil
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.URL, seed
}

const experimentYAML = `version: 1
capture: {ports: [80]}
experiments:
  - name: users
    match: {port: 80}
    routes: [{path: "/api/{value}", key: "{value}"}]
    sample: {rate: 100%%}
    candidate: {url: "%s", version: v2}
    replay: {max_in_flight: %d, timeout: 30s}
publish: {per_fingerprint: 5}
`

func configured(t *testing.T, text string, args ...any) *config.Config {
	t.Helper()
	c, _, err := config.Parse("made.yaml", fmt.Appendf(nil, text, args...), nil)
	if err == nil {
		err = c.Check()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// outcome is what a run left.
type outcome struct {
	jsonl, text string
	json        []byte
	doc         *report.Document
	counts      []telemetry.Count
}

// replayed runs pcap over a capture; record may be "".
func replayed(t *testing.T, capture string, c *config.Config, record string, change func(*agent.PcapOptions)) outcome {
	t.Helper()
	lines := filepath.Join(t.TempDir(), "out.jsonl")
	c.Sinks = []config.Sink{{JSONL: &config.JSONL{Path: lines}}}
	o := agent.PcapOptions{Path: capture, Ports: c.CapturePorts(), Config: c, Record: record, Terminal: agent.Terminal{Out: io.Discard}, Version: "test", Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	res, err := agent.Pcap(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range telemetry.Balance(res.Counts) {
		t.Errorf("the ledger does not balance: %s", i)
	}
	out := outcome{doc: res.Report, counts: res.Counts}
	out.text, out.json = written(t, res.Report)
	b, err := os.ReadFile(lines)
	if err != nil {
		t.Fatal(err)
	}
	out.jsonl = string(b)
	return out
}

func written(t *testing.T, d *report.Document) (string, []byte) {
	t.Helper()
	var b strings.Builder
	if err := d.WriteText(&b, report.TextOptions{}); err != nil {
		t.Fatal(err)
	}
	j, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), j
}

// reported makes the report of a recording.
func reported(t *testing.T, dir, rules string) (d *report.Document, warned string, err error) {
	t.Helper()
	var warn strings.Builder
	d, err = agent.Report(t.Context(), agent.ReportOptions{
		Files: []string{dir}, Rules: rules, Version: "test", Warn: &warn, Recorded: func(s verdict.Settings) verdict.Settings { return s },
	})
	return d, warn.String(), err
}

// records splits JSON lines by their schema.
func records(t *testing.T, jsonl string) (divergences, windows []map[string]any) {
	t.Helper()
	for _, l := range strings.Split(strings.TrimSuffix(jsonl, "\n"), "\n") {
		var r map[string]any
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatalf("%v in %s", err, l)
		}
		if r["schema"] == verdict.Schema {
			windows = append(windows, r)
		} else {
			divergences = append(divergences, r)
		}
	}
	return divergences, windows
}

// The same capture and the same answers give the same records and the same
// report, byte for byte: whatever comes first, however many CPUs there are, and
// from a recording as from the candidate.
func TestPcapSame(t *testing.T) {
	const n = 300
	capture := traffic(n).save(t)
	dir := filepath.Join(t.TempDir(), "recording")
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	url, seed := candidate(t)
	first := replayed(t, capture, configured(t, experimentYAML, url, 8), dir, nil)
	for run := range 4 {
		runtime.GOMAXPROCS(1 + run%2)
		seed.Store(uint64(1 + run))
		again := replayed(t, capture, configured(t, experimentYAML, url, 8), "", nil)
		if again.jsonl != first.jsonl {
			t.Errorf("run %d: other records: %s", run, firstDifference(first.jsonl, again.jsonl))
		}
		if again.text != first.text || !bytes.Equal(again.json, first.json) {
			t.Errorf("run %d: another report: %s", run, firstDifference(first.text, again.text))
		}
	}
	d, warned, err := reported(t, dir, "")
	if err != nil || warned != "" {
		t.Fatal(err, warned)
	}
	text, j := written(t, d)
	if text != first.text || !bytes.Equal(j, first.json) {
		t.Errorf("the recording's report is another: %s", firstDifference(first.text, text))
	}

	// And they are right.
	divergences, windows := records(t, first.jsonl)
	if len(first.doc.Experiments) != 1 {
		t.Fatalf("%d experiments", len(first.doc.Experiments))
	}
	e := first.doc.Experiments[0]
	want := verdict.Counts{
		Complete: n + 3, Unmatched: 1, Unsafe: 2, Selected: n, Compared: n, Equal: n - 2*n/10 - 1, Divergent: 2 * n / 10,
		NotComparable: map[string]int64{"stale": 1}, Lost: map[string]int64{"no_response": 1},
	}
	c := e.Counts
	if c.Complete != want.Complete || c.Unmatched != want.Unmatched || c.Unsafe != want.Unsafe || c.Selected != want.Selected || c.Compared != want.Compared ||
		c.Equal != want.Equal || c.Divergent != want.Divergent || fmt.Sprint(c.Lost, c.NotComparable) != fmt.Sprint(want.Lost, want.NotComparable) {
		t.Errorf("counts %+v\nwant %+v", c, want)
	}
	if first.doc.Word != verdict.Hold || len(windows) < 3 {
		t.Errorf("%s after %d windows", first.doc.Word, len(windows))
	}
	last := ""
	for i, r := range divergences {
		if r["published"] != r["time"] || r["node"] != "" || r["boot_id"] != "" || r["source"] != "pcap" || r["replay_lag_us"] != 0.0 {
			t.Fatalf("record %d: published %v at %v, node %v, boot %v, source %v, lag %v", i, r["published"], r["time"], r["node"], r["boot_id"], r["source"], r["replay_lag_us"])
		}
		if when := r["time"].(string); when < last {
			t.Errorf("record %d of %s comes behind %s", i, when, last)
		} else {
			last = when
		}
		if leg := r["candidate"].(map[string]any); leg["ttfb_us"] != nil || leg["connection"] != "new" || leg["trace_id"] != nil {
			t.Errorf("record %d has what differs from run to run: %v", i, leg)
		}
	}
	for _, secret := range []string{"secret0", "abc1", "@example.com"} {
		if strings.Contains(first.jsonl, secret) || strings.Contains(first.text, secret) {
			t.Errorf("%s is in the clear", secret)
		}
	}
	if !strings.Contains(first.jsonl, "~local.1\"") {
		t.Error("no secret with an ordinal")
	}
}

// requireSameReport compares the report of a recording with what the run said.
func requireSameReport(t *testing.T, dir string, want outcome) {
	t.Helper()
	d, warned, err := reported(t, dir, "")
	if err != nil {
		t.Fatal(err, warned)
	}
	text, j := written(t, d)
	if text != want.text {
		t.Errorf("the recording's report is another: %s", firstDifference(want.text, text))
	}
	if !bytes.Equal(j, want.json) {
		t.Errorf("the recording's report as JSON is another: %s", firstDifference(string(want.json), string(j)))
	}
}

func firstDifference(a, b string) string {
	la, lb := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(la), len(lb)) {
		if la[i] != lb[i] {
			return fmt.Sprintf("line %d of %d and %d:\n%s\n%s", i+1, len(la), len(lb), la[i], lb[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(la), len(lb))
}

// All of a capture is replayed, however slow the candidate is: nothing is shed.
func TestPcapWaits(t *testing.T) {
	url, seed := candidate(t)
	seed.Store(7)
	out := replayed(t, traffic(200).save(t), configured(t, experimentYAML, url, 1), "", func(o *agent.PcapOptions) { o.Memory = 16 << 20 })
	if c := out.doc.Experiments[0].Counts; c.Selected != 200 || c.Compared != 200 {
		t.Errorf("%d of %d compared", c.Compared, c.Selected)
	}
}

// However many records there are, none is dropped on its way to a sink.
func TestPcapDropsNothing(t *testing.T) {
	m := newMade()
	for n := range 3000 {
		m.say(fmt.Sprintf("GET /api/%d HTTP/1.1\r\nHost: example.com\r\n\r\n", n*10+7), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
	url, _ := candidate(t)
	c := configured(t, strings.Replace(experimentYAML, "per_fingerprint: 5", "per_fingerprint: 100000", 1), url, 16)
	out := replayed(t, m.save(t), c, "", nil)
	divergences, _ := records(t, out.jsonl)
	l := telemetry.NewLedger(out.counts)["deliveries"]
	if len(divergences) != 3000 || l["dropped"] != 0 || l["suppressed"] != 0 {
		t.Errorf("%d records, %v", len(divergences), l)
	}
}

// A sink that takes its time, with more records than its queue holds, gets all of
// them: pcap waits on its way and at the end.
func TestPcapWaitsForSinks(t *testing.T) {
	const n = 6000 // a queue holds 4096
	m := newMade()
	for k := range n {
		m.say(fmt.Sprintf("GET /api/%d HTTP/1.1\r\nHost: example.com\r\n\r\n", k*10+7), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
	capture := m.save(t)
	url, _ := candidate(t)
	c := configured(t, strings.Replace(experimentYAML, "per_fingerprint: 5", "per_fingerprint: 100000", 1), url, 16)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Sinks = []config.Sink{{JSONL: &config.JSONL{Path: pipe}}}
	read := make(chan []byte, 1)
	go func() {
		f, err := os.Open(pipe) // waits for the writer
		if err != nil {
			t.Error(err)
			read <- nil
			return
		}
		defer f.Close()
		var all []byte
		buf := make([]byte, 8<<10)
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			k, err := f.Read(buf)
			all = append(all, buf[:k]...)
			if err != nil {
				read <- all
				return
			}
		}
	}()
	res, err := agent.Pcap(t.Context(), agent.PcapOptions{Path: capture, Ports: c.CapturePorts(), Config: c, Terminal: agent.Terminal{Out: io.Discard}, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	divergences, windows := records(t, string(<-read))
	l := telemetry.NewLedger(res.Counts)
	if len(divergences) != n || l["deliveries"]["acknowledged"] != n || len(windows) == 0 || uint64(len(windows)) != l["windows"]["acknowledged"] {
		t.Errorf("%d of %d records and %d windows came, %v, %v", len(divergences), n, len(windows), l["deliveries"], l["windows"])
	}
}

// Other rules change what they speak of, and nothing else.
func TestReportRules(t *testing.T) {
	url, _ := candidate(t)
	dir := filepath.Join(t.TempDir(), "recording")
	c := configured(t, experimentYAML, url, 8)
	was := replayed(t, traffic(100).save(t), c, dir, nil).doc.Experiments[0]
	rules := func(text string) string {
		path := filepath.Join(t.TempDir(), "rules.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name, rules, err                  string
		equal, ignored, divergent, prints int
	}{
		{"what the candidate does with a 7", "ignore: {json: [$.square]}", "", 79, 10, 10, 4},
		{"all of it", "ignore: {aspects: [status, body, header]}", "", 79, 20, 0, 0},
		{"a configuration's", strings.Replace(fmt.Sprintf(experimentYAML, "http://10.0.0.9", 1), "replay:", "compare: {ignore: {json: [$.square]}}\n    replay:", 1), "", 79, 10, 10, 4},
		{"the recorded ones", "max_depth: 128", "", 79, 0, 20, 6},
		{"no rules", "ignore: {jsn: []}", "unknown key \"jsn\"", 0, 0, 0, 0},
		{"a wrong path", "ignore: {json: [$.a[x]]}", "rules.yaml:1:", 0, 0, 0, 0},
		{"of another experiment", strings.Replace(fmt.Sprintf(experimentYAML, "http://10.0.0.9", 1), "users", "orders", 1), "orders", 0, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, _, err := reported(t, dir, rules(tt.rules))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			e := d.Experiments[0]
			n := e.Counts
			if n.Equal != int64(tt.equal) || n.Ignored != int64(tt.ignored) || n.Divergent != int64(tt.divergent) || len(e.Causes) != tt.prints {
				t.Errorf("%d equal, %d ignored, %d divergent, %d fingerprints", n.Equal, n.Ignored, n.Divergent, len(e.Causes))
			}
			if same := tt.rules == "max_depth: 128"; (e.ConfigRevision == was.ConfigRevision) != same {
				t.Errorf("revision %s, recorded was %s", e.ConfigRevision, was.ConfigRevision)
			}
			// What the rules say nothing of.
			n.Equal, n.Ignored, n.Divergent = was.Counts.Equal, was.Counts.Ignored, was.Counts.Divergent
			if fmt.Sprint(n) != fmt.Sprint(was.Counts) {
				t.Errorf("counts %+v\nwere %+v", n, was.Counts)
			}
		})
	}
	lines := filepath.Join(t.TempDir(), "x.jsonl")
	if err := os.WriteFile(lines, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := reported(t, lines, rules("{}")); err == nil || !strings.Contains(err.Error(), "rules are for a recording") {
		t.Errorf("rules for JSON lines: %v", err)
	}
}

// A candidate that is not there fails every request. One that stays away is given
// up after a while: the rest is not sent, and counted.
func TestPcapDeadCandidate(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + ln.Addr().String()
	ln.Close()
	few := traffic(8).save(t)
	dir := filepath.Join(t.TempDir(), "recording")
	first := replayed(t, few, configured(t, experimentYAML, url, 8), dir, nil)
	if again := replayed(t, few, configured(t, experimentYAML, url, 8), "", nil); again.jsonl != first.jsonl || again.text != first.text {
		t.Errorf("the second run is another: %s", firstDifference(first.jsonl, again.jsonl))
	}
	e := first.doc.Experiments[0]
	if e.Counts.Failed["connect"] != 8 || first.doc.Word != verdict.Hold && first.doc.Word != verdict.Insufficient {
		t.Errorf("%v, %s", e.Counts.Failed, first.doc.Word)
	}
	if !strings.Contains(first.jsonl, "connection refused") {
		t.Error("no record says why")
	}
	many := replayed(t, traffic(200).save(t), configured(t, experimentYAML, url, 8), dir, func(o *agent.PcapOptions) { o.Patience = 50 * time.Millisecond })
	c := many.doc.Experiments[0].Counts
	if n := c.Failed["connect"]; n < 10 || n > 60 || c.BreakerOpen != 200-n || many.doc.Word != verdict.Hold {
		t.Errorf("%v failed, %d not sent of %d: %s", c.Failed, c.BreakerOpen, c.Selected, many.doc.Word)
	}
	requireSameReport(t, dir, many)
}

// Errors of the network say nothing of our side of a connection, which is another
// one in each run.
func TestPcapErrorTexts(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = c.(*net.TCPConn).SetLinger(0) // a reset
		c.Close()
	}))
	defer s.Close()
	capture := traffic(6).save(t)
	first := replayed(t, capture, configured(t, experimentYAML, s.URL, 2), "", nil)
	again := replayed(t, capture, configured(t, experimentYAML, s.URL, 2), "", nil)
	if first.jsonl != again.jsonl {
		t.Errorf("other records: %s", firstDifference(first.jsonl, again.jsonl))
	}
	if !strings.Contains(first.jsonl, "connection reset by peer") {
		t.Errorf("no reset in %s", first.jsonl)
	}
}

// With Times the candidate's times are in the records, and the recording has
// them too.
func TestPcapTimes(t *testing.T) {
	url, _ := candidate(t)
	dir := filepath.Join(t.TempDir(), "recording")
	out := replayed(t, traffic(40).save(t), configured(t, experimentYAML, url, 8), dir, func(o *agent.PcapOptions) { o.Times = true })
	divergences, _ := records(t, out.jsonl)
	if len(divergences) == 0 {
		t.Fatal("no records")
	}
	for _, r := range divergences {
		if leg := r["candidate"].(map[string]any); leg["ttfb_us"] == nil || r["replay_lag_us"] == 0.0 {
			t.Errorf("no times: %v after %v", leg["ttfb_us"], r["replay_lag_us"])
		}
	}
	requireSameReport(t, dir, out)
}

// A recording that was cut short is read as far as it is whole, and this is said.
func TestReportCut(t *testing.T) {
	url, _ := candidate(t)
	dir := filepath.Join(t.TempDir(), "recording")
	whole := replayed(t, traffic(200).save(t), configured(t, experimentYAML, url, 8), dir, nil)
	events := filepath.Join(dir, "events.jsonl.zst")
	data, err := os.ReadFile(events)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(events, data[:len(data)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	d, warned, err := reported(t, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := "the recording was cut short behind event "; !strings.Contains(warned, want) || !strings.HasSuffix(warned, "the report is of what comes before\n") {
		t.Errorf("warned %q, want %s", warned, want)
	}
	if n := d.Experiments; len(n) > 0 && n[0].Counts.Compared > whole.doc.Experiments[0].Counts.Compared {
		t.Errorf("%d compared of %d", n[0].Counts.Compared, whole.doc.Experiments[0].Counts.Compared)
	}
	if d.Ledger != nil {
		t.Error("a ledger from nowhere")
	}
}

// h2 is an HTTP/2 connection in the clear with one GET, as both sides say it.
func h2(t *testing.T, target string, status int, body string) (client, server string) {
	t.Helper()
	var c, s bytes.Buffer
	c.WriteString(http2.ClientPreface)
	for _, side := range []struct {
		to     *bytes.Buffer
		fields []hpack.HeaderField
		body   string
	}{
		{&c, []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "example.com"}, {Name: ":path", Value: target}}, ""},
		{&s, []hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(status)}, {Name: "content-type", Value: "application/json"}}, body},
	} {
		f := http2.NewFramer(side.to, nil)
		var block bytes.Buffer
		e := hpack.NewEncoder(&block)
		for _, h := range side.fields {
			if err := e.WriteField(h); err != nil {
				t.Fatal(err)
			}
		}
		err := errors.Join(f.WriteSettings(), f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: side.body == ""}))
		if side.body != "" {
			err = errors.Join(err, f.WriteData(1, true, []byte(side.body)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c.String(), s.String()
}

// What was captured in HTTP/2 is replayed over it, and recorded.
func TestPcapHTTP2(t *testing.T) {
	m := newMade()
	for n := range 20 {
		status, body := answerOf(n, false)
		m.say(h2(t, fmt.Sprintf("/api/%d", n), status, body))
	}
	url, _ := candidate(t)
	dir := filepath.Join(t.TempDir(), "recording")
	out := replayed(t, m.save(t), configured(t, experimentYAML, url, 8), dir, nil)
	c := out.doc.Experiments[0].Counts
	if c.Compared != 20 || c.Equal+c.Ignored != 16 || c.Divergent != 4 || len(c.Failed) > 0 {
		t.Errorf("%+v", c)
	}
	requireSameReport(t, dir, out)
}

// A report of a capture replays it first, and says what pcap says. Without a
// candidate it says what to do.
// TestPcapDescriptors: fields of a captured message have the names of the file of
// types that the configuration names, in the report of a recording too.
func TestPcapDescriptors(t *testing.T) {
	encode := func(m proto.Message) string {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	file := filepath.Join(t.TempDir(), "types.binpb")
	types := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(wrapperspb.File_google_protobuf_wrappers_proto)}}
	if err := os.WriteFile(file, []byte(encode(types)), 0o600); err != nil {
		t.Fatal(err)
	}
	const kind = "application/x-protobuf; messageType=google.protobuf.StringValue"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		io.WriteString(w, encode(wrapperspb.String("Bob")))
	}))
	t.Cleanup(server.Close)
	m, answer := newMade(), encode(wrapperspb.String("Ann"))
	m.say("GET /api/1 HTTP/1.1\r\nHost: h\r\n\r\n", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", kind, len(answer), answer))
	capture, dir := m.save(t), filepath.Join(t.TempDir(), "recording")
	with := strings.Replace(experimentYAML, "    replay:", "    compare: {descriptors: %q}\n    replay:", 1)
	out := replayed(t, capture, configured(t, with, server.URL, file, 8), dir, nil)
	if divergences, _ := records(t, out.jsonl); len(divergences) != 1 || !strings.Contains(fmt.Sprint(divergences[0]["differences"]), "$.value") {
		t.Errorf("records %v", divergences)
	}
	if d, _, err := reported(t, dir, ""); err != nil {
		t.Error(err)
	} else if text, _ := written(t, d); text != out.text {
		t.Errorf("the recording's report: %s", firstDifference(out.text, text))
	}
	c := configured(t, with, server.URL, file+".gone", 8)
	if _, err := agent.Pcap(t.Context(), agent.PcapOptions{Path: capture, Ports: c.CapturePorts(), Config: c, Terminal: agent.Terminal{Out: io.Discard}, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "experiments[0].compare.descriptors") {
		t.Errorf("without the file: error %v", err)
	}
}

func TestReportCapture(t *testing.T) {
	url, _ := candidate(t)
	path := traffic(60).save(t)
	want := replayed(t, path, configured(t, experimentYAML, url, 8), "", nil)
	c := configured(t, experimentYAML, url, 8)
	o := agent.ReportOptions{
		Files: []string{path}, Warn: io.Discard, Recorded: func(s verdict.Settings) verdict.Settings { return s },
		Capture: func() (*agent.PcapOptions, error) {
			return &agent.PcapOptions{Ports: c.CapturePorts(), Config: c, Version: "test", Terminal: agent.Terminal{Out: io.Discard}, Log: slog.New(slog.DiscardHandler)}, nil
		},
	}
	d, err := agent.Report(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := written(t, d); text != want.text {
		t.Errorf("another report: %s", firstDifference(want.text, text))
	}
	o.Capture = nil
	if _, err := agent.Report(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--candidate") {
		t.Error(err)
	}
}

// An end of the context ends a run soon: what was not replayed is counted, and
// the recording can be read.
func TestPcapCancelled(t *testing.T) {
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer s.Close()
	defer close(hang)
	ctx, cancel := context.WithCancel(t.Context())
	dir := filepath.Join(t.TempDir(), "recording")
	c := configured(t, experimentYAML, s.URL, 4)
	c.Experiments[0].Replay.Timeout = config.Duration(30 * time.Second)
	stop := time.AfterFunc(100*time.Millisecond, cancel)
	defer stop.Stop()
	begin := time.Now()
	res, err := agent.Pcap(ctx, agent.PcapOptions{
		Path: traffic(60).save(t), Ports: c.CapturePorts(), Config: c, Record: dir, Quiet: true,
		Terminal: agent.Terminal{Out: io.Discard}, Version: "test", Log: slog.New(slog.DiscardHandler),
	})
	if !errors.Is(err, context.Canceled) || res == nil || time.Since(begin) > 20*time.Second {
		t.Fatal(err, time.Since(begin))
	}
	for _, i := range telemetry.Balance(res.Counts) {
		t.Errorf("the ledger does not balance: %s", i)
	}
	d, _, err := reported(t, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if n := d.Experiments[0].Counts; n.Selected == 0 || n.Stopped != n.Selected {
		t.Errorf("%d stopped of %d", n.Stopped, n.Selected)
	}
}

// What a recording says is checked against its configuration.
func TestReportDamage(t *testing.T) {
	good := fmt.Sprintf(experimentYAML, "http://10.0.0.9", 4)
	for _, tt := range []struct {
		name, config string
		event        recording.Event
		err          string
	}{
		{"a route that is not there", good, recording.Event{Choices: []exchange.Choice{{Selection: exchange.SampledOut, Route: 1}}}, "event 1: choices[0]: route 1 of 1"},
		{"another number of experiments", good, recording.Event{Choices: make([]exchange.Choice, 2)}, "event 1: choices of 2 experiments: the configuration has 1"},
		{"none", good, recording.Event{}, "event 1: choices of 0 experiments: the configuration has 1"},
		{"no configuration", "", recording.Event{}, "config:1:1: empty"},
		{"a wrong one", "version: 1\ncapture: {ports: [0]}\n", recording.Event{}, "0 is no port"},
		{"rules that can't be", strings.Replace(good, "replay:", "compare: {ignore: {json: ['$.a[x]']}}\n    replay:", 1), recording.Event{Choices: make([]exchange.Choice, 1)}, "ignore.json[0]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "recording")
			w, err := recording.Create(recording.Config{Dir: dir, Head: recording.Head{Config: tt.config}})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(w.Write(&tt.event), w.Close(nil)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := reported(t, dir, ""); err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want %s", err, tt.err)
			}
		})
	}
}

// Whatever lines a recording has, a report of it ends, with or without an error.
func FuzzReportRecording(f *testing.F) {
	const answer = `{"status":200,"proto":"HTTP/1.1","header":[["Content-Type","application/json"]],"framing":"length","body":{"bytes":"eyJhIjoxfQ==","size":7},"first_byte":1,"last_byte":2}`
	f.Add([]byte(`{"exchange":{"time":1,"choices":[{"selection":"selected","route":0}],"whole":{"id":"a","client":"10.0.0.1:1","server":"10.0.0.2:80","isn":0,"offset":0,"request":{"method":"GET","target":"/api/1","proto":"HTTP/1.1","host":"","header":[["a","b"]],"framing":"none","body":{"bytes":null,"size":0},"first_byte":1,"last_byte":2},"response":` +
		answer + `},"replays":[{"experiment":0,"result":"compared","response":` + strings.Replace(answer, "jIjoxf", "jIjoyf", 1) + `}]}}` + "\n" + `{"tick":100000000000}` + "\n"))
	f.Add([]byte(`{"lost":{"time":1,"result":"gap","count":3}}` + "\n" + `{"tick":-9223372036854775808}` + "\n" + `{"tick":9223372036854775807}` + "\n" + `{"end":{"events":3,"ledger":{"exchanges":{"gap":3}}}}` + "\n"))
	leg := `{"result":"compared","response":` + answer + `}`
	f.Add([]byte(`{"exchange":{"time":1,"choices":[{"selection":"selected","route":0}],"whole":{"id":"a","client":"10.0.0.1:1","server":"10.0.0.2:80","isn":0,"offset":0,"request":{"method":"GET","target":"/api/1","proto":"HTTP/1.1","host":"","header":[["a","b"]],"framing":"none","body":{"bytes":null,"size":0},"first_byte":1,"last_byte":2},"response":` +
		answer + `},"replays":[{"experiment":0,"result":"compared","response":` + strings.Replace(answer, "jIjoxf", "jIjoyf", 1) + `,"control":{"result":"paired","outcome":` + leg + `},"again":{"result":"compared","candidate":` + leg + `,"control":` + leg + `}}]}}` + "\n"))
	dir := f.TempDir()
	w, err := recording.Create(recording.Config{Dir: dir, Head: recording.Head{Config: fmt.Sprintf(controlYAML, "http://10.0.0.9", "http://10.0.0.8", "50%", "1s")}})
	if err != nil {
		f.Fatal(err)
	}
	if err := w.Close(nil); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, lines []byte) {
		if err := os.WriteFile(filepath.Join(dir, "events.jsonl.zst"), stored(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := agent.Report(t.Context(), agent.ReportOptions{Files: []string{dir}, Version: "test", Warn: io.Discard})
		if err == nil && d.Word == verdict.Promote && d.Experiments[0].Counts.Compared < 1000 {
			t.Errorf("promote after %d", d.Experiments[0].Counts.Compared)
		}
	})
}

// stored is a zstd frame of blocks as they are (RFC 8878 section 3.1.1), which
// costs a fuzz target nothing.
func stored(b []byte) []byte {
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x58} // a window of 2 MiB
	for {
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
