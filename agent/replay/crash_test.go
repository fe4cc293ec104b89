package replay

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// crashCase makes this binary die in Done, with captured bytes in the panic.
const crashCase = "SHADOWTAP_TEST_CRASH"

func dieInDone() {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	c := config(s.URL)
	c.Done = func(x *exchange.Exchange, _ *Outcome) { panic(errors.New("compare " + x.Request.Target)) }
	r, err := New(c)
	if err != nil {
		os.Exit(3)
	}
	ended := make(chan error)
	go func() { ended <- r.Run(context.Background()) }()
	r.Submit(get("/?captured=Tr0ub4dor"))
	<-ended
	os.Exit(3)
}

// TestPanicShowsNothingCaptured: what is compared in a worker's goroutine is in
// no text that a panic leaves.
func TestPanicShowsNothingCaptured(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), crashCase+"=1")
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.HasPrefix(string(out), "panic: *errors.errorString") || !strings.Contains(string(out), "crash_test.go") {
		t.Errorf("exit code %d, output\n%s\nwant 2, and the place of the panic", code, out)
	}
	if strings.Contains(string(out), "Tr0ub4dor") {
		t.Errorf("the captured target is in\n%s", out)
	}
}
