//go:build race

package diff

const raceScale = 10
