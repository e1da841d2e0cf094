package step

import (
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/migrate"
)

// How the names of keys begin that steps keep in Redis.
const (
	ledgerPrefix    = "redisopt:ledger:" // phase 3: of every job that was moved
	pauseNotePrefix = "redisopt:phase2:" // phase 2: how a queue was before it was paused
	probeName       = "redisopt:probe"   // phase 1: written and read once, to find out what a Redis does
	probePrefix     = probeName + ":"
)

// Account is whether a key is kept by migrations or their steps and is no key of an application: it is there while a
// migration is, and gone with it.
func Account(key string) bool {
	return migrate.Account(key) || slices.ContainsFunc([]string{ledgerPrefix, pauseNotePrefix, probePrefix}, func(prefix string) bool {
		return strings.HasPrefix(key, prefix)
	})
}
