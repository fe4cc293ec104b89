package verdict

import (
	"fmt"
	"os"
)

// sized is how often a simulation is run: short in every run of the tests, long
// under "make test-long".
func sized(short, long int) int {
	if os.Getenv("SHADOWTAP_LONG") != "" {
		return long
	}
	return short
}

func rate(n, of int) string {
	return fmt.Sprintf("%d of %d (%.1f %%)", n, of, 100*float64(n)/float64(of))
}
