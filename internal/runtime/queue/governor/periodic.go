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

// Idle is what a governor with these options sends in intervals while no queue is paused and no job delayed:
// one that sweeps for all, or one that does not.
func Idle(o Options, sweeper bool) []Periodic {
	if o.ClientOnly {
		return nil
	}
	o = o.withDefaults()
	every := o.Follow
	if sweeper {
		every = o.Sweep
	}
	return idling{opts: o, sweeper: sweeper, every: every}.list()
}

// Periodic is every command that this replica sends in intervals in its present role: what idling costs.
// It sends nothing.
func (g *Governor) Periodic() []Periodic {
	every := g.interval()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opts.ClientOnly {
		return nil
	}
	i := idling{opts: g.opts, sweeper: g.role.sweeper, leased: g.role.leased, every: every}
	for _, q := range g.queues {
		if q.paused {
			i.paused++
		}
		for _, d := range []*due{&q.scheduled, &q.retry} {
			if d.some() {
				i.delayed++
			}
		}
	}
	return i.list()
}

// idling is what the price of doing nothing depends on.
type idling struct {
	opts            Options
	sweeper, leased bool
	every           time.Duration // between two sweeps
	paused          int64         // queues
	delayed         int64         // sets of jobs that wait for their time
}

func (i idling) list() []Periodic {
	o := i.opts
	groups, paused := int64(1), i.paused
	if o.Separate {
		groups = int64(len(o.Queues))
	} else {
		paused = min(1, paused)
	}
	var all []Periodic
	add := func(name string, interval time.Duration, price int64, why string) {
		if price > 0 {
			all = append(all, Periodic{name, interval, price, why})
		}
	}
	add("sweep", i.every, groups, "finds jobs that nobody announced, leases whose worker is gone, and a sweeper that is")
	add("sweep of paused queues", i.every, paused, "finds out that a queue goes on")
	if i.sweeper {
		add("resync", o.Resync, groups, "finds delayed, completed and grouped jobs that nobody announced")
		add("resync of delayed jobs", o.Resync, i.delayed, "one for each queue that has some, of either kind: when the first is due")
		if i.leased {
			add("sweeper's lease", sweeperRenews*o.Follow, 2, "so that one replica sweeps for all")
		}
	} else if o.Separate {
		add("sweeper's lease", i.every, 1, "finds out that the sweeper is gone")
	}
	if o.Presence > 0 {
		add("presence", o.Presence, 6, "shows the server to asynq's inspector")
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
