package step

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// A Route says where a queue goes and in which form. It is what a journal keeps of a plan: a migration
// that was begun with one route refuses to go on with another.
type Route struct {
	// From and To are the queue before and after.
	From mover.Endpoint `json:"from"`
	To   mover.Endpoint `json:"to"`

	// Order is how priorities survive; default mover.Keep.
	Order mover.Order `json:"order"`

	// Schedulers says how repeatables are called at the target.
	Schedulers SchedulerIDs `json:"schedulers"`

	// Soak, when not nil, is waited for after the queue was moved.
	Soak *Soaking `json:"soak,omitempty"`
}

func (r Route) withDefaults() Route {
	if r.Order == "" {
		r.Order = mover.Keep
	}
	return r
}

func (r Route) validate() error {
	var errs []error
	for _, e := range []mover.Endpoint{r.From, r.To} {
		if e.Queue == "" {
			errs = append(errs, errors.New("queue: got none"))
		}
		if e.Prefix == "" {
			errs = append(errs, errors.New("prefix: got none"))
		}
	}
	if r.Order != mover.Keep && r.Order != mover.ByPriority {
		errs = append(errs, fmt.Errorf("order: got %q, want %s or %s", r.Order, mover.Keep, mover.ByPriority))
	}
	if r.Soak != nil {
		errs = append(errs, r.Soak.validate())
	}
	return errors.Join(errs...)
}

// InPlace is true when source and target share their keys.
func (r Route) InPlace() bool { return r.From.Prefix == r.To.Prefix && r.From.Queue == r.To.Queue }

// SchedulerIDs chooses the BullMQ job scheduler id of each Bull repeatable. It must be the id that the
// new application passes to upsertJobScheduler: with another one the application adds a second
// schedule, and every run happens twice.
type SchedulerIDs struct {
	// ByName takes the job's name where the repeatable has no jobId of its own. Without it such a
	// repeatable keeps the 32 hexadecimal digits that Bull gave its occurrences.
	ByName bool `json:"by_name,omitempty"`

	// Named are ids for single repeatables, by Bull's repeat key.
	Named map[string]string `json:"named,omitempty"`
}

// ParseSchedulerIDs reads the values of a flag: "name" for ByName, KEY=ID for one repeatable, where KEY
// is Bull's repeat key as the plan shows it and ID is what follows the last equals sign.
func ParseSchedulerIDs(values []string) (SchedulerIDs, error) {
	var out SchedulerIDs
	var errs []error
	for _, v := range values {
		if v == "name" {
			out.ByName = true
			continue
		}
		at := strings.LastIndexByte(v, '=')
		if at <= 0 || at == len(v)-1 {
			errs = append(errs, fmt.Errorf("scheduler id: got %q, want name or KEY=ID", v))
			continue
		}
		if out.Named == nil {
			out.Named = map[string]string{}
		}
		if was, ok := out.Named[v[:at]]; ok && was != v[at+1:] {
			errs = append(errs, fmt.Errorf("scheduler id: %q is given twice, as %q and as %q", v[:at], was, v[at+1:]))
		}
		out.Named[v[:at]] = v[at+1:]
	}
	return out, errors.Join(errs...)
}

// choose is the id of one repeatable.
func (s SchedulerIDs) choose(r mover.Repeat) string {
	switch {
	case s.Named[r.Key] != "":
		return s.Named[r.Key]
	case r.JobID != "":
		return r.JobID
	case s.ByName:
		return r.Name
	default:
		return r.Hash
	}
}

// problems finds what of s does not fit the repeatables of a plan.
func (s SchedulerIDs) problems(repeats []mover.Repeat) []mover.Problem {
	var out []mover.Problem
	owner := map[string]string{}
	keys := make([]string, 0, len(repeats))
	for _, r := range repeats {
		keys = append(keys, r.Key)
		if other, taken := owner[r.TargetKey]; taken && r.TargetKey != "" {
			out = append(out, mover.Problem{
				Rule: "collision", Blocking: true,
				Message: fmt.Sprintf("repeatables %q and %q would both be scheduler %q", other, r.Key, r.TargetKey),
			})
		}
		owner[r.TargetKey] = r.Key
	}
	named := make([]string, 0, len(s.Named))
	for key := range s.Named {
		named = append(named, key)
	}
	slices.Sort(named)
	for _, key := range named {
		if !slices.Contains(keys, key) {
			out = append(out, mover.Problem{
				Rule: "unknown-repeatable", Blocking: true,
				Message: fmt.Sprintf("there is no repeatable %q to name %q", key, s.Named[key]),
			})
		}
	}
	return out
}
