package gate

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// RecordKind names the form of what redisopt record writes.
const RecordKind = "record/v1"

// Recorded is what runs of an application's tests counted.
type Recorded struct {
	Operations []Operation

	// PeakPerProcess is the most connections that one process held; 0 when not known.
	PeakPerProcess int
	Missing        []string
}

// An Operation is one test, or one source, with its commands.
type Operation struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // "test" or "source"

	// Commands is what the provider counts: the most of one run of a test, all of a source.
	Commands float64 `json:"commands"`
	Runs     int64   `json:"runs,omitempty"`

	// Sent is what a test sent, in words: "2 get, 1 set". Empty where the record does not list it.
	Sent string `json:"sent,omitempty"`
}

// ReadRecord reads the document of a recorded run, of at most 32 MiB. Of it only these are read: tests
// with name, runs, billed_work, max_billed_work_per_run and commands, sources with name and billed_work,
// and connections.peak_per_process.
func ReadRecord(r io.Reader) (*Recorded, error) {
	var data struct {
		Tests []struct {
			Name       string `json:"name"`
			Runs       int64  `json:"runs"`
			MaxPerRun  int64  `json:"max_billed_work_per_run"`
			BilledWork int64  `json:"billed_work"`
			Commands   []struct {
				Command string `json:"command"`
				Sent    int64  `json:"sent"`
			} `json:"commands"`
		} `json:"tests"`
		Sources []struct {
			Name       string `json:"name"`
			BilledWork int64  `json:"billed_work"`
		} `json:"sources"`
		Connections struct {
			PeakPerProcess int `json:"peak_per_process"`
		} `json:"connections"`
		Missing []string `json:"missing"`
	}
	if err := readKind(r, RecordKind, &data); err != nil {
		return nil, err
	}
	out := &Recorded{PeakPerProcess: data.Connections.PeakPerProcess, Missing: data.Missing}
	for _, t := range data.Tests {
		if t.Name == "" {
			continue // what was sent outside of every test
		}
		n := t.MaxPerRun
		if t.Runs <= 1 {
			n = max(n, t.BilledWork)
		}
		var sent []string
		for _, c := range t.Commands[:min(len(t.Commands), maxPlaces)] {
			sent = append(sent, fmt.Sprintf("%d %s", c.Sent, c.Command))
		}
		out.Operations = append(out.Operations, Operation{Name: t.Name, Kind: "test", Commands: float64(n), Runs: t.Runs, Sent: strings.Join(sent, ", ")})
	}
	for _, s := range data.Sources {
		out.Operations = append(out.Operations, Operation{Name: s.Name, Kind: "source", Commands: float64(s.BilledWork)})
	}
	for _, o := range out.Operations {
		if o.Commands < 0 {
			return nil, fmt.Errorf("%s %q: %g commands, want 0 or more", o.Kind, o.Name, o.Commands)
		}
	}
	if len(out.Operations) == 0 {
		return nil, errors.New("has neither tests nor sources: nothing was recorded")
	}
	return out, nil
}

// Merge adds what another run counted. Of one operation the most counts.
func (r *Recorded) Merge(o *Recorded) {
	r.PeakPerProcess = max(r.PeakPerProcess, o.PeakPerProcess)
	r.Missing = append(r.Missing, o.Missing...)
	for _, x := range o.Operations {
		i := slices.IndexFunc(r.Operations, func(y Operation) bool { return y.Name == x.Name && y.Kind == x.Kind })
		if i < 0 {
			r.Operations = append(r.Operations, x)
			continue
		}
		r.Operations[i].Commands = max(r.Operations[i].Commands, x.Commands)
		r.Operations[i].Runs += x.Runs
	}
}

// operations judges what tests and sources may cost. A name counts as a test's where a test has it.
func (j *judge) operations() {
	for _, o := range j.opts.Budgets.Operations {
		name := "operations." + o.Name
		if j.ev.Recorded == nil {
			j.unmeasured(name, "command", float64(o.Commands), budget.Recorded)
			continue
		}
		matched := j.recordedAs(o.Name)
		if len(matched) == 0 {
			why := fmt.Sprintf("no test or source of the recorded run is called %q", o.Name)
			j.add(Judgement{Budget: name, Evidence: budget.Recorded, Verdict: Inconclusive, Unit: "command", Allowed: float64(o.Commands), Message: why, Missing: []string{why}})
		}
		for _, x := range matched {
			used := Exactly(x.Commands)
			n := Judgement{
				Budget: name, Evidence: budget.Recorded, Verdict: within(used, float64(o.Commands)), Unit: "command",
				Measured: &used, Allowed: float64(o.Commands), Baseline: j.operationBefore(x),
				Message: fmt.Sprintf("%s, %d allowed", plural(used, "command"), o.Commands),
				Remedy:  "cache or batch what repeats; the record lists its commands",
			}
			if x.Sent != "" {
				n.Remedy = fmt.Sprintf("cache or batch what repeats; %s sent %s", runs(x.Runs), x.Sent)
			}
			if x.Name != o.Name {
				n.Subject = x.Name
			}
			j.add(n)
		}
	}
}

func runs(n int64) string {
	if n <= 1 {
		return "it"
	}
	return fmt.Sprintf("its %d runs", n)
}

// recordedAs are the operations of a name or pattern, those that cost most first.
func (j *judge) recordedAs(pattern string) []Operation {
	for _, kind := range []string{"test", "source"} {
		var out []Operation
		for _, o := range j.ev.Recorded.Operations {
			ok, err := path.Match(pattern, o.Name)
			if o.Kind == kind && (o.Name == pattern || ok && err == nil) {
				out = append(out, o)
			}
		}
		if len(out) > 0 {
			slices.SortStableFunc(out, func(a, b Operation) int { return cmp.Compare(b.Commands, a.Commands) })
			return out
		}
	}
	return nil
}

func (j *judge) operationBefore(x Operation) *Span {
	for _, o := range j.base.Operations {
		if o.Name == x.Name && o.Kind == x.Kind {
			s := Exactly(o.Commands)
			return &s
		}
	}
	return nil
}
