package source

import (
	"fmt"

	"github.com/redisopt/redisopt/internal/inspect"
)

// queueTwoLibraries finds queues that both Bull and BullMQ work on: by default both use the prefix
// "bull" and take each other's jobs.
func queueTwoLibraries(f *facts) {
	type key struct{ prefix, queue string }
	bull := make(map[key]*construction)
	each := func(lib Library, take func(key, *construction)) {
		for _, s := range f.sites {
			for _, k := range s.made {
				if k.library != lib || k.queue == "" || k.kind == Client {
					continue
				}
				prefix, known := "bull", true
				if v := k.option("prefix"); v != nil {
					prefix, known = v.(string)
				}
				if known {
					take(key{prefix, k.queue}, k)
				}
			}
		}
	}
	each(Bull, func(q key, k *construction) { bull[q] = k })
	each(BullMQ, func(q key, k *construction) {
		other := bull[q]
		if other == nil {
			return
		}
		file, line, _, _ := where(other.place)
		f.found(k.place, inspect.Finding{
			Severity: inspect.Critical, Subject: q.prefix + ":" + q.queue,
			Message: fmt.Sprintf("Bull (%s:%d) and BullMQ work on the same keys, so each takes and fails jobs of the other", file, line),
			Remedy:  "give BullMQ another prefix, on every Queue, Worker, QueueEvents and FlowProducer: prefix: 'bullmq'",
		})
	})
}
