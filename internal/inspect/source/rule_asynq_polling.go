package source

import (
	"fmt"

	"github.com/redisopt/redisopt/internal/inspect"
)

// asynqPolling finds servers of asynq that poll empty queues at asynq's own pace.
func asynqPolling(f *facts) {
	for _, s := range f.sites {
		k := s.first()
		if k.library != Asynq || k.kind != Server || k.spends == nil {
			continue
		}
		slow := asynqIdle(nil, k.goClient.queues)
		least := k.asynqFloor()
		saving := (k.spends.all.max - least.all.max) * secondsInMonth * float64(f.opts.Replicas)
		if k.spends.all.max <= 0.5*slow.all.max || saving <= 0 {
			continue
		}
		f.found(k.place, inspect.Finding{
			Severity: inspect.Warning, Subject: fmt.Sprintf("asynq server, %g queues", k.goClient.queues),
			Message: fmt.Sprintf("idle it sends %.1f M commands a month, %.1f M with those in scripts: every queue is asked for tasks once a second",
				k.spends.top.max*secondsInMonth/1e6, k.spends.all.max*secondsInMonth/1e6),
			Remedy: fmt.Sprintf("TaskCheckInterval: 10 * time.Second, DelayedTaskCheckInterval: time.Minute, JanitorInterval: time.Hour leave %.1f M with those in scripts; tasks then wait up to 15 s, and stopping waits as long. Fewer queues, or redisopt's queue engine, cost less",
				least.all.max*secondsInMonth/1e6),
			SavingCommandsPerMonth: saving,
		})
	}
}

// asynqFloor is what the server spends after the remedy.
func (k *construction) asynqFloor() spend {
	q := k.goClient.queues
	fixed := func(seconds float64) period { return period{fast: seconds, slow: seconds} }
	var s spend
	s.every(fixed(10), q, 2*q)
	s.every(fixed(60), 2*q, 2*q)
	s.every(fixed(3600), q, q)
	s.every(fixed(asynqHeartbeatSeconds), 3, 3)
	s.every(fixed(asynqRecoverSeconds), 2*q, 4*q)
	s.every(fixed(asynqPingSeconds), 1, 0)
	return s
}
