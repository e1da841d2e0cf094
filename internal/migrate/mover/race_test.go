//go:build race

package mover_test

// raceEnabled says that the race detector watches: everything takes several times as long, so tests
// of real libraries and crashes take a thinner sample.
const raceEnabled = true
