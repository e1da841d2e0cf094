//go:build race

package bench

// scale divides how often statistics are tried where every memory access is watched.
const scale = 20
