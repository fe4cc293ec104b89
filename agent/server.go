package agent

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/shadowtap/shadowtap/agent/attach"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/bpf"
)

// newServer makes health, metrics and the admin interface.
func (a *Agent) newServer() (err error) {
	m := a.cfg.Management
	tc := telemetry.Config{
		Instance: a.cfg.Instance, Version: a.opt.Version,
		Address: m.Address, Socket: m.AdminSocket, TokenFile: m.TokenFile,
		Counts: a.Counts, Gauges: a.gauges, Agent: func() any { return a.status() },
		Off: a.reload, On: a.reload, Level: a.opt.Level, Log: a.log,
		Live:  []telemetry.Check{{Name: "rings are read", Check: a.ringsRead}},
		Ready: []telemetry.Check{{Name: "taps", Check: a.tapsStand}, {Name: "sinks", Check: a.publisher.Ready}},
	}
	if a.windows != nil {
		tc.Report = func() ([]byte, error) { return a.windows.report.JSON(a.Counts()) }
	}
	if a.cfg.OffFile == "" {
		tc.Off, tc.On = nil, nil
	}
	a.server, err = telemetry.New(tc)
	return err
}

// ringsRead is an error while a reader does not run.
func (a *Agent) ringsRead() error {
	st := a.live.Stats()
	sum := st.Sum()
	if sum.Beat == 0 {
		return errors.New("a ring has no reader")
	}
	if age := time.Duration(bpf.Now() - sum.Beat); age > time.Second {
		return fmt.Errorf("a ring was last read %s ago", age.Round(time.Millisecond))
	}
	return nil
}

// tapsStand is an error while an attachment that is wanted does not stand.
func (a *Agent) tapsStand() error {
	a.mu.Lock()
	want := a.wanted()
	a.mu.Unlock()
	if !want {
		return nil
	}
	st := a.attacher.Stats()
	if st.Ready {
		return nil
	}
	for _, t := range st.Taps {
		if t.State != attach.Attached {
			return fmt.Errorf("%s %s is %s", t.Interface, t.Hook, t.State)
		}
	}
	return errors.New("not attached yet")
}

// status is what "shadowtap status" shows beside the ledger.
type status struct {
	Interfaces  []interfaceStatus  `json:"interfaces"`
	Experiments []experimentStatus `json:"experiments"`
	Off         string             `json:"off"`
}

type interfaceStatus struct {
	Name  string `json:"name"`
	Hook  string `json:"hook"`
	Role  string `json:"role"`
	State string `json:"state"`
}

type experimentStatus struct {
	Name      string   `json:"name"`
	Candidate string   `json:"candidate"`
	Routes    []string `json:"routes"`
	Sample    string   `json:"sample"`
	Paused    string   `json:"paused"`
	Ended     bool     `json:"ended"`
	Breaker   string   `json:"breaker"`
	// Control is its URL or "self", ControlShare the share that goes to it and
	// ControlBreaker its breaker; all "" without one.
	Control        string `json:"control"`
	ControlShare   string `json:"control_share"`
	ControlBreaker string `json:"control_breaker"`
}

func (a *Agent) status() status {
	var s status
	a.mu.Lock()
	s.Off = a.offState.String()
	a.mu.Unlock()
	for _, t := range a.attacher.Stats().Taps {
		s.Interfaces = append(s.Interfaces, interfaceStatus{t.Interface, t.Hook, t.Role, string(t.State)})
	}
	if a.sampler == nil {
		return s
	}
	st := a.sampler.Stats()
	for i, x := range a.experiments {
		e := experimentStatus{Name: x.cfg.Name, Candidate: x.cfg.Candidate.URL, Sample: x.cfg.Sample.Rate.String(),
			Paused: st.Experiments[i].Paused.String(), Ended: st.Experiments[i].Ended, Breaker: x.replayer.Stats().Breaker}
		if k := x.replayer.Stats().Control; k != nil {
			e.Control, e.ControlShare, e.ControlBreaker = cmp.Or(x.cfg.Control.URL, "self"), x.cfg.Control.Share.String(), k.Breaker
		}
		for _, r := range x.cfg.Routes {
			e.Routes = append(e.Routes, r.Path)
		}
		s.Experiments = append(s.Experiments, e)
	}
	return s
}

func (a *Agent) gauges() []telemetry.Gauge {
	var conns, memory, gaps, gapBytes, evicted, orphans float64
	for _, s := range a.shards {
		st := s.stats()
		conns += float64(st.asm.Connections)
		memory += float64(st.asm.Memory)
		gaps += float64(st.asm.Gaps)
		gapBytes += float64(st.asm.GapBytes)
		evicted += float64(st.asm.Evicted)
		orphans += float64(st.http.Orphans)
	}
	st := a.live.Stats()
	live := st.Sum()
	g := []telemetry.Gauge{
		{Name: "connections", Help: "Connections that are remembered.", Value: conns},
		{Name: "reassembly_memory_bytes", Help: "Memory that connections take.", Value: memory},
		{Name: "gaps_total", Help: "Holes in streams that were given up.", Value: gaps, Total: true},
		{Name: "gap_bytes_total", Help: "Bytes of streams that were never seen.", Value: gapBytes, Total: true},
		{Name: "evicted_connections_total", Help: "Connections that were forgotten for want of memory.", Value: evicted, Total: true},
		{Name: "orphan_responses_total", Help: "Answers that were sent before any request they could belong to.", Value: orphans, Total: true},
		{Name: "ring_records_total", Help: "Records read from the rings.", Value: float64(live.Records), Total: true},
		{Name: "ring_errors_total", Help: "Records that could not be decoded.", Value: float64(live.Errors), Total: true},
		{Name: "reader_wakes_total", Help: "How often a reader stopped waiting.", Value: float64(live.Wakes), Total: true},
	}
	if a.lines != nil {
		g = append(g, telemetry.Gauge{Name: "exchange_lines_dropped_total", Help: "Lines of --exchanges-to that its file took too slowly.", Value: float64(a.lines.lost()), Total: true})
	}
	for _, t := range a.attacher.Stats().Taps {
		attached := 0.0
		if t.State == attach.Attached {
			attached = 1
		}
		l := telemetry.Labels("interface", t.Interface, "hook", t.Hook)
		g = append(g, telemetry.Gauge{Name: "tap_attached", Help: "1 while the tap is first in its chain.", Labels: l, Value: attached},
			telemetry.Gauge{Name: "tap_displaced_total", Help: "How often the tap stopped being first in its chain.", Labels: l, Value: float64(t.Displaced), Total: true})
	}
	if a.windows != nil {
		st := a.windows.collector.Stats()
		g = append(g, telemetry.Gauge{Name: "windows_open", Help: "Windows that are not over yet.", Value: float64(st.Open)},
			telemetry.Gauge{Name: "windows_pending", Help: "Selected requests in them of which it is not known yet what becomes.", Value: float64(st.Pending)},
			telemetry.Gauge{Name: "fingerprints", Help: "Fingerprints that are counted by themselves.", Value: float64(st.Fingerprints)},
			telemetry.Gauge{Name: "coarse_differences_total", Help: "Differences whose key group could not be told apart for want of memory.", Value: float64(st.Coarse), Total: true})
	}
	for _, x := range a.experiments {
		st := x.replayer.Stats()
		g = append(g, targetGauges(x.cfg.Name, "candidate", st.Breaker, st.Opened, st.Retried)...)
		if k := st.Control; k != nil {
			g = append(g, targetGauges(x.cfg.Name, "control", k.Breaker, k.Opened, k.Retried)...)
		}
	}
	return g
}

func targetGauges(experiment, target, breaker string, opened, retried uint64) []telemetry.Gauge {
	l := telemetry.Labels("experiment", experiment, "target", target)
	open := 0.0
	if breaker == "open" {
		open = 1
	}
	return []telemetry.Gauge{
		{Name: "breaker_open", Help: "1 while the target is left alone.", Labels: l, Value: open},
		{Name: "replay_connections_total", Help: "Connections opened for replays.", Labels: l, Value: float64(opened), Total: true},
		{Name: "replay_retries_total", Help: "Requests written a second time after a stale connection.", Labels: l, Value: float64(retried), Total: true},
	}
}
