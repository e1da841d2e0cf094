package api

import "github.com/redisopt/redisopt/internal/runtime/queue"

// queues shows the engine as this replica knows it: reading metrics sends no command. To scale by, there
// is redisopt_queue_wait_seconds, which grows as soon as jobs wait for a place, and redisopt_queue_running_jobs
// beside redisopt_queue_concurrency_max.
func (e emitter) queues(q *queue.Engine) {
	for _, s := range q.Stats() {
		in := label{"queue", s.Queue}
		e.gauge("redisopt_queue_running_jobs", "Jobs that run here now.", float64(s.Running), in)
		e.gauge("redisopt_queue_concurrency_max", "Jobs that may run here at once.", float64(s.Concurrency), in)
		e.gauge("redisopt_queue_waiting_requests", "Jobs that applications wait for.", float64(s.Waiting), in)
		e.gauge("redisopt_queue_leased_jobs", "Jobs that applications have fetched.", float64(s.Leased), in)
		e.gauge("redisopt_queue_wait_seconds", "How long the job that was taken last had waited.", s.Wait.Seconds(), in)
		e.gauge("redisopt_queue_paused", "1 while no jobs are taken.", boolean(s.Paused), in)
		e.gauge("redisopt_queue_draining", "1 while no jobs are added.", boolean(s.Draining), in)
		e.counter("redisopt_queue_enqueued_total", "Jobs added here.", float64(s.Enqueued), in)
		for result, n := range map[string]int64{
			"completed": s.Done, "failed_attempt": s.Failed, "failed_permanently": s.Dead, "rescheduled": s.Rescheduled,
		} {
			e.counter("redisopt_queue_attempts_total", "Attempts that ended here, by their result.", float64(n), in, label{"result", result})
		}
	}
	g := q.GovernorStats()
	e.gauge("redisopt_queue_sweeper", "1 on the replica that looks after the queues for all.", boolean(g.Sweeper))
	e.gauge("redisopt_queue_tracking", "1 where the server tells of changes by itself.", boolean(g.Tracking))
	e.gauge("redisopt_queue_idle_commands_per_month", "Billed commands of 30 days without a job, as planned.", q.MonthlyCost())
	e.counter("redisopt_queue_recovered_total", "Jobs whose worker was gone.", float64(g.Recovered))
	e.counter("redisopt_queue_lost_leases_total", "Jobs that were not finished because their lease had ended.", float64(g.Lost))
	e.counter("redisopt_queue_repaired_total", "Jobs that were active without a lease.", float64(g.Repaired))
	e.counter("redisopt_queue_bell_gaps_total", "Times that the bell was lost.", float64(g.Gaps))
}
