package simulate

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/limit/lease"
	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// Options say what a trace is replayed against.
type Options struct {
	// Rule gives the limit, the period and whatever else the algorithms need. Its own algorithm is
	// replayed first.
	Rule limit.Rule

	// Replicas is how many processes share the requests, in turn, with a lease each. Default 2.
	Replicas int

	// TripMin and TripMax are the round trip of one command of the legacy sequence. Default 0.
	TripMin, TripMax time.Duration

	// Seed makes the legacy sequence's random trips the same again.
	Seed uint64
}

// A Row is what one way to limit does with a trace.
type Row struct {
	// Name is an algorithm, with "+lease" where units are taken in advance, or "legacy",
	// "legacy-parallel" and "legacy-collide".
	Name string `json:"name"`

	Admitted int64 `json:"admitted"` // requests
	Denied   int64 `json:"denied"`

	// Most is the highest cost that was admitted for one key in any window of the period; Over is how far
	// that is over the limit.
	Most int64 `json:"most_in_window"`
	Over int64 `json:"over_admitted"`

	// Under is how many requests fewer were admitted than by the exact log.
	Under int64 `json:"under_admitted"`

	// Commands is what all checks are billed, those inside scripts included, with a denial remembered as
	// long as it holds; PerCheck is Commands by request.
	Commands int64   `json:"commands"`
	PerCheck float64 `json:"commands_per_check"`

	// Bound is the most that can ever be in one window, and BoundText says why; 0 where there is none.
	Bound     int64  `json:"bound"`
	BoundText string `json:"bound_text"`
}

// A Report is what a trace was like and what each way to limit did with it.
type Report struct {
	Requests int           `json:"requests"`
	Keys     int           `json:"keys"`
	Length   time.Duration `json:"-"`
	LengthS  float64       `json:"length_s"`
	Limit    int64         `json:"limit"`
	Period   time.Duration `json:"-"`
	PeriodS  float64       `json:"period_s"`
	Replicas int           `json:"replicas"`
	Rows     []Row         `json:"rows"`
}

// Run replays events, which are sorted by time, against every algorithm, with and without leases, and
// against the legacy sequence in its forms.
func Run(events []Event, o Options) (Report, error) {
	if o.Replicas == 0 {
		o.Replicas = 2
	}
	switch {
	case len(events) == 0:
		return Report{}, errors.New("the trace is empty")
	case o.Replicas < 1:
		return Report{}, fmt.Errorf("replicas: got %d, want 1 or more", o.Replicas)
	case o.TripMin < 0 || o.TripMax < o.TripMin:
		return Report{}, fmt.Errorf("round trip: got %s to %s, want 0 or more, the shorter first", o.TripMin, o.TripMax)
	}
	rule := o.Rule
	rule.Name, rule.Legacy, rule.LegacyShare = "simulated", "", false
	if rule.Algorithm == "" {
		rule.Algorithm = limit.SlidingWindow
	}
	policy, _, err := limit.Resolve(rule, o.Replicas)
	if err != nil {
		return Report{}, err
	}
	period := policy.Span(events[0].At)
	keys := map[string]int{}
	for _, e := range events {
		keys[e.Key]++
	}
	length := time.Duration(events[len(events)-1].At-events[0].At) * time.Microsecond
	report := Report{
		Requests: len(events), Keys: len(keys), Length: length, LengthS: length.Seconds(),
		Limit: policy.Limit, Period: period, PeriodS: period.Seconds(), Replicas: o.Replicas,
	}
	s := simulation{events: events, limit: policy.Limit, period: period}
	exact := window.Policy{Algorithm: window.Log, Limit: policy.Limit, Period: period}
	s.exact, _ = s.play(exact, lease.Bounds{}, 1)
	for _, a := range algorithms(rule.Algorithm) {
		rows, err := s.algorithm(rule, a, period, o.Replicas)
		if err != nil {
			return Report{}, err
		}
		report.Rows = append(report.Rows, rows...)
	}
	legacy := Legacy{Limit: policy.Limit, Period: period, TripMin: o.TripMin, TripMax: o.TripMax, Seed: o.Seed}
	parallel, collide := legacy, legacy
	parallel.Parallel, collide.Collide = true, true
	for name, l := range map[string]Legacy{"legacy": legacy, "legacy-parallel": parallel, "legacy-collide": collide} {
		admitted, commands := l.admits(events)
		report.Rows = append(report.Rows, s.row(name, admitted, commands))
	}
	slices.SortStableFunc(report.Rows, func(a, b Row) int { return rank(a.Name) - rank(b.Name) })
	return report, nil
}

// rank puts the legacy rows last, in order.
func rank(name string) int {
	return slices.Index([]string{"legacy", "legacy-parallel", "legacy-collide"}, name) + 1
}

// algorithms are all that make sense beside the rule's own, which comes first.
func algorithms(own limit.Algorithm) []limit.Algorithm {
	all := []limit.Algorithm{own}
	for _, a := range window.Algorithms() {
		if a != own && a != window.Calendar {
			all = append(all, a)
		}
	}
	return all
}

type simulation struct {
	events []Event
	limit  int64
	period time.Duration
	exact  []bool
}

// algorithm is the rows of one algorithm: without leases, and with them where they are allowed.
func (s *simulation) algorithm(rule limit.Rule, a limit.Algorithm, period time.Duration, replicas int) ([]Row, error) {
	r := rule
	if r.Algorithm = a; a != rule.Algorithm {
		r.Period, r.Every, r.TimeZone, r.Burst, r.Buckets = period, "", "", 0, 0
	}
	var rows []Row
	for _, mode := range []limit.LeaseMode{limit.LeaseOff, limit.LeaseOn} {
		r.Lease = mode
		policy, bounds, err := limit.Resolve(r, replicas)
		if err != nil {
			return nil, err
		}
		name, bound := string(a), policy.Bound(window.Holding{})
		if mode == limit.LeaseOn {
			if bounds.Units < 2 {
				continue
			}
			name += "+lease"
			bound = policy.Bound(window.Holding{Units: bounds.Units, Replicas: replicas, Hold: time.Duration(bounds.Hold) * time.Microsecond})
		}
		admitted, commands := s.play(policy, bounds, replicas)
		row := s.row(name, admitted, commands)
		row.Bound, row.BoundText = bound.Max, bound.String()
		rows = append(rows, row)
	}
	return rows, nil
}

// row sums up what was admitted.
func (s *simulation) row(name string, admitted []bool, commands int64) Row {
	row := Row{Name: name, Commands: commands, PerCheck: float64(commands) / float64(len(s.events))}
	var exact int64
	for i, ok := range admitted {
		if ok {
			row.Admitted++
		}
		if s.exact[i] {
			exact++
		}
	}
	row.Denied = int64(len(s.events)) - row.Admitted
	row.Most = s.most(admitted)
	row.Over = max(0, row.Most-s.limit)
	row.Under = max(0, exact-row.Admitted)
	return row
}

// most is the highest cost that was admitted for one key in any window of the period.
func (s *simulation) most(admitted []bool) int64 {
	type tail struct {
		events []Event
		sum    int64
	}
	tails := map[string]*tail{}
	var most int64
	for i, ok := range admitted {
		if !ok {
			continue
		}
		e := s.events[i]
		t := tails[e.Key]
		if t == nil {
			t = &tail{}
			tails[e.Key] = t
		}
		t.events = append(t.events, e)
		t.sum += e.Cost
		for e.At-t.events[0].At >= s.period.Microseconds() {
			t.sum -= t.events[0].Cost
			t.events = t.events[1:]
		}
		most = max(most, t.sum)
	}
	return most
}

// What one call is billed, as the price list of package limit has it.
const (
	admittedCommands = 4
	deniedCommands   = 3
)

// play decides every event as a fleet of replicas would, which get the events in turn.
func (s *simulation) play(p window.Policy, b lease.Bounds, replicas int) (admitted []bool, commands int64) {
	type subject struct {
		state   window.State
		ledgers []lease.Ledger
	}
	subjects := map[string]*subject{}
	admitted = make([]bool, len(s.events))
	for i, e := range s.events {
		k := subjects[e.Key]
		if k == nil {
			k = &subject{ledgers: make([]lease.Ledger, replicas)}
			subjects[e.Key] = k
		}
		ledger := &k.ledgers[i%replicas]
		ledger.Observe(e.At, e.Cost)
		switch {
		case e.Cost > p.Capacity():
		case ledger.Spend(e.At, e.Cost):
			admitted[i] = true
		case ledger.Denied(e.At, e.Cost) > 0:
		default:
			plan := ledger.Plan(e.At, e.Cost, b)
			want := min(plan.Want, p.Capacity())
			d := p.Take(&k.state, e.At, window.Ask{Min: e.Cost, Want: want, Hold: plan.Hold, Give: plan.Give.Units, Stamp: plan.Give.Stamp})
			admitted[i] = ledger.Settle(e.At, e.Cost, plan, lease.Answer{
				Granted: d.Granted, Retry: d.Retry, RetryWant: d.RetryWant, Stamp: d.Stamp, Hold: d.Hold,
			})
			if commands += deniedCommands; admitted[i] {
				commands += admittedCommands - deniedCommands
			}
		}
	}
	return admitted, commands
}
