package source

import (
	"fmt"
	"slices"

	"github.com/redisopt/redisopt/internal/inspect"
)

// connectionPerCall finds connections that are opened on every request, message or job.
func connectionPerCall(f *facts) {
	for _, s := range f.sites {
		k := s.first()
		if k.library == Upstash || k.library == Ratelimit {
			continue
		}
		i := slices.IndexFunc(k.guards, func(g guard) bool { return g.kind == handlerGuard })
		if i < 0 {
			continue
		}
		f.found(k.place, inspect.Finding{
			Severity: inspect.Critical, Subject: string(k.library) + " " + string(k.kind),
			Message: fmt.Sprintf("every time, this opens connections for a new %s (%s): it %s", k.kind, k.library, k.guards[i].reason()),
			Remedy:  "make it once, at the top level of a module, and use that one",
		})
	}
}
