package gate

import (
	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// findings gives every finding its level and says whether it is new.
func (j *judge) findings() {
	type group struct {
		kind  budget.Evidence
		found []Finding
	}
	var all []group
	if s := j.ev.Static; s != nil {
		all = append(all, group{budget.Static, s.Findings})
	}
	if l := j.ev.Live; l != nil {
		all = append(all, group{budget.Live, l.Findings})
	}
	for _, g := range all {
		were := known(g.found, j.base.Findings)
		for i, f := range g.found {
			state := New
			if were[i] {
				state = Known
			}
			j.finding(g.kind, f, state)
		}
	}
}

func (j *judge) finding(kind budget.Evidence, f Finding, state State) {
	level, said := j.opts.Budgets.Rules[f.Rule]
	if level == budget.RuleOff {
		j.report.Off++
		return
	}
	if !said {
		switch f.Severity {
		case inspect.Critical:
			level = budget.RuleFail
		case inspect.Warning:
			level = budget.RuleWarn
		case inspect.Note:
		}
	}
	j.report.Findings = append(j.report.Findings, Judged{Finding: f, Level: level, State: state, Evidence: kind, WaivedBy: -1})
}
