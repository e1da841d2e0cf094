package source

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/redisopt/redisopt/internal/inspect"
)

// maxNames bounds the names of queues listed for one place.
const maxNames = 100

// process sums up one run.
func (r *run) process() Process {
	ev := r.ev
	out := Process{Name: processName(r.start), Entries: r.start.entries, Started: r.started, Queues: []QueueCost{}, Sites: []Site{}}
	if len(out.Entries) > maxNames {
		out.Entries = out.Entries[:maxNames]
	}
	for _, m := range ev.modules {
		if m.file != nil {
			out.Files++
		}
	}
	all := newBundle()
	sites := make(map[place]*bundle)
	queues := make(map[queueKey]*bundle)
	var order []place
	var names []queueKey
	for _, k := range ev.made {
		delayed := ev.delayedOn(k)
		all.add(k, delayed)
		b := sites[k.place]
		if b == nil {
			b = newBundle()
			sites[k.place] = b
			order = append(order, k.place)
		}
		b.add(k, delayed)
		if k.kind == Client || k.kind == FlowProducer || k.kind == Limiter {
			continue
		}
		key := queueKey{k.library, k.queue}
		if queues[key] == nil {
			queues[key] = newBundle()
			names = append(names, key)
		}
		queues[key].add(k, delayed)
	}
	out.Connections, out.Idle = all.connections(), all.idle()
	for _, p := range order {
		out.Sites = append(out.Sites, sites[p].site(p))
	}
	for _, key := range names {
		b := queues[key]
		out.Queues = append(out.Queues, QueueCost{Queue: key.queue, Library: key.library, Connections: b.connections(), Idle: b.idle()})
	}
	slices.SortFunc(out.Queues, func(a, b QueueCost) int {
		return cmp.Or(cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Library, b.Library))
	})
	slices.SortStableFunc(out.Sites, func(a, b Site) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return out
}

type queueKey struct {
	library Library
	queue   string
}

// delayedOn is where something is put off on the queue that a worker takes jobs from.
func (ev *evaluator) delayedOn(worker *construction) *use {
	if worker.kind != Worker || worker.queue == "" {
		return nil
	}
	var found *use
	for _, k := range ev.made {
		if k.library == worker.library && k.kind == Queue && k.queue == worker.queue && k.delayed != nil {
			if found == nil || len(k.delayed.guards) < len(found.guards) {
				found = k.delayed
			}
		}
	}
	return found
}

// A bundle is constructions that are counted together.
type bundle struct {
	made            []*construction
	conns, tops, al []weighed
}

func newBundle() *bundle { return &bundle{} }

func (b *bundle) add(k *construction, delayed *use) {
	b.made = append(b.made, k)
	b.conns = append(b.conns, k.connections()...)
	s, guards := k.idle(delayed)
	b.tops = append(b.tops, weighed{guards, s.top})
	b.al = append(b.al, weighed{guards, s.all})
}

func (b *bundle) connections() Range { return rangeOf(total(b.conns), 1) }

func (b *bundle) idle() Idle {
	return Idle{Top: rangeOf(total(b.tops), secondsInMonth), All: rangeOf(total(b.al), secondsInMonth)}
}

func (b *bundle) site(p place) Site {
	k := b.made[0]
	s := Site{Library: k.library, Kind: k.kind, Shared: k.link == lent || k.factory, Connections: b.connections(), Idle: b.idle(), Queues: []string{}}
	s.File, s.Line, s.Column, _ = where(p)
	var counted []weighed
	for _, k := range b.made {
		counted = append(counted, weighed{k.guards, span{min: 1, max: 1}})
		if k.queue != "" && len(s.Queues) < maxNames && !slices.Contains(s.Queues, k.queue) {
			s.Queues = append(s.Queues, k.queue)
		}
	}
	s.Made = rangeOf(total(counted), 1)
	return s
}

func (r Range) plus(o Range) Range { return Range{r.Min + o.Min, r.Max + o.Max, r.Open || o.Open} }

func (r Range) times(n float64) Range { return Range{r.Min * n, r.Max * n, r.Open} }

// report puts everything together.
func (s *scan) report() *Report {
	r := &Report{
		Replicas: s.opts.Replicas, Budget: s.opts.Budget, Processes: []Process{}, Unresolved: []Unresolved{},
		Findings: []inspect.Finding{}, Packages: s.project.libraries(), Env: []string{}, Missing: []string{},
		Files: Files{
			Scripts: len(s.project.requires), Go: len(s.project.tree.goFiles), Lines: s.project.lines,
			Unparsed: len(s.project.syntax), Skipped: s.project.tree.skipped,
		},
	}
	n := float64(s.opts.Replicas)
	for _, run := range s.runs {
		p := run.process()
		if !run.started && p.Connections.Max == 0 && p.Idle.All.Max == 0 {
			continue
		}
		r.Processes = append(r.Processes, p)
		if !run.started {
			r.Missing = append(r.Missing, fmt.Sprintf("up to %g connections in files that no entry point loads, such as %s: name a process of theirs as an entry", p.Connections.Max, p.Entries[0]))
			continue
		}
		r.Connections = r.Connections.plus(p.Connections.times(n))
		r.Idle.Top = r.Idle.Top.plus(p.Idle.Top.times(n))
		r.Idle.All = r.Idle.All.plus(p.Idle.All.times(n))
	}
	r.RollingDeploy = r.Connections.times(2)
	r.Bills = bills(r.Idle)
	s.environment(r)
	s.unresolved(r)
	s.explain(r)
	s.judge(r)
	r.Measures = r.measures()
	return r
}

func (s *scan) environment(r *Report) {
	seen := make(map[string]bool)
	for _, run := range s.runs {
		for name := range run.ev.env {
			seen[name] = true
		}
	}
	for name := range seen {
		r.Env = append(r.Env, name)
	}
	slices.Sort(r.Env)
}

func bills(idle Idle) []Bill {
	money := func(n Range, base float64) Range {
		return Range{usd(n.Min) + base, usd(n.Max) + base, n.Open}
	}
	return []Bill{
		{
			Plan: "upstash-free", BilledPerMonth: idle.All, Included: freeCommands, AsOf: priceAsOf,
			Note: "commands that scripts run are billed; beyond what is included requests are refused",
		},
		{
			Plan: "upstash-payg", BilledPerMonth: idle.All, USDPerMonth: money(idle.All, 0), AsOf: priceAsOf,
			Note: "commands that scripts run are billed, at 0.20 USD per 100,000",
		},
		{Plan: "upstash-fixed", BilledPerMonth: idle.All, AsOf: priceAsOf, Note: "commands have no price; the plan has one"},
		{Plan: "self-hosted", BilledPerMonth: Range{}, Note: "commands have no price"},
	}
}
