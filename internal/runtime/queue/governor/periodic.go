package governor

import "time"

// month is what prices are given for: 30 days.
const month = 30 * 24 * time.Hour

// A Periodic is a command that is sent in intervals although there is nothing to do.
type Periodic struct {
	Name     string        `json:"name"`
	Interval time.Duration `json:"interval"`
	Price    int64         `json:"price"` // commands each time, those in scripts included
	Why      string        `json:"why"`
}

// PerMonth is the price of 30 days.
func (p Periodic) PerMonth() float64 { return float64(p.Price) * float64(month) / float64(p.Interval) }

// Periodic is every command that this replica sends in intervals in its present role: what idling costs.
// It sends nothing.
func (g *Governor) Periodic() []Periodic {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opts.ClientOnly {
		return nil
	}
	groups, paused, delayed := int64(1), int64(0), int64(0)
	if g.opts.Separate {
		groups = int64(len(g.names))
	}
	for _, q := range g.queues {
		if q.paused {
			paused++
		}
		for _, d := range []*due{&q.scheduled, &q.retry} {
			if d.some() {
				delayed++
			}
		}
	}
	if paused > 0 && !g.opts.Separate {
		paused = 1
	}
	var all []Periodic
	add := func(name string, interval time.Duration, price int64, why string) {
		if price > 0 {
			all = append(all, Periodic{name, interval, price, why})
		}
	}
	every := g.opts.Sweep
	if !g.role.sweeper {
		every = g.opts.Follow
	}
	add("sweep", every, groups, "finds jobs that nobody announced, leases whose worker is gone, and a sweeper that is")
	add("sweep of paused queues", every, paused, "finds out that a queue goes on")
	if g.role.sweeper {
		add("resync", g.opts.Resync, groups, "finds delayed, completed and grouped jobs that nobody announced")
		add("resync of delayed jobs", g.opts.Resync, delayed, "one for each queue that has some, of either kind: when the first is due")
		if g.role.leased {
			add("sweeper's lease", sweeperRenews*g.opts.Follow, 2, "so that one replica sweeps for all")
		}
	} else if g.opts.Separate {
		add("sweeper's lease", every, 1, "finds out that the sweeper is gone")
	}
	if g.opts.Presence > 0 {
		add("presence", g.opts.Presence, 6, "shows the server to asynq's inspector")
	}
	return all
}

// MonthlyCost is the sum of Periodic over 30 days, in commands.
func (g *Governor) MonthlyCost() float64 {
	sum := 0.0
	for _, p := range g.Periodic() {
		sum += p.PerMonth()
	}
	return sum
}
