package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/telemetry"
)

// DemoOptions of Demo.
type DemoOptions struct {
	// Duration of the traffic. Zero means 10 s.
	Duration time.Duration
	// Brokers are those of a real Kafka cluster; "" means an embedded broker
	// that lives as long as the demo.
	Brokers string
	// Terminal is where everything is shown. Required.
	Terminal Terminal
	// Version of the program.
	Version string
	// Log is required.
	Log *slog.Logger
}

// ErrDemo is the error of a demo in which no divergence arrived or the ledger
// does not balance.
var ErrDemo = errors.New("the demo did not show what it should")

const demoTopic = "shadowtap.divergences"

// Bounds of a demo beside its traffic: how long a broker may take to answer
// before it begins, and how long it may take to stop.
const (
	demoPing = 3 * time.Second
	demoStop = 5 * time.Second
)

// Demo runs the whole path on loopback: two HTTP servers, traffic, the real tap,
// a candidate that differs for some values, and a broker. It is over within
// Duration, 3 s before it for a broker's first answer, and some 6 s after it to
// stop; the summary is printed whatever became of the broker.
func Demo(ctx context.Context, o DemoOptions) (err error) {
	if o.Duration <= 0 {
		o.Duration = 10 * time.Second
	}
	out := o.Terminal.Out
	brokers := o.Brokers
	if brokers == "" {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, demoTopic))
		if err != nil {
			return fmt.Errorf("start the embedded broker: %w", err)
		}
		defer cluster.Close()
		brokers = strings.Join(cluster.ListenAddrs(), ",")
	} else if err := pingBrokers(ctx, brokers); err != nil {
		return err
	}
	reference, err := demoServer(false)
	if err != nil {
		return err
	}
	defer reference.Close()
	candidate, err := demoServer(true)
	if err != nil {
		return err
	}
	defer candidate.Close()
	dir, err := os.MkdirTemp("", "shadowtap-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cfg, err := demoConfig(dir, reference.port(), candidate.port(), brokers)
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	a, err := New(Options{Config: cfg, Version: o.Version, Terminal: o.Terminal, Log: o.Log, Ready: func(*Agent) { close(ready) }})
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(run) }()
	select {
	case <-ready:
	case err := <-ended:
		return err
	}
	broker := "an embedded broker"
	if o.Brokers != "" {
		broker = "Kafka"
	}
	fmt.Fprintf(out, `shadowtap watches port %d on loopback; nothing stands between client and server.
  reference  http://127.0.0.1:%d/api/{value}
  candidate  http://127.0.0.1:%d/api/{value}   differs for some values
  topic      %s on %s, while this runs:
             kcat -C -b %s -t %s -o beginning

`, reference.port(), reference.port(), candidate.port(), demoTopic, broker, brokers, demoTopic)
	asked, traffic := demoTraffic(ctx, reference.port(), o.Duration)
	stop()
	err = <-ended
	if errors.Is(err, ErrUndelivered) {
		err = nil // the summary says how many
	}
	// What there is to say is said, whatever else went wrong.
	return errors.Join(err, traffic, demoSummary(out, asked, a.Counts()))
}

// pingBrokers is an error that names the brokers when none of them answers.
func pingBrokers(ctx context.Context, brokers string) error {
	ctx, cancel := context.WithTimeout(ctx, demoPing)
	defer cancel()
	addresses := strings.Split(brokers, ",")
	answers := make(chan error, len(addresses))
	for _, address := range addresses {
		go func() { answers <- ping(ctx, strings.TrimSpace(address)) }()
	}
	var errs []string
	for range addresses {
		err := <-answers
		if err == nil {
			return nil
		}
		errs = append(errs, err.Error())
	}
	slices.Sort(errs)
	return fmt.Errorf("no broker answers: %s; start Kafka there, or leave --brokers out for an embedded one", strings.Join(errs, "; "))
}

func ping(ctx context.Context, address string) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DialTimeout(demoPing), kgo.RequestTimeoutOverhead(demoPing))
	if err == nil {
		defer c.Close()
		err = c.Ping(ctx)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: silent for %s", address, demoPing)
	case err != nil:
		return fmt.Errorf("%s: %w", address, err)
	}
	return nil
}

// demoSummary prints what was seen, and says whether it is what it should be.
func demoSummary(out io.Writer, asked uint64, counts []telemetry.Count) error {
	l := telemetry.NewLedger(counts)
	lost := l["kernel_packets"]["ring_full"] + l["kernel_packets"]["copy_failed"] + l["kernel_packets"]["no_reader"] + l["kernel_packets"]["over_budget"]
	c := l["comparisons"]
	fmt.Fprintf(out, `
asked      %6d requests by the client
seen       %6d exchanges complete, %d packets lost
replayed   %6d to the candidate
compared   %6d: %d equal, %d divergent, %d not comparable
published  %6d acknowledged, %d held back as repetitions, %d dropped (Kafka and this terminal)
`, asked, l["exchanges"]["complete"], lost, l["replays"]["compared"],
		c["equal"]+c["ignored"]+c["divergent"]+c["not_comparable"], c["equal"]+c["ignored"], c["divergent"], c["not_comparable"],
		l["deliveries"]["acknowledged"], l["deliveries"]["suppressed"], l["deliveries"]["dropped"])
	var wrong []string
	for _, i := range telemetry.Balance(counts) {
		wrong = append(wrong, i.String())
	}
	missing := int64(asked) - int64(l["exchanges"]["complete"])
	if missing > 0 && lost > 0 {
		// Counted, so no fault of the ledger: a machine without CPU to spare.
		fmt.Fprintf(out, "missing    %6d exchanges, because of the lost packets: this machine had no CPU for the agent\n", missing)
	} else if missing != 0 {
		wrong = append(wrong, fmt.Sprintf("the client asked %d times, %d exchanges were seen", asked, l["exchanges"]["complete"]))
	}
	if n := l["deliveries"]["dropped"]; n > 0 {
		wrong = append(wrong, fmt.Sprintf("%d records were not delivered: did the broker go away?", n))
	}
	if c["divergent"] == 0 || l["deliveries"]["acknowledged"] == 0 {
		wrong = append(wrong, "no divergence arrived")
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: %s", ErrDemo, strings.Join(wrong, "; "))
	}
	fmt.Fprint(out, `ledger     balances: every packet, exchange, replay and record has one counter

For your own service, with a candidate beside it:
  shadowtap run --interface lo --port 3000 --candidate http://localhost:3001 --path '/api/{value}' --sample 100%
`)
	return nil
}

func demoConfig(dir string, reference, candidate uint16, brokers string) (*config.Config, error) {
	cfg, err := config.QuickExperiment(config.Quick{
		Interfaces: []string{"lo"}, Ports: []uint16{reference},
		Candidate: fmt.Sprintf("http://127.0.0.1:%d", candidate), Paths: []string{"/api/{value}"}, Sample: "100%",
	})
	if err != nil {
		return nil, err
	}
	cfg.Instance = "demo-" + strconv.Itoa(os.Getpid())
	cfg.OffFile = filepath.Join(dir, "off")
	cfg.Management.Address = ""
	cfg.Management.AdminSocket = filepath.Join(dir, "admin.sock")
	cfg.Stop.Drain, cfg.Stop.Deadline = config.Duration(time.Second), config.Duration(demoStop)
	cfg.Publish.PerFingerprint = 2
	cfg.Publish.Then = 0
	cfg.Sinks = []config.Sink{
		{Kafka: &config.Kafka{Topic: demoTopic, Properties: config.Properties{"bootstrap.servers": brokers, "linger.ms": "5"}}},
		{Terminal: &config.Terminal{}},
	}
	return cfg, nil
}

// demoTraffic asks for values until the time is over and says how often.
func demoTraffic(ctx context.Context, port uint16, d time.Duration) (asked uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	c := &http.Client{Transport: &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 4}, Timeout: 5 * time.Second}
	defer c.CloseIdleConnections()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return asked, nil
		case <-tick.C:
		}
		// A request that has begun is finished: each asked is one seen.
		res, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d/api/%d", port, n%40))
		if err != nil {
			return asked, fmt.Errorf("the demo's own client: %w", err)
		}
		_, err = io.Copy(io.Discard, res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			return asked, fmt.Errorf("the demo's own client: %w", err)
		}
		asked++
	}
}

// demoHTTP is one of the two servers.
type demoHTTP struct {
	srv    *http.Server
	ln     net.Listener
	served atomic.Uint64
}

func demoServer(differs bool) (*demoHTTP, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the demo's servers: %w", err)
	}
	d := &demoHTTP{ln: ln}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/{value}", func(w http.ResponseWriter, r *http.Request) {
		d.served.Add(1)
		n, err := strconv.Atoi(r.PathValue("value"))
		if err != nil {
			http.Error(w, "not a number", http.StatusBadRequest)
			return
		}
		answer := map[string]any{"value": n, "square": n * n, "parity": [...]string{"even", "odd"}[n&1], "tags": []string{"demo"}}
		if differs {
			switch {
			case n%10 == 9:
				http.Error(w, `{"error":"no such value"}`, http.StatusNotFound)
				return
			case n%10 == 7:
				answer["square"] = n*n + 1
			case n%10 == 4:
				delete(answer, "parity")
				answer["even"] = true
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	})
	d.srv = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = d.srv.Serve(ln) }()
	return d, nil
}

func (d *demoHTTP) port() uint16 { return uint16(d.ln.Addr().(*net.TCPAddr).Port) }
func (d *demoHTTP) Close()       { _ = d.srv.Close() }
