package verdict

import (
	"fmt"
	"os"
)

// sized is how often a simulation is run: short in every run of the tests, long
// under "make test-long". The race detector has nothing to find in them and
// makes them ten times slower, so with it they stay short.
func sized(short, long int) int {
	if os.Getenv("SHADOWTAP_LONG") != "" && !race {
		return long
	}
	return short
}

func rate(n, of int) string {
	return fmt.Sprintf("%d of %d (%.1f %%)", n, of, 100*float64(n)/float64(of))
}
