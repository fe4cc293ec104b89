//go:build !race

package diff

// raceScale divides the sizes of the largest tests.
const raceScale = 1
