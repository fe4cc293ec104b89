package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shadowtap/shadowtap/agent/attach"
	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/off"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

// SwitchOptions say what Off, On and Detach act on.
type SwitchOptions struct {
	Context context.Context
	// OffFile is the instance's. Required.
	OffFile string
	// Socket is the admin socket of its agent; nobody there is fine.
	Socket   string
	Instance string
	// AllInstances lets Detach take the taps of every instance.
	AllInstances bool
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
	switch {
	case errors.Is(err, os.ErrPermission):
		return "", fmt.Errorf("%w; run it as the agent's user, or as root", err)
	case err != nil:
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

// Detach switches everything off, then removes the taps of the instance from
// this kernel, whether its agent runs, hangs or is gone; and those that a dead
// agent of another instance left. The taps of other agents stay, unless
// AllInstances is set.
func Detach(o SwitchOptions) (string, error) {
	o.Experiments = nil
	said, err := Off(o)
	s, derr := attach.Sweep(o.means)
	if len(s.Removed) > 0 {
		said += fmt.Sprintf("; %s removed", taps(s.Removed))
	}
	if len(s.Left) > 0 {
		said += fmt.Sprintf("; %s left alone (--all-instances takes them too)", taps(s.Left))
	}
	if errors.Is(derr, os.ErrPermission) {
		derr = fmt.Errorf("%w; to see the taps of others it needs root or CAP_SYS_ADMIN", derr)
	}
	err = ignoreIf(err, derr == nil && said != "")
	if err != nil && derr != nil {
		return said, fmt.Errorf("%w; %w", err, derr)
	}
	return said, errors.Join(err, derr)
}

// means says whether Detach takes a tap.
func (o SwitchOptions) means(t attach.Owner) bool {
	return o.AllInstances || t.Instance == o.Instance || stale(t)
}

// stale says whether a tap's agent is known to be gone: its lock is there, and
// free. A lock that can't be seen may lie in another mount namespace.
func stale(t attach.Owner) bool {
	if _, err := os.Stat(t.Lock); err != nil {
		return false
	}
	held, err := off.Held(t.Lock)
	return err == nil && !held
}

// taps counts taps by instance, for people.
func taps(owners []attach.Owner) string {
	n := map[string]int{}
	for _, o := range owners {
		n[cmp.Or(o.Instance, "no known instance")]++
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		word := "taps"
		if n[name] == 1 {
			word = "tap"
		}
		parts = append(parts, fmt.Sprintf("%d %s of %s", n[name], word, name))
	}
	return strings.Join(parts, ", ")
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
	var all config.Errors
	var setting *verdict.SettingError
	if errors.As(VerdictSettings(&c.Verdict).Check(), &setting) {
		why := "is negative"
		if setting.Open {
			why = "is out of range: write more than 0% and less than 100%"
		}
		all = append(all, c.Errorf(setting.Key, "%s", why))
	}
	if len(c.Experiments) == 0 {
		return errorsOrNil(all)
	}
	if _, err := sample.New(sampleConfig(c, time.Now())); err != nil {
		var field *sample.FieldError
		if errors.As(err, &field) {
			err = c.Errorf(field.Field, "%v", field.Err)
		}
		all = append(all, err)
	}
	for i := range c.Experiments {
		_, err := compileRules(&c.Experiments[i].Compare, c, "experiments["+strconv.Itoa(i)+"].compare.")
		var list config.Errors
		switch {
		case errors.As(err, &list):
			all = append(all, list...)
		case err != nil:
			all = append(all, err)
		}
	}
	return errorsOrNil(all)
}

// errorsOrNil is nil without errors.
func errorsOrNil(all config.Errors) error {
	if len(all) > 0 {
		return all
	}
	return nil
}
