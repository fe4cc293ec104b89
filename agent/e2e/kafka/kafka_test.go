//go:build e2e

package kafka

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
)

func TestBroker(t *testing.T) {
	n := bed.NewNamespace(t, "node")
	b := Start(t, Config{Namespace: n})
	if got := b.Read(t, "nothing", 0, 30*time.Second); len(got) != 0 {
		t.Errorf("a topic that does not exist has %d messages", len(got))
	}

	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.Dialer(n.DialContext), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	record := &kgo.Record{
		Topic: "things", Key: []byte("k"), Value: []byte(`{"a":"ü"}`),
		Headers: []kgo.RecordHeader{{Key: "ce_type", Value: []byte("x")}},
	}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		t.Fatal(err)
	}
	got := b.Read(t, "things", 1, 30*time.Second)
	if len(got) != 1 || got[0].Key != "k" || got[0].Payload != `{"a":"ü"}` || got[0].Header("ce_type") != "x" || got[0].Header("none") != "" {
		t.Errorf("read back %+v", got)
	}
	if raw := b.Raw(t, "things"); !strings.Contains(raw, `{"a":"ü"}`) || !strings.Contains(raw, "ce_type=x") {
		t.Errorf("raw %q", raw)
	}

	// A paused broker takes nothing until it is resumed.
	b.Pause(t)
	short, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer stop()
	if err := client.Ping(short); err == nil {
		t.Error("a paused broker answered")
	}
	b.Resume(t)
	if err := client.Ping(ctx); err != nil {
		t.Error(err)
	}
}

func TestBrokerThatCannotStartIsSaidWithItsLog(t *testing.T) {
	bed.RequireRoot(t)
	libs, err := jars(t)
	if err != nil {
		t.Fatal(err)
	}
	_, err = start(t, Config{Set: []string{"process.roles=nonsense"}}, libs)
	if err == nil || !strings.Contains(err.Error(), "process.roles") {
		t.Errorf("got %v", err)
	}
}

func TestCacheFolderIsTheUsers(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	t.Setenv("PATH", "")
	if _, err := jars(t); err == nil {
		t.Fatal("no error without mvn")
	}
	made, err := filepath.Glob(filepath.Join(dir, "shadowtap", "kafka-*"))
	if err != nil || len(made) != 1 {
		t.Fatalf("made %q, %v", made, err)
	}
	// With the whole folder there Maven is not asked.
	if err := os.Mkdir(filepath.Join(made[0], "libs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := jars(t); err != nil || got != filepath.Join(made[0], "libs") {
		t.Errorf("got %q, %v", got, err)
	}
}
