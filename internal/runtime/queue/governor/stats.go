package governor

// Stats is what a Governor has done since it was made.
type Stats struct {
	Tracking        bool  `json:"tracking"`         // the server pushes changes; otherwise replicas tell each other
	Sweeper         bool  `json:"sweeper"`          // this replica sweeps for all
	Peers           int64 `json:"peers"`            // other replicas that follow, as far as known
	Dequeued        int64 `json:"dequeued"`         // jobs taken
	PutBack         int64 `json:"put_back"`         // of those, jobs that asynq did not want any more
	Empty           int64 `json:"empty"`            // dequeues that were sent and found nothing
	Refused         int64 `json:"refused"`          // times that Admit said no
	Forwarded       int64 `json:"forwarded"`        // delayed jobs moved when they were due
	Deleted         int64 `json:"deleted"`          // completed jobs whose retention had ended
	Extended        int64 `json:"extended"`         // leases extended in the Redis, in commands
	ExtendedLocally int64 `json:"extended_locally"` // extensions that were not sent
	Lost            int64 `json:"lost"`             // jobs not finished because their lease had ended
	Recovered       int64 `json:"recovered"`        // jobs whose worker was gone, handed to asynq's recovery
	Expired         int64 `json:"expired"`          // queues in which a lease has ended and the job has not been taken yet
	Repaired        int64 `json:"repaired"`         // active jobs without a lease, and the reverse
	Sweeps          int64 `json:"sweeps"`
	Resyncs         int64 `json:"resyncs"`
	Looks           int64 `json:"looks"` // at the leases of one queue
	Published       int64 `json:"published"`
	Heard           int64 `json:"heard"`
	Pushes          int64 `json:"pushes"`
	Gaps            int64 `json:"gaps"` // times that the bell was lost
}

// Stats is what was done so far. It sends nothing.
func (g *Governor) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	s.Tracking, s.Sweeper, s.Peers = g.bell.mode == tracks, g.role.sweeper, g.bell.peers
	for _, q := range g.queues {
		if q.foreign.expired {
			s.Expired++
		}
	}
	return s
}
