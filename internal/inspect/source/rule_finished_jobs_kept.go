package source

import (
	"github.com/redisopt/redisopt/internal/inspect"
)

// finishedJobsKept finds queues that keep every finished job for ever, which is the default.
func finishedJobsKept(f *facts) {
	const option = "defaultJobOptions: { removeOnComplete: { count: 1000 }, removeOnFail: { count: 5000 } }"
	for _, s := range f.sites {
		k := s.first()
		if k.kind != Queue || k.library != Bull && k.library != BullMQ {
			continue
		}
		if k.options != nil && k.options.open {
			continue
		}
		jobs, _ := likely(k.option("defaultJobOptions")).(*object)
		if jobs != nil && (jobs.open || jobs.has("removeOnComplete")) || isUnknown(k.option("defaultJobOptions")) {
			continue
		}
		if f.removesElsewhere(s) {
			continue
		}
		change := addOption(k.options, option)
		if jobs != nil {
			change = addOption(jobs, "removeOnComplete: { count: 1000 }")
		}
		f.found(k.place, inspect.Finding{
			Severity: inspect.Note, Subject: queueText(s.made),
			Message: "completed and failed jobs are kept for ever, so the memory of the database grows with every job",
			Remedy:  option, Fix: change,
		})
	}
}

// removesElsewhere reports that the worker or the calls of add() say what becomes of finished jobs.
func (f *facts) removesElsewhere(queue *siteFacts) bool {
	for _, s := range f.sites {
		for _, k := range s.made {
			if k.kind == Worker && k.queue == queue.first().queue && k.options.has("removeOnComplete") {
				return true
			}
		}
	}
	return queue.first().removes
}
