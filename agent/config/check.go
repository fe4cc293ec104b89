package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Bounds of what may be configured.
const (
	// MinMemory is the least for capture.memory: rings and tables need it.
	MinMemory = 16 << 20
	// MaxTimeout bounds replay.timeout.
	MaxTimeout = 30 * time.Second

	maxPort      = 65535
	maxSunPath   = 107 // sun_path of unix(7), less the zero byte
	maxInterface = 15  // IFNAMSIZ of netdevice(7), less the zero byte
)

// checker collects what is wrong with the meaning of a configuration.
type checker struct {
	*Config
	report
}

func (c *checker) fail(path, format string, args ...any) { c.add(c.At(path), path, format, args...) }

// Check says everything that is wrong with the meaning of the configuration, as
// it stands after flags were laid over it: Errors, or nil. Whether there are
// interfaces is not its question, since a capture file needs none.
func (c *Config) Check() error {
	k := &checker{Config: c}
	k.top()
	k.capture()
	k.experiments()
	k.publish()
	k.redaction()
	k.sinks()
	k.management()
	k.later()
	err := k.err()
	if c.check == nil {
		return err
	}
	more := c.check(c)
	if more == nil {
		return err
	}
	var all Errors
	if err != nil {
		all = err.(Errors)
	}
	list, ok := more.(Errors)
	if !ok {
		list = Errors{more}
	}
	for _, e := range list {
		if !k.has(e) { // said once, the way it is said here
			all = append(all, e)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// one refuses a word that is not of the list.
func (c *checker) one(path, have string, want ...string) {
	if !slices.Contains(want, have) {
		c.fail(path, "%s is not known: write %s", shown(have), joinWords(want, "or"))
	}
}

func (c *checker) top() {
	if c.Version != 1 {
		c.fail("version", "%d is not known: this program reads version 1", c.Version)
	}
	if !label(c.Instance) {
		c.fail("instance", "%s is no name: %s", shown(c.Instance), labelRule)
	}
	c.absolute("off_file", c.OffFile)
	if c.Stop.Deadline == 0 || c.Stop.Deadline > Duration(10*time.Minute) {
		c.fail("stop.deadline", "%s is not above 0s and at most 10m", c.Stop.Deadline)
	} else if c.Stop.Drain >= c.Stop.Deadline {
		c.fail("stop.drain", "%s is not below stop.deadline, %s", c.Stop.Drain, c.Stop.Deadline)
	}
}

const labelRule = "write 1 to 63 letters, digits, dots, dashes or underscores, a letter or digit first"

// label says whether a name can stand in metrics, paths and commands as it is.
func label(s string) bool {
	for i := range len(s) {
		b := s[i]
		alnum := 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
		if !alnum && (i == 0 || b != '-' && b != '_' && b != '.') {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// absolute refuses a path that depends on the working directory. "" is allowed.
func (c *checker) absolute(key, s string) bool {
	if s != "" && !path.IsAbs(s) {
		c.fail(key, "%s must be an absolute path", shown(s))
		return false
	}
	return true
}

func (c *checker) capture() {
	type interfaceID struct{ netns, name string }
	seen := map[interfaceID]int{}
	roles := map[string]map[string]int{}
	for i, in := range c.Capture.Interfaces {
		at := "capture.interfaces[" + strconv.Itoa(i) + "]"
		switch {
		case in.Name == "":
			c.fail(at+".name", "is missing: write the interface's name")
			continue
		case strings.ContainsAny(in.Name, "*?["):
			c.fail(at+".name", "%s: patterns are not in this version: write whole names", shown(in.Name))
		case len(in.Name) > maxInterface, in.Name == ".", in.Name == "..",
			strings.ContainsFunc(in.Name, func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) }):
			c.fail(at+".name", "%s is no interface name: write it as ip link shows it, at most %d bytes", shown(in.Name), maxInterface)
		}
		if in.Role != "" {
			c.one(at+".role", in.Role, "any", "uplink", "workload", "loopback")
		}
		id := interfaceID{in.NetNS, in.Name}
		if first, ok := seen[id]; ok {
			c.fail(at, "%s is listed twice: also element %d", shown(in.Name), first)
			continue
		}
		seen[id] = i
		if in.Role == "uplink" || in.Role == "workload" {
			if roles[in.NetNS] == nil {
				roles[in.NetNS] = map[string]int{}
			}
			if _, ok := roles[in.NetNS][in.Role]; !ok {
				roles[in.NetNS][in.Role] = i
			}
		}
	}
	for _, netns := range slices.Sorted(maps.Keys(roles)) {
		r := roles[netns]
		if len(r) == 2 {
			c.fail(fmt.Sprintf("capture.interfaces[%d].role", max(r["uplink"], r["workload"])),
				"overlapping roles: a request to one port would be captured on uplink %s and on workload %s, with other addresses and so as two requests: keep one role",
				shown(c.Capture.Interfaces[r["uplink"]].Name), shown(c.Capture.Interfaces[r["workload"]].Name))
		}
	}
	for i, p := range c.Capture.Ports {
		if p == 0 {
			c.fail("capture.ports["+strconv.Itoa(i)+"]", "0 is no port: write 1 to %d", maxPort)
		}
	}
	if len(c.CapturePorts()) == 0 {
		c.fail("capture.ports", "no port to capture: write capture.ports or an experiment's match.port")
	}
	c.one("capture.attach", c.Capture.Attach, "auto", "tcx", "clsact")
	if c.Capture.Memory < MinMemory {
		c.fail("capture.memory", "%s is below the least, %s", c.Capture.Memory, Size(MinMemory))
	}
	if c.Capture.Rings > 64 {
		c.fail("capture.rings", "%d is more than 64", c.Capture.Rings)
	}
	switch b := c.Capture.MaxBody; {
	case b < 1<<10:
		c.fail("capture.max_body", "%s is below the least, 1KiB", b)
	case b > c.Capture.Memory/4 && c.Capture.Memory >= MinMemory:
		c.fail("capture.max_body", "%s is more than a quarter of capture.memory, %s", b, c.Capture.Memory)
	}
	if b := c.Capture.CopyBudget; b != 0 && b < 64<<10 {
		c.fail("capture.copy_budget", "%s is below the least, 64KiB/s", b)
	}
}

func (c *checker) experiments() {
	if n := len(c.Experiments); n > exchange.MaxExperiments {
		c.fail("experiments["+strconv.Itoa(exchange.MaxExperiments)+"]", "there are %d experiments: at most %d", n, exchange.MaxExperiments)
	}
	seen := map[string]int{}
	for i := range c.Experiments {
		e := &c.Experiments[i]
		at := "experiments[" + strconv.Itoa(i) + "]."
		switch first, twice := seen[e.Name]; {
		case e.Name == "":
			c.fail(at+"name", "is missing: %s", labelRule)
		case !label(e.Name):
			c.fail(at+"name", "%s is no name: %s", shown(e.Name), labelRule)
		case twice:
			c.fail(at+"name", "%s is the name of experiment %d too%s", shown(e.Name), first, c.also("experiments["+strconv.Itoa(first)+"].name"))
		default:
			seen[e.Name] = i
		}
		c.match(at+"match.", &e.Match)
		c.routes(at, e)
		c.sample(at, e)
		c.candidate(at, &e.Candidate, &e.Control)
		c.control(at, e)
		c.replay(at+"replay.", &e.Replay)
		c.compare(at+"compare.", &e.Compare)
	}
}

// also tells of the position of another key, for a conflict of two.
func (c *checker) also(path string) string {
	if s := c.At(path); s != (Source{}) {
		return ", at " + s.String()
	}
	return ""
}

func (c *checker) match(at string, m *Match) {
	if m.Port != 0 && len(c.Capture.Ports) > 0 && !slices.Contains(c.Capture.Ports, m.Port) {
		c.fail(at+"port", "%d is not captured: add it to capture.ports%s", m.Port, c.also("capture.ports"))
	}
	if err := host(m.Host); err != nil {
		c.fail(at+"host", "%v", err)
	}
	c.methods(at+"methods", m.Methods)
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		if !isToken(name) {
			c.fail(at+"headers", "%s is no header name", shown(name))
		}
	}
}

// host checks a host filter: a name or an address, with "*." in front for what
// is below it and ":port" behind. "" and "*" are any.
func host(h string) error {
	if h == "" || h == "*" {
		return nil
	}
	name := h
	if i := strings.LastIndexByte(h, ':'); i >= 0 && !strings.Contains(h[i:], "]") && (h[0] == '[' || strings.IndexByte(h, ':') == i) {
		port := h[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%s: %s is no port: write 1 to %d", shown(h), shown(port), maxPort)
		}
		name = h[:i]
	}
	bare := strings.TrimPrefix(name, "*.")
	switch {
	case strings.Contains(bare, ":") && (bare[0] != '[' || bare != name):
		return fmt.Errorf("%s: an address of IPv6 stands in brackets, without *", shown(h))
	case bare == "" || name == "." || strings.ContainsFunc(bare, func(r rune) bool { return r <= ' ' || strings.ContainsRune("*/@?#,\\", r) }):
		return fmt.Errorf("%s is no host: write a name such as example.com, *.example.com or example.com:8080", shown(h))
	}
	return nil
}

func (c *checker) methods(at string, list []string) {
	for i, m := range list {
		here := at + "[" + strconv.Itoa(i) + "]"
		switch {
		case !isToken(m):
			c.fail(here, "%s is no method", shown(m))
		case m != strings.ToUpper(m):
			c.fail(here, "%s: methods are in upper case (RFC 9110 section 9.1): write %s", shown(m), strings.ToUpper(m))
		}
	}
}

// isToken says whether s is one of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		b := s[i]
		if b <= ' ' || b >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", b) >= 0 {
			return false
		}
	}
	return s != ""
}

// compare checks what does not need the rules' own language, which package diff
// reads.
func (c *checker) compare(at string, m *Compare) {
	c.ignored(at+"ignore.headers", m.Ignore.Headers)
	c.filled(at+"ignore.json", m.Ignore.JSON)
	c.filled(at+"ignore.values", m.Ignore.Values)
	c.one(at+"state", m.State, "shared", "separate")
	if m.Reflection != "" {
		c.one(at+"reflection", m.Reflection, "candidate")
		if m.Descriptors != "" {
			c.fail(at+"reflection", "has no effect: the types are in a file%s; keep one of them", c.also(at+"descriptors"))
		}
	}
	if d := m.Recheck; d != 0 && (d < Duration(100*time.Millisecond) || d > Duration(time.Minute)) {
		c.fail(at+"recheck", "%s is not within 100ms and 60s: leave it out for never", d)
	}
	for i := range m.Equal {
		here := at + "equal[" + strconv.Itoa(i) + "].within"
		if _, written := c.sources[here]; written && m.Equal[i].Within == 0 {
			c.fail(here, "0s: leave it out for any two times, or write 1ms for what is nearly the same")
		}
	}
	for _, limit := range []struct {
		key        string
		have, most int
	}{{"max_depth", m.MaxDepth, 10_000}, {"max_differences", m.MaxDifferences, 1000}} {
		if limit.have < 1 || limit.have > limit.most {
			c.fail(at+limit.key, "%d is not within 1 and %d", limit.have, limit.most)
		}
	}
}

// ignored checks a list of header names, of which a star may end each.
func (c *checker) ignored(at string, list []string) {
	for i, name := range list {
		plain, star := strings.CutSuffix(name, "*")
		if star && plain == "" {
			continue
		}
		if !isToken(plain) || strings.Contains(plain, "*") {
			c.fail(at+"["+strconv.Itoa(i)+"]", "%s is no header name: only at the end * stands for any rest", shown(name))
		}
	}
}

// filled refuses empty elements.
func (c *checker) filled(at string, list []string) {
	for i, s := range list {
		if strings.TrimSpace(s) == "" {
			c.fail(at+"["+strconv.Itoa(i)+"]", "is empty")
		}
	}
}

func (c *checker) routes(at string, e *Experiment) {
	if len(e.Routes) == 0 {
		c.fail(at+"routes", `is missing: without a route no request is replayed; write - path: "/" for all`)
	}
	seen := map[string]int{}
	for i := range e.Routes {
		r := &e.Routes[i]
		here := at + "routes[" + strconv.Itoa(i) + "]."
		if r.Path == "" {
			c.fail(here+"path", "is missing: write a pattern such as /users/{id}")
			continue
		}
		names, shape, err := pattern(r.Path)
		if err != nil {
			c.fail(here+"path", "%v", err)
			continue
		}
		if first, twice := seen[shape]; twice {
			other := at + "routes[" + strconv.Itoa(first) + "].path"
			c.fail(here+"path", "%s matches the same paths as %s%s", shown(r.Path), shown(e.Routes[first].Path), c.also(other))
		} else {
			seen[shape] = i
		}
		if err := keyTemplate(r.Key, names); err != nil {
			c.fail(here+"key", "%v", err)
		}
		for k, name := range r.Secret {
			if !slices.Contains(names, name) {
				c.fail(here+"secret["+strconv.Itoa(k)+"]", "%s is no parameter of %s", shown(name), shown(r.Path))
			}
		}
	}
	for i, x := range e.Exclude {
		here := at + "exclude[" + strconv.Itoa(i) + "]"
		if rule, off := strings.CutPrefix(x, "!"); off {
			if !label(rule) {
				c.fail(here, "%s: behind ! stands the name of a rule of the default list, or defaults for all", shown(x))
			}
			continue
		}
		if x == "" {
			c.fail(here, "is empty: write a path pattern")
		} else if _, _, err := pattern(x); err != nil {
			c.fail(here, "%v", err)
		}
	}
}

// pattern checks the path part of a pattern of http.ServeMux. It gives the names
// of its parameters, and its shape, which patterns that match the same paths
// have in common. Patterns that overlap are for whoever matches them. A lone
// closing brace, which ServeMux takes as it is, is refused: it is a slip, and
// %7D says it.
func pattern(s string) (names []string, shape string, err error) {
	switch {
	case strings.ContainsFunc(s, unicode.IsSpace):
		return nil, "", fmt.Errorf("%s has white space: only a path stands here, method and host stand in match", shown(s))
	case s[0] != '/':
		return nil, "", fmt.Errorf("%s must begin with /", shown(s))
	case strings.ContainsAny(s, "?#"):
		return nil, "", fmt.Errorf("%s has a ? or #: only the path is matched, never the query", shown(s))
	}
	segments := strings.Split(s[1:], "/")
	var b strings.Builder
	for i, seg := range segments {
		last := i == len(segments)-1
		b.WriteByte('/')
		if !strings.ContainsAny(seg, "{}") {
			if u, err := url.PathUnescape(seg); err == nil && !strings.ContainsAny(u, "/{}") {
				seg = u
			}
			b.WriteString(seg)
			if seg == "" && last {
				b.WriteString("{...}")
			}
			continue
		}
		if len(seg) < 2 || seg[0] != '{' || seg[len(seg)-1] != '}' {
			return nil, "", fmt.Errorf("%s: a parameter must be the whole of what stands between two slashes: write {name}", shown(s))
		}
		name, rest := strings.CutSuffix(seg[1:len(seg)-1], "...")
		switch {
		case (rest || name == "$") && !last:
			return nil, "", fmt.Errorf("%s: %s must be at the end", shown(s), seg)
		case name == "$" && !rest:
			b.WriteString("{$}")
			continue
		case !identifier(name):
			return nil, "", fmt.Errorf("%s: %s is no name of a parameter: write letters, digits and _, a letter first", shown(s), shown(name))
		case slices.Contains(names, name):
			return nil, "", fmt.Errorf("%s has two parameters %s", shown(s), shown(name))
		case rest:
			b.WriteString("{...}")
		default:
			b.WriteString("{}")
		}
		names = append(names, name)
	}
	return names, b.String(), nil
}

// identifier is Go's, as http.ServeMux demands.
func identifier(s string) bool {
	for i, r := range s {
		if !unicode.IsLetter(r) && r != '_' && (i == 0 || !unicode.IsDigit(r)) {
			return false
		}
	}
	return s != ""
}

// keyTemplate checks that the parameters of a key are there.
func keyTemplate(key string, names []string) error {
	if key == "" {
		return errors.New("is empty: leave the key out for {route}")
	}
	for rest := key; ; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			return nil
		}
		end := strings.IndexByte(rest, '}')
		if rest[i] == '}' || end < 0 {
			return fmt.Errorf("%s has a brace without its pair", shown(key))
		}
		name := rest[i+1 : end]
		rest = rest[end+1:]
		if name != "route" && !slices.Contains(names, name) {
			known := slices.Concat(names, []string{"route"})
			for i, n := range known {
				known[i] = "{" + n + "}"
			}
			return fmt.Errorf("%s: the path has no {%s}, only %s", shown(key), name, joinWords(known, "and"))
		}
	}
}

func (c *checker) sample(at string, e *Experiment) {
	switch name, header := strings.CutPrefix(e.Sample.By, "header:"); {
	case !header:
		if s := e.Sample.By; s != "request" && s != "url" && s != "connection" {
			c.fail(at+"sample.by", "%s is not known: write request, url, connection or header:NAME", shown(s))
		}
	case !isToken(name):
		c.fail(at+"sample.by", "%s is no header name", shown(name))
	}
}

func (c *checker) candidate(experiment string, x *Candidate, control *Control) {
	at := experiment + "candidate."
	u, err := target(x.URL)
	if err != nil {
		c.fail(at+"url", "%v", err)
	}
	c.one(at+"host", x.Host, "keep", "candidate")
	c.one(at+"trace", x.Trace, "fresh", "keep")
	c.one(at+"credentials", x.Credentials, "forward", "strip", "forward-anywhere")
	if strings.ContainsFunc(x.Version, unicode.IsControl) || len(x.Version) > 200 {
		c.fail(at+"version", "is longer than 200 bytes or has a control character")
	}
	if err == nil {
		c.near(at+"url", u, x)
	}
	if k, kerr := target(control.URL); err == nil && u.Scheme == "http" && (kerr != nil || k.Scheme == "http") {
		for _, f := range []struct {
			key string
			set bool
		}{{"ca_file", x.TLS.CAFile != ""}, {"cert_file", x.TLS.CertFile != ""}, {"key_file", x.TLS.KeyFile != ""},
			{"server_name", x.TLS.ServerName != ""}, {"insecure_skip_verify", x.TLS.InsecureSkipVerify}} {
			if f.set {
				c.fail(at+"tls."+f.key, "has no effect: candidate.url is http")
			}
		}
	}
	if x.TLS.CertFile != "" && x.TLS.KeyFile == "" {
		c.fail(at+"tls.key_file", "is missing: cert_file needs it")
	}
	if x.TLS.KeyFile != "" && x.TLS.CertFile == "" {
		c.fail(at+"tls.cert_file", "is missing: key_file needs it")
	}
}

// near refuses an address that requests with their credentials don't go to.
func (c *checker) near(path string, u *url.URL, x *Candidate) {
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && u.Scheme == "http" && x.Credentials == "forward" && !near(addr) {
		c.fail(path, "%s is neither loopback, link-local nor private: requests with their credentials don't go there in clear text; write https, or credentials: strip or forward-anywhere", addr)
	}
}

func (c *checker) control(at string, e *Experiment) {
	x := &e.Control
	switch {
	case x.Self && x.URL != "":
		c.fail(at+"control.self", "asks the captured server once more, and there is a url too%s: keep one of them", c.also(at+"control.url"))
	case x.Self && !x.IAcceptExtraLoad:
		c.fail(at+"control.self", "sends each chosen request to production a second time: write i_accept_extra_load: true if that is meant, or name a second instance by url")
	case x.Self && e.Guard.Latency == 0 && e.Guard.Errors.Off:
		c.fail(at+"control.self", "needs a guard, which pauses replay while production suffers: guard.latency and guard.errors are both off%s", c.also(at+"guard.latency"))
	case x.Self:
	case x.URL != "":
		u, err := target(x.URL)
		if err != nil {
			c.fail(at+"control.url", "%v", err)
			break
		}
		c.near(at+"control.url", u, &e.Candidate)
		if sameTarget(x.URL, e.Candidate.URL) {
			c.fail(at+"control.url", "is the candidate's too%s: the control is a second instance of the reference version", c.also(at+"candidate.url"))
		}
	case x.Share != defaultShare:
		c.fail(at+"control.share", "has no effect: there is no control.url")
	}
}

// sameTarget says whether two URLs of targets name the same one.
func sameTarget(a, b string) bool {
	u, uerr := target(a)
	v, verr := target(b)
	if uerr != nil || verr != nil {
		return false
	}
	port := func(u *url.URL) string {
		return cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	return strings.EqualFold(u.Hostname(), v.Hostname()) && port(u) == port(v)
}

// target takes a URL of a candidate apart. What may be secret, user information
// and query, is in no error.
func target(s string) (*url.URL, error) {
	const want = "write http or https, a host and if need be a port, such as http://users-next:8080"
	if s == "" {
		return nil, errors.New("is missing: " + want)
	}
	u, err := url.Parse(s)
	if err != nil {
		// The error has the whole text in it.
		return nil, errors.New("is no URL: " + want)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		if u.Scheme == "" || !strings.Contains(s, "://") {
			return nil, errors.New("has no scheme: " + want)
		}
		return nil, fmt.Errorf("the scheme %s is neither http nor https", shown(u.Scheme))
	case u.User != nil:
		return nil, errors.New("has user information, which is not sent: leave it out")
	case u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("has no host: " + want)
	case u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New("has a query: requests keep their own; leave it out")
	case u.Fragment != "" || strings.HasSuffix(s, "#"):
		return nil, errors.New("has a fragment: leave it out")
	case u.Path != "" && u.Path != "/":
		return nil, errors.New("has a path: requests keep their own; leave it out")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/@?#\%"<>{}|^`+"`", r) }) && !strings.HasPrefix(u.Host, "["):
		return nil, errors.New("has a host that no host is called; international names are written in their xn-- form")
	}
	if p := u.Port(); p != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("the port %s is no port: write 1 to %d", shown(p), maxPort)
		}
	}
	return u, nil
}

// sharedSpace is RFC 6598's.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// near says whether credentials may go to an address in clear text.
func near(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsPrivate() || sharedSpace.Contains(a.WithZone(""))
}

func (c *checker) replay(at string, r *Replay) {
	if r.Timeout == 0 || r.Timeout > Duration(MaxTimeout) {
		c.fail(at+"timeout", "%s is not above 0s and at most %s", r.Timeout, Duration(MaxTimeout))
	}
	if n := r.MaxInFlight; n < 1 || n > 65536 {
		c.fail(at+"max_in_flight", "%d is not from 1 to 65536", n)
	}
	c.methods(at+"unsafe", r.Unsafe)
	for i, m := range r.Unsafe {
		if m == "CONNECT" {
			c.fail(at+"unsafe["+strconv.Itoa(i)+"]", "CONNECT is never replayed")
		}
	}
	for i, m := range r.GRPC {
		if !grpcMethod(m) {
			c.fail(at+"grpc["+strconv.Itoa(i)+"]", "%s is no gRPC method: write /package.Service/Method, or /package.Service/* for all of a service", shown(m))
		}
	}
}

// grpcMethod says whether s is a service and a method, or a star for all.
func grpcMethod(s string) bool {
	name := func(s string) bool {
		for i := range len(s) {
			b := s[i]
			if ('a' > b || b > 'z') && ('A' > b || b > 'Z') && ('0' > b || b > '9') && strings.IndexByte("_-.", b) < 0 {
				return false
			}
		}
		return s != "" && s[0] != '.' && s[len(s)-1] != '.'
	}
	rest, slash := strings.CutPrefix(s, "/")
	service, method, two := strings.Cut(rest, "/")
	return slash && two && name(service) && (method == "*" || name(method))
}

func (c *checker) publish() {
	c.one("publish.values", c.Publish.Values, "differences", "full", "digests")
	if n := c.Publish.PerFingerprint; n < 1 || n > 1_000_000 {
		c.fail("publish.per_fingerprint", "%d is not from 1 to 1000000", n)
	}
}

func (c *checker) redaction() {
	for i, name := range c.Redaction.Headers {
		// "!" and "*" are characters of names too (RFC 9110 section 5.6.2).
		if !isToken(name) {
			c.fail("redaction.headers["+strconv.Itoa(i)+"]", "%s is no header name", shown(name))
		}
	}
	c.filled("redaction.query", c.Redaction.Query)
	c.filled("redaction.json", c.Redaction.JSON)
	for i, p := range c.Redaction.Patterns {
		at := "redaction.patterns[" + strconv.Itoa(i) + "]"
		re, err := regexp.Compile(p)
		switch {
		case err != nil:
			c.fail(at, "%v", err)
		case re.MatchString(""):
			c.fail(at, "%s matches an empty text, and so every value", shown(p))
		}
	}
}

func (c *checker) sinks() {
	stdout, files := -1, map[string]int{}
	for i, s := range c.Sinks {
		at := "sinks[" + strconv.Itoa(i) + "]"
		set := 0
		for _, is := range []bool{s.Kafka != nil, s.JSONL != nil, s.Terminal != nil} {
			if is {
				set++
			}
		}
		if set != 1 {
			c.fail(at, "has %d kinds: a sink is exactly one of kafka, jsonl and terminal", set)
			continue
		}
		switch {
		case s.Kafka != nil:
			c.topic(at+".kafka.topic", s.Kafka.Topic)
			if s.Kafka.Windows != "" { // which is none
				c.topic(at+".kafka.windows", s.Kafka.Windows)
			}
			c.one(at+".kafka.format", s.Kafka.RecordFormat, "shadowtap", "miffy")
			if s.Kafka.Topic == s.Kafka.Windows && s.Kafka.Topic != "" {
				c.fail(at+".kafka.topic", "is the topic of the windows too: their records differ")
			}
		case s.JSONL != nil && s.JSONL.Path == "":
			c.fail(at+".jsonl.path", `is missing: write a file, or "-" for standard output`)
		case s.JSONL != nil && s.JSONL.Path != "-":
			file := path.Clean(s.JSONL.Path)
			if first, twice := files[file]; twice {
				c.fail(at+".jsonl.path", "is the file of sink %d too", first)
			}
			files[file] = i
		default:
			if stdout >= 0 {
				c.fail(at, "writes to standard output as sink %d does", stdout)
			}
			stdout = i
		}
	}
}

// topic checks the name of a Kafka topic as the broker does.
func (c *checker) topic(at, name string) {
	legal := name != "" && len(name) <= 249 && name != "." && name != ".."
	for i := range len(name) {
		b := name[i]
		legal = legal && ('a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '.' || b == '_' || b == '-')
	}
	if !legal {
		c.fail(at, "%s is no topic: write 1 to 249 letters, digits, dots, dashes or underscores", shown(name))
	}
}

func (c *checker) management() {
	if a := c.Management.Address; a != "" {
		host, port, err := net.SplitHostPort(a)
		if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 && port != "0" ||
			strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == '/' || r == '@' }) {
			c.fail("management.address", `%s is no address: write host:port such as 127.0.0.1:9000, or "" for none`, shown(a))
		}
	}
	if s := c.Management.AdminSocket; c.absolute("management.admin_socket", s) && len(s) > maxSunPath {
		c.fail("management.admin_socket", "is longer than the %d bytes that a socket's path may have (unix(7))", maxSunPath)
	}
	c.one("log.level", c.Log.Level, "debug", "info", "warn", "error")
	c.one("log.format", c.Log.Format, "text", "json")
}

// Warnings says what is allowed and probably not meant. Load has called it; it
// is for callers who laid flags over the result.
func (c *Config) Warnings() []Warning {
	var list []Warning
	warn := func(path, format string, args ...any) {
		list = append(list, Warning{Source: c.At(path), Path: path, Message: fmt.Sprintf(format, args...)})
	}
	now := time.Now
	if c.now != nil {
		now = c.now
	}
	for _, f := range []struct{ key, path string }{{"off_file", c.OffFile}, {"management.admin_socket", c.Management.AdminSocket}} {
		if rest, ok := strings.CutPrefix(f.path, runDir+"/"); ok && strings.Contains(rest, "/") && !strings.HasPrefix(rest, c.Instance+"/") {
			warn(f.key, "%s is in the folder of another instance than %s", shown(f.path), shown(c.Instance))
		}
	}
	for i := range c.Experiments {
		e := &c.Experiments[i]
		at := "experiments[" + strconv.Itoa(i) + "]."
		if t := e.Until.At; !t.IsZero() && t.Before(now()) {
			warn(at+"until", "%s is past: the experiment has ended", e.Until)
		}
		for j, r := range e.Routes {
			if rate := e.RateOf(j); e.Sample.By != "url" || strings.HasSuffix(r.Path, "/") || strings.Contains(r.Path, "{") || rate == 0 || rate == 100_00 {
				continue
			}
			warn(at+"routes["+strconv.Itoa(j)+"].path", "sampled by url, %s is all or nothing but for its query: the path has no parameters", shown(r.Path))
		}
		if e.Candidate.TLS.InsecureSkipVerify {
			warn(at+"candidate.tls.insecure_skip_verify", "whoever answers for the candidate's address gets the requests")
		}
	}
	return list
}
