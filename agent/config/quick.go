package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Quick is what the command line can say without a file. Its zero values leave
// things as they are.
type Quick struct {
	// Interfaces are names, for --interface.
	Interfaces []string
	// Ports are the servers' ports, for --port.
	Ports []uint16
	// Candidate is the candidate's URL, for --candidate.
	Candidate string
	// Control is the URL of the control, for --control. It takes the place of
	// Self; all that is replayed goes there too unless share was written.
	Control string
	// Paths are path patterns, for --path. Without any an experiment that is
	// made gets "/", which is every path.
	Paths []string
	// Sample is a Rate as text, for --sample.
	Sample string
}

// QuickName is the name of the experiment that the command line makes.
const QuickName = "default"

// QuickExperiment makes a configuration of the command line alone: the defaults,
// and with a candidate one experiment, named "default".
func QuickExperiment(q Quick) (*Config, error) {
	c := New()
	if err := c.Override(q); err != nil {
		return nil, err
	}
	return c, nil
}

// Override lays the command line over the configuration. Candidate, Control,
// Paths and Sample are for the one experiment that there is, or for one that a
// candidate makes; with several experiments they are an error. Errors about what
// was set name the flag.
func (c *Config) Override(q Quick) error {
	var r report
	if len(q.Interfaces) > 0 {
		c.Capture.Interfaces = nil
		for _, name := range q.Interfaces {
			c.Capture.Interfaces = append(c.Capture.Interfaces, Interface{Name: name})
		}
		c.replaced("capture.interfaces", "--interface")
	}
	if len(q.Ports) > 0 {
		c.Capture.Ports = append([]uint16(nil), q.Ports...)
		c.replaced("capture.ports", "--port")
	}
	flag := ""
	switch {
	case q.Candidate != "":
		flag = "--candidate"
	case q.Control != "":
		flag = "--control"
	case len(q.Paths) > 0:
		flag = "--path"
	case q.Sample != "":
		flag = "--sample"
	default:
		return nil
	}
	switch n := len(c.Experiments); {
	case n > 1:
		names := make([]string, n)
		for i := range names {
			names[i] = c.Experiments[i].Name
		}
		key := "SAMPLE__RATE"
		switch flag {
		case "--candidate":
			key = "CANDIDATE__URL"
		case "--control":
			key = "CONTROL__URL"
		}
		r.add(Source{Name: flag}, "", "the configuration has %d experiments, %s: set the key of one by a variable such as %sEXPERIMENTS__%s__%s",
			n, joinWords(names, "and"), envKey, names[0], key)
		return r.err()
	case n == 0 && q.Candidate == "":
		r.add(Source{Name: flag}, "", "is about an experiment, and there is none: add --candidate with the URL of the candidate")
		return r.err()
	case n == 0:
		e := NewExperiment(QuickName)
		e.Routes = newRoutes([]string{"/"})
		c.Experiments = []Experiment{e}
		c.Mark("experiments[0]", flag)
	}
	e := &c.Experiments[0]
	if q.Candidate != "" {
		e.Candidate.URL = q.Candidate
		c.Mark("experiments[0].candidate.url", "--candidate")
	}
	if q.Control != "" {
		e.Control.URL, e.Control.Self, e.Control.IAcceptExtraLoad = q.Control, false, false
		c.Mark("experiments[0].control.url", "--control")
		if _, written := c.sources["experiments[0].control.share"]; !written {
			e.Control.Share = 100_00
		}
	}
	if len(q.Paths) > 0 {
		e.Routes = newRoutes(q.Paths)
		c.replaced("experiments[0].routes", "--path")
	}
	if q.Sample != "" {
		rate, err := ParseRate(q.Sample)
		if err != nil {
			r.add(Source{Name: "--sample"}, "", "%v", err)
		}
		e.Sample.Rate = rate
		c.Mark("experiments[0].sample.rate", "--sample")
	}
	return r.err()
}

func newRoutes(paths []string) []Route {
	routes := make([]Route, len(paths))
	for i, p := range paths {
		routes[i].setDefaults()
		routes[i].Path = p
	}
	return routes
}

// replaced marks a list that was set as a whole: what is known of its elements
// is of others.
func (c *Config) replaced(path, source string) {
	for p := range c.sources {
		if strings.HasPrefix(p, path+"[") {
			delete(c.sources, p)
		}
	}
	c.Mark(path, source)
}

// ParsePort reads a port as a flag has it.
func ParsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || !digits(s) {
		return 0, fmt.Errorf("%s is no port: write 1 to %d", shown(s), maxPort)
	}
	return uint16(n), nil
}
