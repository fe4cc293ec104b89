package agent

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/shadowtap/shadowtap/agent/attach/netnstest"
)

// TestDemoWithoutBroker: a broker that is not there is named before anything
// begins, in one line and soon.
func TestDemoWithoutBroker(t *testing.T) {
	refuses, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := refuses.Addr().String()
	refuses.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, tc := range []struct{ brokers, want string }{
		{nobody, nobody + ": unable to dial"},
		{silent.Addr().String(), silent.Addr().String() + ": silent for 3s"},
		{nobody + ", " + nobody, "start Kafka there, or leave --brokers out"},
	} {
		var out bytes.Buffer
		began := time.Now()
		err := Demo(t.Context(), DemoOptions{Brokers: tc.brokers, Terminal: Terminal{Out: &out}, Log: slog.New(slog.DiscardHandler)})
		if err == nil || errors.Is(err, ErrDemo) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, without %q", tc.brokers, err, tc.want)
		}
		if took := time.Since(began); took > 2*demoPing || out.Len() > 0 {
			t.Errorf("%s: after %v, with output %q", tc.brokers, took, out.String())
		}
	}
}

// TestPingBrokers: one that answers is enough.
func TestPingBrokers(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	if err := pingBrokers(t.Context(), "127.0.0.1:1, "+cluster.ListenAddrs()[0]); err != nil {
		t.Error(err)
	}
}

// closer is an output that calls f when a word appears.
type closer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	word string
	f    func()
}

func (c *closer) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.b.Write(p)
	if c.f != nil && strings.Contains(c.b.String(), c.word) {
		c.f()
		c.f = nil
	}
	return len(p), nil
}

var _ io.Writer = (*closer)(nil)

// TestDemoBrokerDies: the demo ends in time all the same, and its summary says
// what was not delivered.
func TestDemoBrokerDies(t *testing.T) {
	netnstest.NeedRoot(t)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, demoTopic))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	out := &closer{word: "shadowtap watches", f: cluster.Close}
	const duration = 2 * time.Second
	began := time.Now()
	err = Demo(t.Context(), DemoOptions{Duration: duration, Brokers: cluster.ListenAddrs()[0], Terminal: Terminal{Out: out}, Log: slog.New(slog.DiscardHandler)})
	if took, most := time.Since(began), duration+demoPing+demoStop+10*time.Second; took > most {
		t.Errorf("it took %v, at most %v are promised", took, most)
	}
	if !errors.Is(err, ErrDemo) || !strings.Contains(err.Error(), "records were not delivered") {
		t.Errorf("error %v", err)
	}
	if text := out.b.String(); !strings.Contains(text, "asked ") || strings.Contains(text, " 0 dropped") || !strings.Contains(text, " dropped") {
		t.Errorf("the summary is missing, or says that nothing was dropped:\n%s", text)
	}
}
