// Package kafka starts an Apache Kafka broker (KRaft, one node, loopback only)
// for a test and reads topics with the real kcat.
//
// The jars come from Maven Central by Maven's own dependency plugin, once, and
// are kept in the user's cache folder. Needs Java 17, and mvn for the first
// time; testdata/deps.sh root installs both.
package kafka

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
)

var (
	//go:embed pom.xml
	pom []byte
	//go:embed log4j2.properties
	logging []byte
	//go:embed server.properties
	properties string
)

// Broker is a running broker.
type Broker struct {
	// Addr is its host:port for bootstrap.servers, reachable from Namespace.
	Addr      string
	Namespace *bed.Namespace

	process *bed.Process
}

// Config says what the broker shall be like.
type Config struct {
	// Namespace to run in. Nil means the test's own.
	Namespace *bed.Namespace
	// Set are further lines of server.properties.
	Set []string
}

// Start starts a broker and returns when it answers. It is stopped, and its
// folder removed, at the end of the test.
func Start(t testing.TB, c Config) *Broker {
	t.Helper()
	libs, err := jars(t)
	if err != nil {
		t.Fatal(err)
	}
	// Between finding a free port and binding it another process may take it.
	const tries = 3
	for try := 1; ; try++ {
		b, err := start(t, c, libs)
		if err == nil {
			return b
		}
		if try == tries {
			t.Fatal(err)
		}
		t.Logf("try %d: %v", try, err)
	}
}

func start(t testing.TB, c Config, libs string) (*Broker, error) {
	dir := t.TempDir()
	values := struct {
		Port, Controller int
		Data             string
		Extra            []string
	}{Data: filepath.Join(dir, "data"), Extra: c.Set}
	err := c.Namespace.Do(func() (err error) {
		values.Port, values.Controller, err = freePorts()
		return err
	})
	if err != nil {
		return nil, err
	}
	var conf bytes.Buffer
	if err := template.Must(template.New("").Parse(properties)).Execute(&conf, values); err != nil {
		return nil, err
	}
	confFile := filepath.Join(dir, "server.properties")
	logFile := filepath.Join(dir, "log4j2.properties")
	if err := errors.Join(os.WriteFile(confFile, conf.Bytes(), 0o600), os.WriteFile(logFile, logging, 0o600)); err != nil {
		return nil, err
	}
	java := []string{
		"-Dlog4j2.configurationFile=" + logFile, "-Dlog4j2.disable.jmx=true",
		"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto",
		"-Xms128m", "-Xmx256m", "-cp", libs + "/*",
	}
	id := sha256.Sum256([]byte(dir))
	format := append(append([]string{}, java...), "kafka.tools.StorageTool", "format",
		"-t", base64.RawURLEncoding.EncodeToString(append([]byte{1}, id[:15]...)), "-c", confFile)
	if out, err := c.Namespace.Try(time.Minute, "java", format...); err != nil {
		return nil, fmt.Errorf("format the broker's folder: %w\n%s", err, out)
	}
	b := &Broker{
		Addr:      net.JoinHostPort("127.0.0.1", strconv.Itoa(values.Port)),
		Namespace: c.Namespace,
	}
	b.process = c.Namespace.Start(t, bed.Command{
		Path: "java", Args: append(java, "kafka.Kafka", confFile), StopTimeout: 30 * time.Second,
	})
	if err := b.ready(3 * time.Minute); err != nil {
		tail := b.process.Tail()
		b.process.Kill()
		return nil, fmt.Errorf("%w\n%s", err, tail)
	}
	return b, nil
}

// ready waits until the broker answers a request for metadata.
func (b *Broker) ready(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(b.Addr), kgo.Dialer(b.Namespace.DialContext),
		kgo.RequestRetries(0), kgo.DisableClientMetrics(),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := client.Ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the broker did not answer within %v: %w", timeout, err)
		case <-tick.C:
			if b.process.Ended() {
				return errors.New("the broker ended")
			}
		}
	}
}

// Pause stops the broker's process as if its machine hung; Resume lets it go on.
func (b *Broker) Pause(t testing.TB) { t.Helper(); b.process.Suspend(t) }

// Resume ends a Pause.
func (b *Broker) Resume(t testing.TB) { t.Helper(); b.process.Resume(t) }

// freePorts finds two ports that nobody has at the moment.
func freePorts() (a, b int, err error) {
	var ports [2]int
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, 0, err
		}
		// Both stay open until both are known, so that they differ.
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports[0], ports[1], nil
}

// jars returns the folder with the broker's jars and fills it the first time.
func jars(t testing.TB) (string, error) {
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(home, ".cache")
	}
	// Another pom is another folder.
	sum := sha256.Sum256(pom)
	dir := filepath.Join(cache, "shadowtap", "kafka-"+hex.EncodeToString(sum[:6]))
	libs := filepath.Join(dir, "libs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(libs); err == nil {
		return libs, nil
	}
	t.Logf("getting Apache Kafka from Maven Central into %s", dir)
	// The folder gets its name when it is whole.
	part := filepath.Join(dir, "part")
	if err := errors.Join(os.RemoveAll(part), os.WriteFile(filepath.Join(dir, "pom.xml"), pom, 0o644)); err != nil {
		return "", err
	}
	var none *bed.Namespace
	out, err := none.Try(10*time.Minute, "mvn", "-q", "-B", "-f", filepath.Join(dir, "pom.xml"),
		"org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
		"-DincludeScope=runtime", "-DoutputDirectory="+part)
	if err != nil {
		return "", fmt.Errorf("get the broker's jars: %w\n%s", err, out)
	}
	return libs, os.Rename(part, libs)
}

// lock takes an exclusive lock on a file, which the kernel lets go with the
// process.
func lock(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
	}
}

// Message is a record as kcat prints it.
type Message struct {
	Topic     string
	Partition int
	Offset    int64
	Key       string
	// Headers in the order of the record.
	Headers []Header
	Payload string
}

// Header is a record header.
type Header struct{ Name, Value string }

// Header returns the value of the first header of that name, "" without one.
func (m *Message) Header(name string) string {
	for _, h := range m.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}

// Read returns everything that is in the topic as soon as that is at least n
// messages, in the order of partitions and offsets. The test fails at the
// deadline. A topic that does not exist has no messages.
func (b *Broker) Read(t testing.TB, topic string, n int, timeout time.Duration) []Message {
	t.Helper()
	var messages []Message
	bed.Poll(t, timeout, fmt.Sprintf("%d messages in topic %s", n, topic), func() (bool, string) {
		out, err := b.kcat(topic)
		if err != nil {
			if strings.Contains(out, "Unknown topic or partition") && n == 0 {
				return true, ""
			}
			return false, fmt.Sprintf("%v: %s", err, out)
		}
		if messages, err = parse(out); err != nil {
			return false, err.Error()
		}
		return len(messages) >= n, fmt.Sprintf("%d messages", len(messages))
	})
	return messages
}

// Raw returns every byte of the topic that a consumer can see: keys, headers
// and values, not escaped by JSON.
func (b *Broker) Raw(t testing.TB, topic string) string {
	t.Helper()
	return b.Namespace.Run(t, time.Minute, "kcat", "-C", "-b", b.Addr, "-t", topic, "-o", "beginning", "-e", "-q",
		"-f", "%k\n%h\n%s\n")
}

func (b *Broker) kcat(topic string) (string, error) {
	return b.Namespace.Try(time.Minute, "kcat", "-C", "-b", b.Addr, "-t", topic, "-o", "beginning", "-e", "-q", "-J")
}

// parse reads the lines of kcat -J. Its headers are one flat list of names and
// values.
func parse(out string) ([]Message, error) {
	var messages []Message
	for line := range strings.Lines(out) {
		var m struct {
			Topic     string
			Partition int
			Offset    int64
			Key       *string
			Headers   []*string
			Payload   *string
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			return nil, fmt.Errorf("kcat printed %q: %w", line, err)
		}
		text := func(s *string) string {
			if s == nil {
				return ""
			}
			return *s
		}
		message := Message{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Key: text(m.Key), Payload: text(m.Payload)}
		for i := 0; i+1 < len(m.Headers); i += 2 {
			message.Headers = append(message.Headers, Header{Name: text(m.Headers[i]), Value: text(m.Headers[i+1])})
		}
		messages = append(messages, message)
	}
	return messages, nil
}
