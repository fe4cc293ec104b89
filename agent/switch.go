package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shadowtap/shadowtap/agent/attach"
	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/off"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

// SwitchOptions say what Off, On and Detach act on.
type SwitchOptions struct {
	Context context.Context
	// OffFile is the instance's. Required.
	OffFile string
	// Socket is the admin socket of its agent; nobody there is fine.
	Socket   string
	Instance string
	// Experiments are the names; none means all.
	Experiments []string
}

// Off writes the off file and has a running agent act on it at once. It says in
// words what holds now.
func Off(o SwitchOptions) (string, error) { return o.change(off.Off, (*admin.Client).Off) }

// On takes back what Off said.
func On(o SwitchOptions) (string, error) { return o.change(off.On, (*admin.Client).On) }

func (o SwitchOptions) change(write func(string, ...string) (off.State, error), tell func(*admin.Client, context.Context, ...string) error) (string, error) {
	if o.OffFile == "" {
		return "", errors.New("off_file is empty in the configuration: there is nothing to write to")
	}
	state, err := write(o.OffFile, o.Experiments...)
	if err != nil {
		return "", err
	}
	said := fmt.Sprintf("%s: %s", o.Instance, state)
	if o.Socket == "" {
		return said + "; an agent looks at " + o.OffFile + " each second", nil
	}
	ctx, cancel := context.WithTimeout(o.Context, 3*time.Second)
	defer cancel()
	err = tell(admin.New(o.Socket), ctx, o.Experiments...)
	switch {
	case errors.Is(err, admin.ErrNoAgent):
		return said + "; no agent is running, the next one will see it", nil
	case err != nil:
		return said + "; the file is written", fmt.Errorf("tell the agent: %w", err)
	}
	return said + "; the agent has acted on it", nil
}

// Detach switches everything off, then removes every tap of shadowtap that is
// still attached on this machine: of an agent that does not answer, and of other
// instances too.
func Detach(o SwitchOptions) (string, error) {
	o.Experiments = nil
	said, err := Off(o)
	n, derr := attach.DetachAll()
	if n > 0 {
		said += fmt.Sprintf("; %d taps that were still attached were removed", n)
	}
	return said, errors.Join(derr, ignoreIf(err, derr == nil && said != ""))
}

// ignoreIf drops an error that no longer matters.
func ignoreIf(err error, yes bool) error {
	if yes {
		return nil
	}
	return err
}

// CheckConfig finds what only the rooms know: patterns that conflict, rules that
// do not compile. It is config.Options.Check.
func CheckConfig(c *config.Config) error {
	if len(c.Experiments) == 0 {
		return nil
	}
	if _, err := sample.New(sampleConfig(c, time.Now())); err != nil {
		var field *sample.FieldError
		if errors.As(err, &field) {
			return c.Errorf(field.Field, "%v", field.Err)
		}
		return err
	}
	return nil
}
