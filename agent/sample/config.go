package sample

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Config says what is selected. It is not changed after New.
type Config struct {
	// Experiments in the order of the configuration, at most
	// exchange.MaxExperiments. Their index is that of Decision.Choices.
	Experiments []Experiment
	// Now is the clock for Stats; nil means time.Now. Decisions go by the
	// tap's time.
	Now func() time.Time
	// OnPause is told when a guard pauses an experiment, from a shard's
	// goroutine: it must not block. Nil means nobody is told.
	OnPause func(GuardPause)
	// StaleEntries is how many paths and sets of path parameters each shard
	// remembers an unsafe method for, at 28 bytes. Zero means 16384.
	StaleEntries int
}

// Experiment is one comparison: which requests, and how many of them.
type Experiment struct {
	// Name is unique and not empty.
	Name string
	// Disabled starts the experiment paused; SetOff with PauseDisabled changes
	// it.
	Disabled bool
	// Until is when the experiment ends, by the tap's time. Zero means never.
	Until time.Time
	// Match says which requests, before paths are looked at.
	Match Match
	// Routes are the paths, at least one. A path that none lists is unmatched.
	Routes []Route
	// Exclude lists path patterns that are never replayed; they may overlap.
	// They are looked for in the path as captured and in the cleaned one. The
	// default list (DefaultExclusions) holds besides, but for the rules that
	// are listed here as "!name".
	Exclude []string
	// Rate is the share of requests that are selected on routes without an own.
	Rate Rate
	// By says what the selection goes by.
	By By
	// Unsafe lists the methods beside GET, HEAD and OPTIONS that may be
	// replayed.
	Unsafe []string
	// GRPC lists the gRPC methods that may be replayed: /package.Service/Method,
	// or /package.Service/* for all of a service. Unsafe says nothing of them.
	GRPC []string
	// Guard pauses replay when the reference suffers. The zero value is off.
	Guard Guard
	// SeparateState says that the candidate has a state of its own, so that an
	// unsafe method makes its path stale for ever (compare.state: separate).
	SeparateState bool
}

// Route is one path pattern of an experiment.
type Route struct {
	// Path is the path part of a pattern of http.ServeMux.
	Path string
	// Key is the template of the Kafka key: text with the names of Path's
	// wildcards in braces, and {route} for Path. "" means DefaultKey.
	Key string
	// Rate is the route's own, nil for that of the experiment.
	Rate *Rate
}

// FieldError says which field of the configuration is wrong.
type FieldError struct {
	// Field is the path of the field with the names of the configuration file,
	// such as experiments[0].routes[2].path.
	Field string
	Err   error
}

// Error names the field first.
func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap gives the cause; a *ConflictError for two routes that conflict.
func (e *FieldError) Unwrap() error { return e.Err }

// maxRoutes bounds the routes of an experiment: each is compared with each.
const maxRoutes = 4096

// experiment is an Experiment ready for use.
type experiment struct {
	name     string
	filter   filter
	routes   []route
	paths    *tree
	exclude  exclusions
	by       By
	unsafe   []string
	grpc     grpcMethods
	until    int64
	separate bool
	guard    *guard
	switches *switches
}

type route struct {
	public  Route
	pattern *pattern
	key     template
	rate    Rate
}

func newExperiments(c *Config) ([]experiment, error) {
	if len(c.Experiments) > exchange.MaxExperiments {
		return nil, &FieldError{"experiments", fmt.Errorf("%d of them: at most %d", len(c.Experiments), exchange.MaxExperiments)}
	}
	list := make([]experiment, len(c.Experiments))
	for i := range c.Experiments {
		x := &c.Experiments[i]
		if err := list[i].fill(x, c.OnPause); err != nil {
			err.Field = fmt.Sprintf("experiments[%d].%s", i, err.Field)
			return nil, err
		}
		if slices.ContainsFunc(c.Experiments[:i], func(o Experiment) bool { return o.Name == x.Name }) {
			return nil, &FieldError{fmt.Sprintf("experiments[%d].name", i), fmt.Errorf("%q is there twice", x.Name)}
		}
	}
	return list, nil
}

func (e *experiment) fill(x *Experiment, onPause func(GuardPause)) (wrong *FieldError) {
	if x.Name == "" {
		return &FieldError{"name", errors.New("empty")}
	}
	e.name, e.by, e.separate = x.Name, x.By, x.SeparateState
	if e.filter, wrong = newFilter(&x.Match); wrong != nil {
		return wrong
	}
	if wrong := e.fillRoutes(x); wrong != nil {
		return wrong
	}
	var at int
	var err error
	if e.exclude, at, err = newExclusions(x.Exclude); err != nil {
		return &FieldError{fmt.Sprintf("exclude[%d]", at), err}
	}
	for i, method := range x.Unsafe {
		if err := checkMethod(method); err != nil {
			return &FieldError{fmt.Sprintf("replay.unsafe[%d]", i), err}
		}
	}
	e.unsafe = slices.Clone(x.Unsafe)
	if e.grpc, at, err = newGRPCMethods(x.GRPC); err != nil {
		return &FieldError{fmt.Sprintf("replay.grpc[%d]", at), err}
	}
	e.until = math.MaxInt64
	if !x.Until.IsZero() {
		e.until = x.Until.UnixNano()
	}
	e.switches = &switches{}
	if x.Disabled {
		e.switches.set(exchange.PauseDisabled, true)
	}
	g := x.Guard
	if g.Latency != 0 && !(g.Latency >= 1) || math.IsInf(g.Latency, 0) {
		return &FieldError{"guard.latency", fmt.Errorf("%v: want 0 for off, or at least 1", g.Latency)}
	}
	if g.Errors.Hundredths > fullRate {
		return &FieldError{"guard.errors", fmt.Errorf("%v: more than 100%%", g.Errors)}
	}
	if g.Latency > 0 || g.Errors.Hundredths > 0 {
		e.guard = &guard{name: x.Name, limits: g, onPause: onPause}
	}
	return nil
}

func (e *experiment) fillRoutes(x *Experiment) *FieldError {
	switch n := len(x.Routes); {
	case n == 0:
		return &FieldError{"routes", errors.New("none: a path that no route lists is not matched, so nothing would be")}
	case n > maxRoutes:
		return &FieldError{"routes", fmt.Errorf("%d of them: at most %d", n, maxRoutes)}
	case x.Rate.Hundredths > fullRate:
		return &FieldError{"sample.rate", fmt.Errorf("%v: more than 100%%", x.Rate)}
	}
	patterns := make([]*pattern, len(x.Routes))
	e.routes = make([]route, len(x.Routes))
	for i, r := range x.Routes {
		field := func(name string) string { return fmt.Sprintf("routes[%d].%s", i, name) }
		p, err := parsePattern(r.Path)
		if err != nil {
			return &FieldError{field("path"), err}
		}
		key, err := parseTemplate(r.Key, p)
		if err != nil {
			return &FieldError{field("key"), err}
		}
		if r.Key == "" {
			r.Key = DefaultKey
		}
		rate := x.Rate
		if r.Rate != nil {
			rate = *r.Rate
		}
		if rate.Hundredths > fullRate {
			return &FieldError{field("sample"), fmt.Errorf("%v: more than 100%%", rate)}
		}
		r.Rate = &rate
		patterns[i], e.routes[i] = p, route{public: r, pattern: p, key: key, rate: rate}
	}
	if c := conflict(patterns); c != nil {
		return &FieldError{fmt.Sprintf("routes[%d].path", c.Second), c}
	}
	e.paths = newTree(patterns)
	return nil
}
