package source

import (
	"strings"

	"github.com/redisopt/redisopt/internal/inspect"
)

// keysCommand finds KEYS, which reads the whole keyspace in one go.
func keysCommand(f *facts) {
	for _, c := range f.sent {
		if c.client != nil && strings.EqualFold(c.name, "keys") {
			f.found(c.place, inspect.Finding{
				Severity: inspect.Warning, Subject: "KEYS",
				Message: "KEYS walks every key of the database and blocks every other client meanwhile, queues included",
				Remedy:  "SCAN with MATCH and COUNT (scanStream in ioredis, scanIterator in node-redis), or keep the names in a set",
			})
		}
	}
}
