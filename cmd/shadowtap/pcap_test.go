package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
)

// A little-endian pcap file of raw IPv4 packets, made by hand
// (draft-ietf-opsawg-pcap; RFC 791, RFC 9293).
type pcapFile struct {
	bytes.Buffer
	client uint16 // its port
}

func newPcap() *pcapFile {
	f := &pcapFile{client: 40000}
	f.le32(0xa1b2c3d4)
	f.Write([]byte{2, 0, 4, 0})
	f.le32(0, 0, 262144, 101) // zone, accuracy, snap length, LINKTYPE_RAW
	return f
}

func (f *pcapFile) le32(values ...uint32) {
	for _, v := range values {
		f.Write(binary.LittleEndian.AppendUint32(nil, v))
	}
}

// TCP flags.
const (
	fin = 1
	syn = 2
	ack = 16
)

// segment adds a packet between 10.0.0.1:CLIENT and 10.0.0.2:PORT.
func (f *pcapFile) segment(fromClient bool, port uint16, flags byte, seq, acked uint32, payload string) {
	client, server := []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}
	from, to, sport, dport := client, server, f.client, port
	if !fromClient {
		from, to, sport, dport = server, client, port, f.client
	}
	be := binary.BigEndian
	ip := []byte{0x45, 0}
	ip = be.AppendUint16(ip, uint16(40+len(payload)))
	ip = append(ip, 0, 1, 0x40, 0, 64, 6, 0, 0)
	ip = append(append(ip, from...), to...)
	tcp := be.AppendUint16(be.AppendUint16(nil, sport), dport)
	tcp = be.AppendUint32(be.AppendUint32(tcp, seq), acked)
	tcp = append(tcp, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	n := uint32(len(ip) + len(tcp) + len(payload))
	f.le32(1700000000, uint32(f.Len()), n, n) // seconds, ascending microseconds, lengths
	f.Write(ip)
	f.Write(tcp)
	f.WriteString(payload)
}

// get adds a connection with one exchange.
func (f *pcapFile) get(port uint16, request, response string) {
	c, s := uint32(1000), uint32(9000)
	f.segment(true, port, syn, c, 0, "")
	f.segment(false, port, syn|ack, s, c+1, "")
	f.segment(true, port, ack, c+1, s+1, request)
	c += 1 + uint32(len(request))
	f.segment(false, port, ack, s+1, c, response)
	s += 1 + uint32(len(response))
	f.segment(true, port, fin|ack, c, s, "")
	f.segment(false, port, fin|ack, s, c+1, "")
	f.segment(true, port, ack, c+1, s+1, "")
}

func capture(t *testing.T) string {
	t.Helper()
	f := newPcap()
	f.get(80, "GET /a?b=<c> HTTP/1.1\r\nHost: example.com\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	f.get(81, "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	path := t.TempDir() + "/made.pcap"
	if err := os.WriteFile(path, f.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of ""
	abc     = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	hello   = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

	line80 = `{"client":"10.0.0.1:40000","server":"10.0.0.2:80","proto":"http/1","method":"GET","uri":"/a?b=<c>","host":"example.com","status":200,"interim":[],` +
		`"request":{"body_len":0,"body_sha256":"` + nothing + `","complete":true,"framing":"none"},` +
		`"response":{"body_len":5,"body_sha256":"` + hello + `","complete":true,"framing":"length"}}` + "\n"
	line81 = `{"client":"10.0.0.1:40000","server":"10.0.0.2:81","proto":"http/1","method":"POST","uri":"/p","host":"h","status":200,"interim":[103],` +
		`"request":{"body_len":3,"body_sha256":"` + abc + `","complete":true,"framing":"length"},` +
		`"response":{"body_len":5,"body_sha256":"` + hello + `","complete":true,"framing":"chunked"}}` + "\n"
)

// Flags stand before or behind the file, repeated or as a list.
func TestPcapExchanges(t *testing.T) {
	file := capture(t)
	for _, tc := range []struct{ line, want string }{
		{"--exchanges --ports 80,81 FILE", line80 + line81},
		{"FILE --exchanges --ports 80,81", line80 + line81},
		{"--exchanges FILE --port 80 --port 81", line80 + line81},
		{"-p 80 FILE --exchanges", line80},
		{"FILE --port=81 --exchanges=true", line81},
		{"--exchanges --port 82 -- FILE", ""},
	} {
		code, out, errs := call(t, append([]string{"pcap"}, strings.Fields(strings.ReplaceAll(tc.line, "FILE", file))...)...)
		if code != 0 || errs != "" || out != tc.want {
			t.Errorf("%s: exit code %d, %s\n got %swant %s", tc.line, code, errs, out, tc.want)
		}
	}
}

// Without --exchanges the ledger is printed, and it balances.
func TestPcapLedger(t *testing.T) {
	code, out, errs := call(t, "pcap", "--port", "80", capture(t))
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	for _, w := range []string{"kernel packets", "other port 7", "complete 1", "every line balances"} {
		if !strings.Contains(out, w) {
			t.Errorf("no %q in\n%s", w, out)
		}
	}
}

// A file that ends inside a packet: what was whole is printed, and the rest is
// said.
func TestPcapCutFile(t *testing.T) {
	file := capture(t)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b[:len(b)-7], 0o600); err != nil {
		t.Fatal(err)
	}
	_, out, errs := call(t, "pcap", "--exchanges", "--ports", "80,81", file)
	if out != line80+line81 || !strings.Contains(errs, "ends inside a record") {
		t.Errorf("got %ssaid %s", out, errs)
	}
}

// With a candidate the records go to the file, the report to standard output, and
// the recording gives the same report again.
func TestPcapCandidate(t *testing.T) {
	elsewhere(t)
	file := capture(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		io.WriteString(w, "hullo")
	}))
	defer s.Close()
	run := func(args ...string) string {
		t.Helper()
		code, out, errs := call(t, args...)
		if code != 0 || errs != "" {
			t.Fatalf("%q: exit code %d, %s", args, code, errs)
		}
		return out
	}
	out := run("pcap", "--ports", "80,81", "--candidate", s.URL, "--jsonl", "out.jsonl", "--record", "kept", file)
	for _, w := range []string{"1 of 1 diverge", "shadowtap report kept --rules FILE"} {
		if !strings.Contains(out, w) {
			t.Errorf("no %q in\n%s", w, out)
		}
	}
	lines, err := os.ReadFile("out.jsonl")
	if err != nil || strings.Count(string(lines), `"schema":"shadowtap.divergence.v1"`) != 1 || !strings.Contains(string(lines), "hullo") {
		t.Errorf("records %s, %v", lines, err)
	}
	report, _, _ := strings.Cut(out, "To compare again")
	if again := run("report", "kept"); again != report {
		t.Errorf("the recording says\n%s\nthe run said\n%s", again, report)
	}
	if again := run("report", "--ports", "80,81", "--candidate", s.URL, file); again != report {
		t.Errorf("the report of the capture says\n%s\nthe run said\n%s", again, report)
	}
	// A second run replaces both.
	run("pcap", "--ports", "80,81", "--candidate", s.URL, "--jsonl", "out.jsonl", "--record", "kept", file)
	if again, err := os.ReadFile("out.jsonl"); string(again) != string(lines) {
		t.Errorf("other records: %s, %v", again, err)
	}
	write(t, "rules.yaml", "ignore: {aspects: [body, header]}\n")
	if again := run("report", "kept", "--rules", "rules.yaml"); !strings.Contains(again, "0 of 1 diverge") {
		t.Errorf("with other rules\n%s", again)
	}
	if code, _, errs := call(t, "report", "--require", "promote", "kept"); code != 3 && code != 1 {
		t.Errorf("exit code %d, %s", code, errs)
	}
	// Without a file for them the divergences come first.
	if out := run("pcap", "--ports", "80,81", "--candidate", s.URL, "--sample", "100%", file); !strings.HasSuffix(out, report) || len(out) == len(report) {
		t.Errorf("on the terminal\n%s", out)
	}
	// A file of records on standard output leaves the report to standard error.
	code, stdout, stderr := call(t, "pcap", "--ports", "80,81", "--candidate", s.URL, "--jsonl", "-", file)
	if code != 0 || stdout != string(lines) || stderr != report {
		t.Errorf("exit code %d\n%s\n%s", code, stdout, stderr)
	}
}

// A control tells what is noise. The experiments of a configuration all get a line,
// with pcap and with report, which says the same of the capture as of the recording.
func TestPcapControl(t *testing.T) {
	elsewhere(t)
	f := newPcap()
	for i := range 60 {
		f.client++
		f.get(80, fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: h\r\n\r\n", i), "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"a\":1,\"pod\":0}\n")
	}
	if err := os.WriteFile("made.pcap", f.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	// Which paths a server was asked for; a pair that came apart is asked again.
	serve := func(body string) (string, *sync.Map) {
		asked := new(sync.Map)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Store(r.URL.Path, true)
			w.Header()["Date"] = nil
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL, asked
	}
	wrong, _ := serve(`{"a":2,"pod":1}` + "\n")
	right, _ := serve(`{"a":1,"pod":0}` + "\n")
	control, asked := serve(`{"a":1,"pod":2}` + "\n")
	said := func(args ...string) string {
		t.Helper()
		code, out, errs := call(t, args...)
		if code != 0 || errs != "" {
			t.Fatalf("%q: exit code %d, %s", args, code, errs)
		}
		out, _, _ = strings.Cut(out, "To compare again")
		return out
	}
	flags := []string{"--port", "80", "--candidate", wrong, "--control", control, "made.pcap"}
	out := said(append([]string{"pcap", "--jsonl", "out.jsonl", "--record", "kept"}, flags...)...)
	paths := func() (n int) {
		asked.Range(func(any, any) bool { n++; return true })
		return n
	}
	if n := paths(); n != 60 {
		t.Errorf("the control was asked for %d of 60", n)
	}
	for _, w := range []string{"control    1", "changed $.pod", "Masked: more than half of the control's answers have it too"} {
		if !strings.Contains(out, w) {
			t.Errorf("no %q in\n%s", w, out)
		}
	}
	for _, args := range [][]string{append([]string{"report"}, flags...), {"report", "kept"}} {
		if again := said(args...); again != out {
			t.Errorf("%q says\n%s\npcap said\n%s", args, again, out)
		}
	}
	lines, err := os.ReadFile("out.jsonl")
	if err != nil || !strings.Contains(string(lines), `"side":"both"`) || !strings.Contains(string(lines), `"paired":60`) {
		t.Errorf("records %s, %v", lines, err)
	}

	write(t, "two.yaml", fmt.Sprintf(`version: 1
capture: {ports: [80]}
experiments:
  - {name: wrong, routes: [{path: /}], sample: {rate: 100%%}, candidate: {url: "%s"}, control: {url: "%s", share: 50%%}}
  - {name: right, routes: [{path: /}], sample: {rate: 100%%}, candidate: {url: "%s"}}
`, wrong, control, right))
	asked.Clear()
	out = said("pcap", "--config", "two.yaml", "--jsonl", "two.jsonl", "--record", "two", "made.pcap")
	if n := paths(); n < 15 || n > 45 {
		t.Errorf("half of 60, and the control was asked for %d", n)
	}
	for _, w := range []string{"60 of 60 diverge", "0 of 60 diverge"} {
		if !strings.Contains(out, w) {
			t.Errorf("no %q in\n%s", w, out)
		}
	}
	for _, args := range [][]string{{"report", "--config", "two.yaml", "made.pcap"}, {"report", "two"}, {"report", "--config", "two.yaml", "two"}} {
		if again := said(args...); again != out {
			t.Errorf("%q says\n%s\npcap said\n%s", args, again, out)
		}
	}
	if code, _, errs := call(t, "pcap", "--config", "two.yaml", "--control", control, "made.pcap"); code != exitTrouble || !strings.Contains(errs, "SHADOWTAP__EXPERIMENTS__wrong__CONTROL__URL") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	write(t, "none.yaml", "version: 1\ncapture: {ports: [80]}\n")
	if code, _, errs := call(t, "report", "--config", "none.yaml", "made.pcap"); code != exitTrouble || !strings.Contains(errs, "has no experiment") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// Output that cannot be written is trouble, not silence.
func TestPcapOutputFails(t *testing.T) {
	file := capture(t)
	for _, args := range [][]string{{"pcap", "--exchanges", "--port", "80", file}, {"pcap", "--port", "80", file}, {"version"}, {"config", "default"}, {"help"}} {
		var errs bytes.Buffer
		if code := run(t.Context(), append([]string{"shadowtap"}, args...), brokenPipe{}, &errs); code != exitTrouble || !strings.Contains(errs.String(), "closed pipe") {
			t.Errorf("%q: exit code %d, %s", args, code, errs.String())
		}
	}
}

// The line has the fields of the schema and no other.
func TestPcapLineIsJSON(t *testing.T) {
	_, out, _ := call(t, "pcap", "--exchanges", "--port", "80", capture(t))
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	type body struct {
		Len      int64  `json:"body_len"`
		SHA256   string `json:"body_sha256"`
		Complete bool   `json:"complete"`
		Framing  string `json:"framing"`
	}
	var l struct {
		Client, Server, Proto, Method, URI, Host string
		Status                                   int
		Interim                                  []int
		Request, Response                        body
	}
	if err := d.Decode(&l); err != nil || l.Status != 200 || l.Response.Len != 5 {
		t.Errorf("%+v, %v", l, err)
	}
}

// Tunnels are opened unless --decapsulate=false says otherwise.
func TestPcapDecapsulates(t *testing.T) {
	inner := newPcap()
	inner.get(80, "GET /inside HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	// Each packet goes into a GRE packet (RFC 2784) in IPv4.
	outer := newPcap()
	for b := inner.Bytes()[24:]; len(b) > 0; {
		n := binary.LittleEndian.Uint32(b[8:])
		packet := b[16 : 16+n]
		outer.Write(b[:8])
		outer.le32(24+n, 24+n)
		ip := binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(24+n))
		outer.Write(append(ip, 0, 1, 0x40, 0, 64, 47, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0, 0, 8, 0))
		outer.Write(packet)
		b = b[16+n:]
	}
	path := t.TempDir() + "/gre.pcap"
	if err := os.WriteFile(path, outer.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flag string
		want int
	}{{"--decapsulate", 1}, {"--decapsulate=true", 1}, {"--decapsulate=false", 0}, {"--exchanges", 1}} {
		code, stdout, stderr := call(t, "pcap", "--port", "80", "--exchanges", c.flag, path)
		if n := strings.Count(stdout, `"uri":"/inside"`); code != 0 || n != c.want {
			t.Errorf("%s: exit %d, %d exchanges, want %d: %s%s", c.flag, code, n, c.want, stdout, stderr)
		}
	}
}
