package source

import (
	"strings"

	"github.com/redisopt/redisopt/internal/inspect"
)

// flushCommand finds commands that empty the database, with the queues and quotas in it.
func flushCommand(f *facts) {
	queues := false
	for _, s := range f.sites {
		queues = queues || s.first().kind == Queue || s.first().kind == Worker
	}
	for _, c := range f.sent {
		if c.client == nil || !strings.EqualFold(c.name, "flushall") && !strings.EqualFold(c.name, "flushdb") {
			continue
		}
		found := inspect.Finding{
			Severity: inspect.Warning, Subject: strings.ToUpper(c.name),
			Message: strings.ToUpper(c.name) + " deletes everything, not only what this code wrote",
			Remedy:  "delete by prefix with SCAN and UNLINK, or keep what may be cleared in a database of its own",
		}
		if queues {
			found.Severity = inspect.Critical
			found.Message += ": the jobs of the queues in this application go with it"
		}
		f.found(c.place, found)
	}
}
