//go:build race

package mover

// RaceEnabled says that the race detector watches: everything takes several times as long, so tests
// of real libraries and crashes take a thinner sample.
const RaceEnabled = true
