//go:build !race

package bench

// scale divides how often statistics are tried.
const scale = 1
