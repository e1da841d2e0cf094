package config

import (
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// FuzzBudgets reads anything as the budgets section. What is taken holds no contradiction, and what is
// refused is refused with a place or a key.
func FuzzBudgets(f *testing.F) {
	for _, section := range []string{
		"connections: {fleet: 33, per_process: 20, plan_limit: 100}",
		"commands: {per_month: 500000, warn_at: 0.8, fail_at: 0.9}\nmoney: {usd_per_month: 20}",
		"latency: {cache: {p95: 100ms, p99: 1s, min_samples: 5}}",
		"operations: [{name: GET /users, commands: 3}, {name: 'a*', commands: 0}]",
		"increase: {connections: 0, commands_percent: 5}\nrequire: [static, live]",
		"rules: {idle-polling: off, syntax-error: fail}",
		"waivers: [{rule: idle-polling, file: 'src/*.ts', owner: me, reason: because, expires: 2026-12-31}]",
		"waivers: [{rule: x, expires: 2026-02-30}]\nrules: {x: maybe}\nconnections: {fleet: 1, per_process: 2}",
		"waivers: {}", "rules: []", "operations: [[]]", "increase: -1",
	} {
		f.Add(section)
	}
	f.Fuzz(func(t *testing.T, section string) {
		file := "version: 1\nbudgets:\n"
		for line := range strings.SplitSeq(section, "\n") {
			file += "  " + line + "\n"
		}
		c, err := Load(inFile(file))
		if err != nil {
			for _, p := range Problems(err) {
				if p.Message == "" {
					t.Errorf("a problem without a message: %+v", p)
				}
			}
			return
		}
		b := c.Budgets
		if err := b.Validate(); err != nil {
			t.Errorf("a contradiction is taken: %v", err)
		}
		for i, w := range b.Waivers {
			if w.Owner == "" || w.Reason == "" || w.Expires == "" || w.Rule == "" {
				t.Errorf("waiver %d is incomplete: %+v", i, w)
			}
		}
		for rule, level := range b.Rules {
			if level != budget.RuleOff && level != budget.RuleWarn && level != budget.RuleFail {
				t.Errorf("rule %s has the level %q", rule, level)
			}
		}
	})
}
