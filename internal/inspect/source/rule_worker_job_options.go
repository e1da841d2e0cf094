package source

import (
	"fmt"
	"strings"

	"github.com/redisopt/redisopt/internal/inspect"
)

// workerJobOptions finds options of jobs among those of a Worker, where they do nothing: such jobs are
// never retried.
func workerJobOptions(f *facts) {
	for _, s := range f.sites {
		k := s.first()
		if k.library != BullMQ || k.kind != Worker || k.options == nil {
			continue
		}
		var wrong []string
		at := k.place
		for _, name := range []string{"attempts", "backoff", "delay", "priority", "repeat", "jobId"} {
			if k.options.has(name) {
				wrong = append(wrong, name)
				if p := k.options.props[name].place; p.mod != nil && len(wrong) == 1 {
					at = p
				}
			}
		}
		if len(wrong) == 0 {
			continue
		}
		f.found(at, inspect.Finding{
			Severity: inspect.Critical, Subject: queueText(s.made),
			Message: fmt.Sprintf("the options of a Worker do not take %s: they do nothing there, so these jobs run once and are not retried", strings.Join(wrong, " and ")),
			Remedy:  fmt.Sprintf("move it to the Queue: new Queue(name, { connection, defaultJobOptions: { %s } }), or to the options of add()", strings.Join(wrong, ", ")),
		})
	}
}
