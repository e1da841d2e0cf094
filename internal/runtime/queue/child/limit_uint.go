//go:build linux || darwin

package child

// number is a limit as this system counts.
func number(n int64) uint64 { return uint64(n) } //nolint:gosec // limits are not negative
