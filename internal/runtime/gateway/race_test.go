//go:build race

package gateway_test

// raceEnabled says that the race detector watches: everything takes several times as long, so real
// libraries run in fewer versions.
const raceEnabled = true
