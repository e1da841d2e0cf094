package embedded

import (
	"fmt"
	"sync/atomic"
)

// The texts with which a provider refuses, and Redis' own for its built-in limit.
const (
	errConnectionCap = "ERR max concurrent connections exceeded"
	errMaxClients    = "ERR max number of clients reached"
	errQuota         = "ERR max requests limit exceeded. Limit: %d, Usage: %d. See https://upstash.com/docs/redis/troubleshooting/max_requests_limit for details"
)

// defaultMaxClients is what Redis allows when nothing is configured.
const defaultMaxClients = 10_000

// A quota counts billed commands, and knows when they are spent.
type quota struct {
	limit int64 // 0: none
	used  atomic.Int64
}

// refusal is the error text for one more billed command, or empty when it is allowed.
func (q *quota) refusal() string {
	used := q.used.Load()
	if q.limit == 0 || used < q.limit {
		return ""
	}
	return fmt.Sprintf(errQuota, q.limit, used)
}

func (q *quota) bill(name string) {
	if !free(name) {
		q.used.Add(1)
	}
}

// free reports whether the provider does not bill the command, whose name is in upper case.
func free(name string) bool {
	switch name {
	case "AUTH", "HELLO", "SELECT", "COMMAND", "CONFIG", "INFO", "PING", "RESET", "QUIT":
		return true
	}
	return false
}
