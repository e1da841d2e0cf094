package source

import (
	"fmt"

	"github.com/redisopt/redisopt/internal/inspect"
)

// delayedPinsPolling finds BullMQ workers whose long drainDelay has no effect because something is
// put off on their queue: they then poll at least every 10 seconds.
func delayedPinsPolling(f *facts) {
	for _, s := range f.sites {
		k := s.first()
		if k.library != BullMQ || k.kind != Worker {
			continue
		}
		for _, k := range s.made {
			at := s.run.ev.delayedOn(k)
			if at == nil || periodOf(k.option("drainDelay"), drainSeconds, 1).fast <= pinnedSeconds {
				continue
			}
			pinned, _ := k.idle(at)
			free, _ := k.idle(nil)
			f.found(k.place, inspect.Finding{
				Severity: inspect.Note, Subject: queueText([]*construction{k}),
				Message: fmt.Sprintf("a job or scheduler is put off on this queue, so its worker polls every %d s whatever drainDelay says: %.2f M commands a month",
					pinnedSeconds, pinned.all.max*secondsInMonth/1e6),
				Remedy:                 "keep delayed jobs and schedulers on as few queues as possible",
				SavingCommandsPerMonth: (pinned.all.max - free.all.max) * secondsInMonth * float64(f.opts.Replicas),
			})
		}
	}
}
