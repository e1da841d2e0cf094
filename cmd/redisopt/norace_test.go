//go:build !race

package main

// raceEnabled says that the race detector watches: everything takes several times as long, so the
// tests that run the program dozens of times take a thinner sample.
const raceEnabled = false
